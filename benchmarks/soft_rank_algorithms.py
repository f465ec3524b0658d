"""Time ways to find the blocks of the soft rank, given sorted values: what docs/soft_rank.md chose from.

    python benchmarks/soft_rank_algorithms.py               # about a minute, on one thread
    python benchmarks/soft_rank_algorithms.py --compile     # also torch.compile, which needs a C++ compiler

All are checked against each other first. numba is timed where it can be imported. Milliseconds of CPU time,
which other work on the machine disturbs least; medians of rounds in which every contender runs once, in an
order drawn anew.
"""

import argparse
import random
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from scipy.optimize import isotonic_regression
from torch import Tensor

from corrloss.ranks import _merge_halves

try:
    import numba
except ImportError:
    numba = None


def scipys(loads: np.ndarray) -> np.ndarray:
    """What corrloss does on the CPU."""
    return isotonic_regression(loads).blocks[:-1]


def merge_halves(loads: np.ndarray) -> np.ndarray:
    """What corrloss does where it must not look at a value."""
    return changes(_merge_halves(torch.from_numpy(loads)[None])[0])


def strike_out(loads: np.ndarray) -> np.ndarray:
    """Vectorised: strike out every cumulative sum that lies above the chord of its neighbours; repeat."""
    height = np.concatenate(([0.0], np.cumsum(loads)))
    kept = np.arange(len(height))
    while True:
        slope = np.diff(height[kept]) / np.diff(kept)
        convex = np.concatenate(([True], slope[1:] > slope[:-1], [True]))
        if convex.all():
            return kept[:-1]
        kept = kept[convex]


def python_lists(loads: np.ndarray) -> np.ndarray:
    """Pool adjacent violators one by one."""
    blocks = []
    for first, total in enumerate(loads.tolist()):
        size = 1
        while blocks and blocks[-1][1] * size >= total * blocks[-1][2]:
            first, more, also = blocks.pop()
            total, size = total + more, size + also
        blocks.append((first, total, size))
    return np.array([first for first, _, _ in blocks])


def for_numba(loads: np.ndarray) -> np.ndarray:
    """The same on arrays."""
    first, size = np.empty(len(loads), np.int64), np.empty(len(loads), np.int64)
    total = np.empty(len(loads))
    top = -1
    for i in range(len(loads)):
        top += 1
        first[top], total[top], size[top] = i, loads[i], 1
        while top > 0 and total[top - 1] * size[top] >= total[top] * size[top - 1]:
            total[top - 1] += total[top]
            size[top - 1] += size[top]
            top -= 1
    return first[: top + 1]


def all_pairs(loads: np.ndarray) -> np.ndarray:
    """By the formula: over left ends the largest, over right ends the smallest, mean of what lies between."""
    height = torch.from_numpy(np.concatenate(([0.0], np.cumsum(loads))))
    left, right = torch.arange(len(loads))[:, None], torch.arange(1, len(loads) + 1)[None]
    mean = (height[right] - height[left]) / (right - left)
    least = mean.masked_fill(right <= left, torch.inf).flip(1).cummin(1).values.flip(1)
    return changes(least.masked_fill(right <= left, -torch.inf).amax(0))


def changes(fit: Tensor) -> np.ndarray:
    """The first place of each run of equal values, up to rounding."""
    steps = fit.diff() > 1e-13 * fit.abs().max()
    return np.concatenate(([0], steps.nonzero().view(-1).numpy() + 1))


Contenders = dict[str, Callable[[np.ndarray], np.ndarray]]
CONTENDERS: Contenders = {
    "SciPy": scipys,
    "merge halves": merge_halves,
    "strike out": strike_out,
    "Python": python_lists,
    "all pairs": all_pairs,
}
LARGEST = {"all pairs": 1000}


def loads_of(kind: str, n: int, strength: float) -> np.ndarray:
    """Sorted scores less ``strength * i``: uniform, or crowded at both ends and many of them one."""
    random_numbers = np.random.default_rng(n)
    scores = random_numbers.random(n)
    if kind == "saturated":
        scores = 1 / (1 + np.exp(-8 * random_numbers.standard_normal(n)))
        scores[scores > 0.9] = 1.0
    loads = np.sort(scores) - strength * np.arange(n)
    return loads - loads.mean()


def check(contenders: Contenders) -> None:
    """All find the same blocks."""
    for kind in ("uniform", "saturated"):
        for strength in (0.1, 0.01, 1e-3, 1e-4):
            loads = loads_of(kind, 300, strength)
            for name, find in contenders.items():
                assert np.array_equal(find(loads), python_lists(loads)), (name, kind, strength)


def time_all(loads: np.ndarray, contenders: Contenders, seconds: float) -> dict[str, float]:
    """Median milliseconds of each; one that takes long runs three times."""
    names = [name for name in contenders if len(loads) <= LARGEST.get(name, len(loads))]
    times = {name: [] for name in names}
    end = time.perf_counter() + seconds
    rounds = 0
    while time.perf_counter() < end or rounds < 3:
        random.shuffle(names)
        for name in names:
            if rounds < 3 or times[name][0] < seconds / 20:
                begin = time.process_time()
                contenders[name](loads)
                times[name].append(time.process_time() - begin)
        rounds += 1
    return {name: 1e3 * statistics.median(each) for name, each in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[100, 1000, 10_000, 100_000])
    parser.add_argument("--seconds", type=float, default=2.0, help="for each line of the table")
    parser.add_argument("--compile", action="store_true", help="also torch.compile of merging halves")
    args = parser.parse_args()
    random.seed(0)
    torch.set_num_threads(1)
    contenders = dict(CONTENDERS)
    if numba:
        contenders["numba"] = numba.njit(for_numba)
    if args.compile:
        compiled = torch.compile(_merge_halves, dynamic=False)
        contenders["compiled"] = lambda loads: changes(compiled(torch.from_numpy(loads)[None])[0])
    check(contenders)
    print("Milliseconds of CPU time to find the blocks of n sorted scores, one thread")
    print(f"{'scores':>10}{'n':>8}{'strength':>10}" + "".join(f"{name:>14}" for name in contenders))
    for kind in ("uniform", "saturated"):
        for n in args.sizes:
            for strength in (0.05 / n, 1 / n, 0.1):
                times = time_all(loads_of(kind, n, strength), contenders, args.seconds)
                cells = (f"{times[name]:14.3f}" if name in times else f"{'-':>14}" for name in contenders)
                print(f"{kind:>10}{n:>8}{strength:>10.0e}" + "".join(cells), flush=True)


if __name__ == "__main__":
    main()
