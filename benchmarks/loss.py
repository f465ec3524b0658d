"""Time value and gradient of the coefficients, side by side in one process: ours, torchsort, naive PyTorch.

    python benchmarks/loss.py                      # all sizes, one thread and two: about five minutes
    python benchmarks/loss.py --sizes 10 1000 --threads 1
    python benchmarks/loss.py --device cuda        # on a GPU

Every contender runs once in each round, in an order drawn anew, and the median of its rounds is shown, in
microseconds: of CPU time with one thread, which other work on the machine disturbs least, of wall time with
more; on a GPU of wall time until the GPU has finished. torchsort is timed where it can be imported;
docs/soft_rank.md says how to build it.
"""

import argparse
import random
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from corrloss import CorrelationLoss, concordance, pearson, soft_rank, spearman, spearman_exact

try:
    import torchsort
except ImportError:
    torchsort = None

Contenders = dict[str, Callable[[], Tensor]]


def four_reductions(s: Tensor, u: Tensor) -> tuple[Tensor, ...]:
    """What Pearson's and Lin's coefficient need at least, with a gradient for the scores."""
    return s.mean(), u.mean(), torch.dot(s, s), torch.dot(s, u)


class _EmptyNode(torch.autograd.Function):
    """What any function with a gradient of its own costs before it computes anything."""

    @staticmethod
    def forward(ctx, s: Tensor, u: Tensor) -> Tensor:
        ctx.save_for_backward(s, u)
        return s.new_ones(())

    @staticmethod
    def backward(ctx, grad: Tensor):
        s, _ = ctx.saved_tensors
        return s, None


def naive_pearson(s: Tensor, u: Tensor) -> Tensor:
    """By the textbook, along the last dimension."""
    s, u = s - s.mean(-1, keepdim=True), u - u.mean(-1, keepdim=True)
    return (s * u).sum(-1) / (s.norm(dim=-1) * u.norm(dim=-1))


def naive_concordance(s: Tensor, u: Tensor) -> Tensor:
    """By the textbook, with unbiased moments."""
    mean_s, mean_u = s.mean(), u.mean()
    covariance = ((s - mean_s) * (u - mean_u)).sum() / (len(s) - 1)
    return 2 * covariance / (s.var() + u.var() + (mean_s - mean_u) ** 2)


def torchsort_spearman(s: Tensor, u: Tensor, strength: float) -> Tensor:
    """Pearson's correlation of torchsort's soft ranks, along the last dimension: as in the release."""
    s, u = (torchsort.soft_rank(each, regularization_strength=strength) for each in (s, u))
    return naive_pearson(s, u)


def of_one_batch(n: int, device: str) -> Contenders:
    """Coefficients of one batch of n positives."""
    s, u = torch.rand(n, device=device, requires_grad=True), torch.rand(n, device=device)
    true = 0.05 / n
    contenders = {
        "empty node": lambda: _EmptyNode.apply(s, u),
        "four reductions": lambda: four_reductions(s, u),
        "naive pearson": lambda: naive_pearson(s, u),
        "pearson": lambda: pearson(s, u),
        "naive concordance": lambda: naive_concordance(s, u),
        "concordance": lambda: concordance(s, u),
        "as released": lambda: spearman(s, u),
        "true ranks": lambda: spearman(s, u, strength=true),
        "exact ranks": lambda: spearman_exact(s, u),
    }
    if torchsort:
        contenders["torchsort as released"] = lambda: torchsort_spearman(s[None], u[None], 1.0)
        contenders["torchsort true ranks"] = lambda: torchsort_spearman(s[None], u[None], true)
    return {name: gradient_of(each, s) for name, each in contenders.items()}


def of_images(n: int, images: int, device: str) -> Contenders:
    """Soft ranks, and the loss per image, of a batch of images with n positives each."""
    s, u = torch.rand(images, n, device=device, requires_grad=True), torch.rand(images, n, device=device)
    image = torch.arange(images, device=device).repeat_interleave(n)
    true = 0.05 / n
    losses = {
        strength: CorrelationLoss(weight=1.0, scope="image", strength=strength) for strength in (1, true)
    }
    contenders = {
        "soft ranks": lambda: (soft_rank(s, true) * u).sum(),
        "naive pearson": lambda: naive_pearson(s, u).mean(),
        "as released": lambda: losses[1](s.view(-1), u.view(-1), image=image),
        "true ranks": lambda: losses[true](s.view(-1), u.view(-1), image=image),
    }
    if torchsort:
        contenders |= {
            "torchsort soft ranks": lambda: (torchsort.soft_rank(s, regularization_strength=true) * u).sum(),
            "torchsort as released": lambda: torchsort_spearman(s, u, 1.0).mean(),
            "torchsort true ranks": lambda: torchsort_spearman(s, u, true).mean(),
        }
    return {name: gradient_of(each, s) for name, each in contenders.items()}


def gradient_of(value: Callable[[], Tensor], s: Tensor) -> Callable[[], None]:
    """A function that takes the value and its gradient."""

    def run() -> None:
        values = value()
        values = [each for each in (values if isinstance(values, tuple) else (values,)) if each.requires_grad]
        torch.autograd.grad(values, s)

    return run


def clock_of(device: str) -> Callable[[], float]:
    """Seconds: of this process on one thread, else of the wall; on a GPU when it has finished."""
    if device == "cpu":
        return time.process_time if torch.get_num_threads() == 1 else time.perf_counter

    def clock() -> float:
        torch.cuda.synchronize()
        return time.perf_counter()

    return clock


def time_all(contenders: Contenders, seconds: float, device: str) -> dict[str, float]:
    """Median microseconds of each contender; rounds go on for about so many seconds."""
    clock = clock_of(device)
    times = {name: [] for name in contenders}
    names = list(contenders)
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times[names[0]]) < 7:
        random.shuffle(names)
        for name in names:
            begin = clock()
            contenders[name]()
            times[name].append(clock() - begin)
    return {name: 1e6 * statistics.median(each[2:]) for name, each in times.items()}


# Column, and what its figure is divided by: the ratio is printed below the table's own figures.
ONE_BATCH = {
    "empty node": None,
    "naive pearson": None,
    "pearson": "four reductions",
    "naive concordance": None,
    "concordance": "four reductions",
    "torchsort as released": "as released",
    "as released": None,
    "torchsort true ranks": "true ranks",
    "true ranks": None,
    "exact ranks": None,
}
IMAGES = {
    "torchsort soft ranks": "soft ranks",
    "soft ranks": None,
    "naive pearson": None,
    "torchsort as released": "as released",
    "as released": None,
    "torchsort true ranks": "true ranks",
    "true ranks": None,
}


def show(title: str, columns: dict[str, str | None], rows: dict[int, dict[str, float]]) -> None:
    """Print one table: a row for each size, ratios in brackets."""
    columns = {name: by for name, by in columns.items() if any(name in row for row in rows.values())}
    print(f"\n{title}")
    for name, by in columns.items():
        if by:
            print(f"  [{name}: times {by}]")
    widths = {name: max(len(name), 16) for name in columns}
    first = next(iter(rows.values()))
    lead = ["four reductions"] if "four reductions" in first else []
    print("      n  " + "  ".join(f"{name:>{widths.get(name, 16)}}" for name in [*lead, *columns]))
    for n, row in rows.items():
        cells = [f"{row[name]:>16,.0f}" for name in lead]
        for name, by in columns.items():
            cell = f"{row[name]:,.0f}" + (f" [{row[name] / row[by]:.2f}]" if by else "")
            cells.append(f"{cell:>{widths[name]}}")
        print(f"{n:>7}  " + "  ".join(cells), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10, 100, 1000, 10_000, 100_000])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=6.0, help="for each line of a table")
    args = parser.parse_args()
    random.seed(0)
    torch.manual_seed(0)
    if torchsort is None:
        print("torchsort cannot be imported and is left out: docs/soft_rank.md says how to build it.")
    where = torch.cuda.get_device_name() if args.device == "cuda" else "CPU"
    print(f"torch {torch.__version__}, {where}; microseconds of value and gradient, float32, medians")
    for threads in args.threads if args.device == "cpu" else [1]:
        torch.set_num_threads(threads)
        plural = "thread" if threads == 1 else "threads"
        rows = {n: time_all(of_one_batch(n, args.device), args.seconds, args.device) for n in args.sizes}
        show(f"One batch of n positives, {threads} {plural}", ONE_BATCH, rows)
        rows = {
            n: time_all(of_images(n, args.images, args.device), args.seconds, args.device) for n in args.sizes
        }
        show(f"{args.images} images of n positives each, {threads} {plural}", IMAGES, rows)


if __name__ == "__main__":
    main()
