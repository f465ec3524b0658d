"""Rows of a table that are the mean gain of a coefficient over its detectors."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from corrloss.analysis.pooled import MIN_DETECTORS
from corrloss.plan.runs import BASELINE, PUBLISHED, Run
from corrloss.tables.intervals import Intervals, uncertainty

POOLED = "mean of "  # first words of the detector's cell; the name of a detector has no space
CONTROL = "isotonic"  # in the column `coefficient`: the baseline after isotonic regression, no run of its own


def is_comparison(frame: pd.DataFrame) -> pd.Series:
    """Whether a row of a table compares one detector with its baseline, bool.

    Args:
        frame: From `corrloss.tables.build.build_table` or `corrloss.tables.show.read_table`.
    """
    pooled = frame["detector"].astype(str).str.startswith(POOLED)
    return ~pooled & ~frame["coefficient"].isin([BASELINE, PUBLISHED, CONTROL])


def pooled_rows(rows: list[tuple[dict, list[Run]]], headline: str, interval: Intervals) -> Iterator[dict]:
    """Yield the mean gain over detectors of each coefficient that has one row of each of several detectors.

    Args:
        rows: Rows of a table with their runs that are compared with a baseline.
        headline: The metric of the first difference.
        interval: From `corrloss.tables.intervals.stored_intervals`.
    """
    groups: dict[tuple, list[tuple[dict, list[Run]]]] = {}
    for row, compared in rows:
        if compared and compared[0].has_loss:
            groups.setdefault((compared[0].coefficient, compared[0].options), []).append((row, compared))
    for (coefficient, options), group in groups.items():
        detectors = {row["detector"] for row, _ in group}
        if len(group) == len(detectors) >= MIN_DETECTORS:
            runs = [run for _, compared in group for run in compared]
            own = [row for row, _ in group]
            empty = {name: "" for name, cell in own[0].items() if isinstance(cell, str)}
            yield {
                **dict.fromkeys(own[0]),
                **empty,
                "detector": f"{POOLED}{len(group)}",
                "coefficient": coefficient,
                **dict(options),
                **_means(own),
                **uncertainty(interval(runs, headline)),
                **_intervals(own[0], runs, interval),
                "n_seeds": min(row["n_seeds"] for row in own),
            }


def _means(rows: list[dict]) -> dict[str, float]:
    names = [name for name in rows[0] if name.startswith("delta_")]
    known = {name: [row[name] for row in rows] for name in names}
    return {name: sum(cells) / len(cells) for name, cells in known.items() if None not in cells}


def _intervals(row: dict, runs: list[Run], interval: Intervals) -> dict[str, float | None]:
    names = [name.removeprefix("ci_low_") for name in row if name.startswith("ci_low_")]
    known = {name: interval(runs, name) for name in names}
    return {
        f"{end}_{name}": getattr(known[name], end, None) for name in names for end in ("ci_low", "ci_high")
    }
