"""Time and memory of the ranking losses, value and gradient, on one core.

    python benchmarks/ranking.py [--repeats 7]
    python benchmarks/ranking.py --alrp-order

First table: the default form at growing sizes, median time and peak memory over that of the inputs.
Second table: the default form beside all pairs, interleaved in one process, and their ratio. Times are CPU
times of one thread, which other processes affect least. The memory figure needs Linux (/proc).

``--alrp-order`` compares the localisation component of aLRP Loss in the smooth order (the paper's equation)
and in the hard order (its released code): value and gradient, by the spread of the logits.
"""

import argparse
import multiprocessing
import re
import statistics
import time
from pathlib import Path

import torch

from corrloss.ranking.alrp_loss import alrp_loss
from corrloss.ranking.ap_loss import ap_loss
from corrloss.ranking.rank_sort_loss import rank_sort_loss

SIZES = [(10_000, 50), (100_000, 500), (1_000_000, 500), (1_000_000, 5000)]
PAIRWISE_SIZES = [(1_000, 20), (10_000, 50), (100_000, 100)]  # 80 MB a matrix at the last
LOSSES = {
    "AP": lambda logits, ious, errors, form: ap_loss(logits, ious, form=form),
    "aLRP": lambda logits, ious, errors, form: sum(alrp_loss(logits, ious, errors, form=form)),
    "Rank & Sort": lambda logits, ious, errors, form: sum(rank_sort_loss(logits, ious, form=form)),
}


def make_batch(
    number: int, positives: int, separated: bool
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits, IoUs and localisation errors; separated as after training, else all from one bell curve."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(number, generator=generator)
    where = torch.randperm(number, generator=generator)[:positives]
    if separated:
        logits = 1.5 * logits - 5
        logits[where] += 5
    ious = torch.zeros(number).index_fill_(0, where, 1)
    ious[where] = torch.rand(positives, generator=generator).clamp(min=0.01)
    return logits.requires_grad_(), ious, torch.rand(positives, generator=generator)


def seconds(loss: str, batch: tuple, form: str) -> float:
    """CPU time of one value and gradient."""
    start = time.process_time()
    torch.autograd.grad(LOSSES[loss](*batch, form), batch[0])
    return time.process_time() - start


def peak_megabytes(loss: str, number: int, positives: int) -> float:
    """Peak resident memory of one value and gradient over what was resident before.

    Only the first one in a process tells: the allocator keeps what it was given.
    """
    torch.set_num_threads(1)
    seconds(loss, make_batch(1000, 10, separated=False), "bucketed")  # lazy initialisation is not counted
    batch = make_batch(number, positives, separated=False)
    before = resident_megabytes("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # resets the high-water mark
    seconds(loss, batch, "bucketed")
    return resident_megabytes("VmHWM") - before


def resident_megabytes(field: str) -> float:
    """Read a field of /proc/self/status."""
    return int(re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text()).group(1)) / 1024


def interleaved(loss: str, batch: tuple, forms: list[str], repeats: int) -> list[float]:
    """Median time of each form, the forms taking turns."""
    for form in forms:
        seconds(loss, batch, form)
    times = [[seconds(loss, batch, form) for form in forms] for _ in range(repeats)]
    return [statistics.median(column) for column in zip(*times, strict=True)]


def print_sizes(repeats: int) -> None:
    fresh = multiprocessing.get_context("spawn")
    print("| loss | logits | positives | untrained, ms | trained, ms | peak memory, MB |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for number, positives in SIZES:
        batches = [make_batch(number, positives, separated) for separated in (False, True)]
        for loss in LOSSES:
            times = [1000 * interleaved(loss, batch, ["bucketed"], repeats)[0] for batch in batches]
            with fresh.Pool(1) as pool:
                memory = pool.apply(peak_megabytes, (loss, number, positives))
            columns = f"{times[0]:.1f} | {times[1]:.1f} | {memory:.0f}"
            print(f"| {loss} | {number:,} | {positives:,} | {columns} |", flush=True)


def print_ratios(repeats: int) -> None:
    print("| loss | logits | positives | bucketed, ms | pairwise, ms | pairwise / bucketed |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for number, positives in PAIRWISE_SIZES:
        batch = make_batch(number, positives, separated=False)
        for loss in LOSSES:
            ours, plain = interleaved(loss, batch, ["bucketed", "pairwise"], repeats)
            columns = f"{1000 * ours:.2f} | {1000 * plain:.2f} | {plain / ours:.1f}"
            print(f"| {loss} | {number:,} | {positives:,} | {columns} |", flush=True)


def print_alrp_orders() -> None:
    """Localisation component in both orders: 20,000 logits, 200 positives, float64, delta 1.

    The difference of the gradients is the norm of the difference over the norm of the smooth one.
    """
    print("| standard deviation of the logits | smooth | hard | difference of the gradients |")
    print("| ---: | ---: | ---: | ---: |")
    for spread in (0.01, 0.1, 1.0, 10.0):
        logits, ious, errors = (part.detach().double() for part in make_batch(20_000, 200, separated=False))
        errors.requires_grad_()
        values, gradients = [], []
        for order in ("smooth", "hard"):
            value = alrp_loss(spread * logits, ious, errors, localisation_order=order).localisation
            values.append(value.item())
            gradients.append(torch.autograd.grad(value, errors)[0])
        apart = (gradients[1] - gradients[0]).norm() / gradients[0].norm()
        print(f"| {spread:g} | {values[0]:.4f} | {values[1]:.4f} | {apart:.0%} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--alrp-order", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.alrp_order:
        print_alrp_orders()
        return
    print_sizes(arguments.repeats)
    print()
    print_ratios(arguments.repeats)


if __name__ == "__main__":
    main()
