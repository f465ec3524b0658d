"""The uncertainty of a table's differences, from the bootstrap replicates that each run keeps."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

from corrloss.analysis.differences import Interval, paired_difference
from corrloss.analysis.replicates import METRICS, Replicates, ReplicatesError
from corrloss.plan.runs import Run

Intervals = Callable[[list[Run], str], Interval | None]


def stored_intervals(results: Path, measured: pd.DataFrame) -> Intervals:
    """Return a function from the runs of one variant and a metric to the interval of its difference.

    The runs are compared with their baselines seed by seed, on the same resamples of the images.

    Args:
        results: Folder of all results.
        measured: ``runs.csv``; replicates must have the identity and the AP of its rows.

    Returns:
        The function; it returns None where a run or its baseline kept no replicates, and raises a
        ReplicatesError where they are not those of the run's record.
    """
    rows = measured.set_index("run")

    @cache  # a baseline is in many pairs
    def load(run: Run, kind: str) -> Replicates:
        path = run.folder(results).replicates(kind)
        replicates, row = Replicates.load(path), rows.loc[run.name]
        prefix = "mask_" if kind == "segm" else ""
        recorded = np.array([row.get(f"{prefix}{name}", np.nan) for name in METRICS], dtype=float)
        known = ~np.isnan(recorded)
        if replicates.identity != row["identity"] or not np.allclose(
            replicates.estimate[known], recorded[known], rtol=0, atol=1e-3
        ):
            raise ReplicatesError(
                f"{path}: expected replicates of identity {row['identity']} with AP {recorded[0]:g}, found "
                f"{replicates.identity!r} with AP {replicates.estimate[0]:g}; delete the file and "
                "record.json beside it, and run snakemake again"
            )
        return replicates

    @cache
    def differences(runs: tuple[Run, ...], kind: str) -> dict[str, Interval]:
        pairs = [(run.baseline, run) for run in runs]
        if not pairs or not all(r.folder(results).replicates(kind).exists() for pair in pairs for r in pair):
            return {}
        return paired_difference(*([load(run, kind) for run in side] for side in zip(*pairs, strict=True)))

    def interval(runs: list[Run], metric: str) -> Interval | None:
        kind = "segm" if metric.startswith("mask_") else "bbox"
        return differences(tuple(runs), kind).get(metric.removeprefix("mask_"))

    return interval
