"""The uncertainty of a table's deltas, from the bootstrap replicates that each run keeps."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

from corrloss.analysis.differences import Interval, paired_difference
from corrloss.analysis.replicates import Replicates
from corrloss.plan.runs import Run

Intervals = Callable[[list[Run], str], Interval | None]


def stored_intervals(results: Path) -> Intervals:
    """Return a function from the runs of one variant and a headline metric to the interval of their delta.

    The runs are compared with their baselines seed by seed, on the same resamples of the images.

    Args:
        results: Folder of all results.

    Returns:
        The function; it returns None where a run or its baseline kept no replicates.
    """

    load = cache(Replicates.load)  # a baseline is in many pairs

    def interval(runs: list[Run], metric: str) -> Interval | None:
        kind = "segm" if metric.startswith("mask_") else "bbox"
        pairs = [tuple(r.folder(results).replicates(kind) for r in (run.baseline, run)) for run in runs]
        if not pairs or not all(path.exists() for pair in pairs for path in pair):
            return None
        baselines, others = ([load(path) for path in side] for side in zip(*pairs, strict=True))
        return paired_difference(baselines, others)[metric.removeprefix("mask_")]

    return interval
