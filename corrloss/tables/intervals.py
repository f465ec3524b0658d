"""The uncertainty of a table's differences, from the bootstrap replicates that each run keeps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from itertools import groupby
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pandas as pd

from corrloss.analysis.differences import Interval, paired_difference, seeds_needed
from corrloss.analysis.gain_parts import HYBRIDS
from corrloss.analysis.pooled import Pooled, pooled_difference
from corrloss.analysis.replicates import METRICS, Replicates, ReplicatesError, of_control, with_ap
from corrloss.plan.runs import Run

Intervals = Callable[[list[Run], str], Interval | Pooled | None]
# AP of one model's boxes in another's order on the data and on each resample, by run and part of the gain.
Replicated = Mapping[tuple[str, str], np.ndarray]
# What a 95% interval is over: with one seed it says nothing about the method.
ONE_PAIR = "images, this pair only"
SEVERAL_PAIRS = "images and seeds"
DETECTORS = "images, seeds and detectors"
MARK = "†"  # of an interval over detectors among others, where its words would be too long


def uncertainty(gain: Interval | Pooled | None) -> dict[str, float | str | None]:
    """Return the columns of a table about the uncertainty of a difference; None or empty where unknown."""
    names = ("ci_low", "ci_high", "se_images", "se_seeds", "p_value", "p_holm", "interval_over", "n_images")
    known = {name: getattr(gain, name, None) for name in names}
    several = isinstance(gain, Interval) and gain.n_seeds > 1
    needed = seeds_needed(gain) if several else None
    over = "" if gain is None else DETECTORS if isinstance(gain, Pooled) else ONE_PAIR
    return known | {"interval_over": SEVERAL_PAIRS if several else over, "seeds_for_1_AP": needed}


def stored_intervals(
    results: Path, measured: pd.DataFrame, parts: Replicated = MappingProxyType({})
) -> Intervals:
    """Return a function from the runs of one variant and a metric to the interval of its difference.

    The runs are compared with their baselines seed by seed, on the same resamples of the images. The
    differences of several detectors are pooled. Baselines themselves are compared with what isotonic
    regression makes of them.

    Args:
        results: Folder of all results.
        measured: ``runs.csv``; replicates must have the identity and the AP of its rows.
        parts: From `corrloss.tables.pairs.with_parts`.

    Returns:
        The function; runs of a detector are in sequence. It returns None where a run or its baseline kept no
        replicates, and raises a ReplicatesError where they are not those of the run's record.
    """
    rows = measured.set_index("run")

    @cache  # a baseline is in many pairs
    def load(run: Run, kind: str) -> Replicates:
        return _load_recorded(run.folder(results).replicates(kind), rows.loc[run.name], kind)

    def other(run: Run, kind: str, part: str) -> Replicates:
        return with_ap(load(run, kind), parts[run.name, part]) if part else load(run, kind)

    @cache
    def differences(runs: tuple[Run, ...], kind: str, part: str) -> dict[str, Interval] | dict[str, Pooled]:
        pairs = [(run.baseline, run) for run in runs]
        if not pairs or not all(r.folder(results).replicates(kind).exists() for pair in pairs for r in pair):
            return {}
        if runs[0].is_baseline:
            own = [load(run, kind) for run in runs]
            return paired_difference(own, [of_control(run) for run in own])
        sides = {}
        for detector, of_detector in groupby(runs, key=lambda run: run.detector):
            own = list(of_detector)
            baselines = [load(run.baseline, kind) for run in own]
            sides[detector] = baselines, [other(run, kind, part) for run in own]
        return pooled_difference(sides) if len(sides) > 1 else paired_difference(*sides[runs[0].detector])

    def interval(runs: list[Run], metric: str) -> Interval | Pooled | None:
        kind = "segm" if metric.startswith("mask_") else "bbox"
        if metric in HYBRIDS:
            known = all((run.name, metric) in parts for run in runs)
            return differences(tuple(runs), kind, metric).get("AP") if known else None
        return differences(tuple(runs), kind, "").get(metric.removeprefix("mask_"))

    return interval


def _load_recorded(path: Path, row: pd.Series, kind: str) -> Replicates:
    """Replicates of a run.

    Args:
        path: Their file.
        row: The run's row of ``runs.csv``.
        kind: ``bbox`` or ``segm``.

    Raises:
        ReplicatesError: The file is unusable, or has another identity or AP than the row.
    """
    replicates, prefix = Replicates.load(path), "mask_" if kind == "segm" else ""
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
