"""Finished runs against reference results: the same figures, within what seeds differ by, or outside."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import t

from corrloss.plan.runs import OPTION_NAMES
from corrloss.tables.records import IDENTITY, NOTES, TAIL, TEXT, read_runs

IDENTICAL, WITHIN, OUTSIDE, ALONE = "identical", "within", "outside", "only here"
JUDGED = ("AP", "mask_AP", "rho_img", "rho_cls")
#: Standard deviation over seeds, in points, where the reference has one seed; declared, not measured.
SPREAD = 1.0
MIN_VARIANTS = 3  # with several seeds, for the reference's own spread
CONFIDENCE = 0.99  # of all figures that are compared together


def compare(runs: pd.DataFrame, reference: pd.DataFrame) -> pd.DataFrame:
    """Compare each run with the run of the same name in the reference.

    A figure is within what seeds differ by up to q·√2·s: s is its standard deviation over seeds, pooled over
    the variants of the detector of which the reference has several seeds, over those of all detectors where
    fewer than `MIN_VARIANTS` are of this one, or `SPREAD` where fewer are there at all; q is the two-sided
    quantile of Student's t with the degrees of freedom of s (infinitely many for `SPREAD`). By its level,
    none of all figures is outside with `CONFIDENCE` (Bonferroni's inequality): of 24 runs with four figures
    each, one would otherwise be outside by chance. Another machine or version of a library changes the last
    bits of a training, and a short training ends then as with another seed.

    Args:
        runs: From `corrloss.tables.records.read_runs`.
        reference: The same of the reference.

    Returns:
        One row a run: ``run, result`` (`IDENTICAL` in every figure, `WITHIN`, `OUTSIDE`, or `ALONE` if the
        reference has no such run), ``metric`` of `JUDGED` with the largest difference in units of its limit,
        ``difference`` and ``limit`` in points, ``environment``, what differs of it.
    """
    known = reference.set_index("run")
    judged = [name for name in JUDGED if name in reference]
    level = 1 - (1 - CONFIDENCE) / max(1, len(judged) * runs["run"].isin(known.index).sum())
    limits = {
        detector: {name: _limit(reference, name, detector, level) for name in judged}
        for detector in runs["detector"].unique()
    }
    figures = [
        name for name in runs if name in known and name not in TEXT and name not in (*IDENTITY, *TAIL, *NOTES)
    ]
    return pd.DataFrame([_row(run, known, limits[run["detector"]], figures) for _, run in runs.iterrows()])


def _row(run: pd.Series, known: pd.DataFrame, limits: dict[str, float], figures: list[str]) -> dict:
    row = {"run": run["run"], "result": ALONE, "metric": "", "difference": np.nan, "limit": np.nan}
    if run["run"] not in known.index:
        return row | {"environment": ""}
    other = known.loc[run["run"]]
    row["environment"] = _differing(run.get("environment"), other.get("environment"))
    if run[figures].astype(float).equals(other[figures].astype(float)):
        return row | {"result": IDENTICAL}
    differences = {name: run[name] - other[name] for name in limits if name in figures}
    differences = {name: value for name, value in differences.items() if not np.isnan(value)}
    name = max(differences, key=lambda name: abs(differences[name]) / limits[name])
    result = WITHIN if abs(differences[name]) <= limits[name] else OUTSIDE
    return row | {"result": result, "metric": name, "difference": differences[name], "limit": limits[name]}


def _limit(reference: pd.DataFrame, name: str, detector: str, level: float) -> float:
    variant = [column for column in (*IDENTITY, *OPTION_NAMES) if column not in ("run", "seed")]
    groups = reference.groupby([column for column in variant if column in reference], dropna=False)[name]
    variances = groups.var(ddof=1)[groups.count() > 1].dropna()
    own = variances[variances.index.get_level_values("detector") == detector]
    pooled = own if len(own) >= MIN_VARIANTS else variances
    spread, freedom = SPREAD, np.inf
    if len(pooled) >= MIN_VARIANTS and pooled.mean() > 0:
        spread, freedom = np.sqrt(pooled.mean()), (groups.count()[pooled.index] - 1).sum()
    return float(t.ppf((1 + level) / 2, freedom) * np.sqrt(2) * spread)


def _differing(one: object, other: object) -> str:
    parts = [set(text.split("; ")) if isinstance(text, str) else set() for text in (one, other)]
    here, there = (", ".join(sorted(part)) for part in (parts[0] - parts[1], parts[1] - parts[0]))
    return f"here {here or 'nothing'}; reference {there or 'nothing'}" if here or there else ""


def to_text(frame: pd.DataFrame, folder: Path) -> str:
    """Counts, and a line for each run that is not identical."""
    counts = frame["result"].value_counts()
    said = ", ".join(
        f"{counts[name]} {name}" for name in (IDENTICAL, WITHIN, OUTSIDE, ALONE) if name in counts
    )
    lines = [f"{len(frame)} runs against {folder}: {said}."]
    for row in frame.itertuples():
        if row.result in (WITHIN, OUTSIDE):
            size = f"{row.metric} {row.difference:+.1f} points (seeds: up to {row.limit:.1f})"
            lines.append(f"  {row.result}: {row.run}: {size}")
    lines += [f"  environment: {text}" for text in sorted(set(frame["environment"]) - {""})]
    return "\n".join(lines)


def compare_files(runs_csv: Path, reference_csv: Path) -> tuple[pd.DataFrame, str]:
    """Compare two ``runs.csv``; returns the frame of `compare`, and a text.

    Raises:
        RecordError: One of them is missing or damaged.
    """
    frame = compare(read_runs(runs_csv), read_runs(reference_csv))
    return frame, to_text(frame, reference_csv.parent)
