"""What tables say, counted, in a few sentences."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import pandas as pd

from corrloss.plan.runs import Run
from corrloss.plan.table_files import Table
from corrloss.tables.pooled_rows import POOLED, is_comparison

METRICS = {"rho_img": "ρ_img", "rho_cls": "ρ_cls", "AP": "AP of boxes"}


def reading(plans: Iterable[Table], runs: pd.DataFrame, tables: Mapping[str, pd.DataFrame]) -> str:
    """In how many runs the loss raised the correlations and AP, and how many intervals of the gain exclude 0.

    Args:
        plans: Tables to count.
        runs: From `corrloss.tables.records.read_runs`.
        tables: The made tables by name, from `corrloss.tables.show.read_table`.

    Returns:
        The sentences; empty where no run of the tables has an AP and a baseline's.
    """
    plans = [plan for plan in plans if plan.name in tables]
    with_loss = dict.fromkeys(run for plan in plans for run in plan.runs if run.has_loss)
    gains = {name: list(_gains(with_loss, runs, metric)) for metric, name in METRICS.items()}
    if not gains[METRICS["AP"]]:
        return ""
    rose = [
        f"{name} in {sum(gain > 0 for gain in known)} of {len(known)}"
        for name, known in gains.items()
        if known
    ]
    text = f"Runs with the loss that are higher than their baseline of the same seed: {', '.join(rose)}."
    intervals = pd.concat(_intervals(tables[plan.name]) for plan in plans).dropna()
    above, below = (intervals["low"] > 0).sum(), (intervals["high"] < 0).sum()
    if len(intervals):
        text += (
            f" Of the {len(intervals)} intervals of 95% of the difference in AP, {above} are above 0 and "
            f"{below} below."
        )
    return text


def mean_gains(table: pd.DataFrame) -> str:
    """The rows of a table that are means over detectors, in one sentence; empty where there are none.

    Args:
        table: Of boxes, from `corrloss.tables.show.read_table`; ρ is told where the table has it.
    """
    rows = table[table["detector"].str.startswith(POOLED)]
    if rows.empty:
        return ""
    columns = {"rho_img": "_rho_img", "rho_cls": "_rho_cls", "AP": ""}
    parts = [
        f"{METRICS[name]} "
        + ", ".join(
            f"{row[f'delta_{name}']:+.1f} ({row[f'ci_low{end}']:+.1f} to {row[f'ci_high{end}']:+.1f}) with "
            f"{row['coefficient']}"
            for _, row in rows.iterrows()
        )
        for name, end in columns.items()
        if f"ci_low{end}" in table
    ]
    detectors, seeds = rows["detector"].iloc[0].removeprefix(POOLED), int(rows["n_seeds"].min())
    return (
        f"Mean gain over {detectors} detectors, {seeds} seed{'s' * (seeds > 1)} of each, and its interval of "
        f"95% over images, seeds and detectors: {'; '.join(parts)}."
    )


def _gains(with_loss: Iterable[Run], runs: pd.DataFrame, metric: str) -> Iterator[float]:
    """Yield the difference to the baseline of each run for which both figures are known."""
    if metric in runs:
        known = runs.set_index("run")[metric].dropna()
        for run in with_loss:
            if run.name in known.index and run.baseline.name in known.index:
                yield known[run.name] - known[run.baseline.name]


def _intervals(table: pd.DataFrame) -> pd.DataFrame:
    """Lower and upper ends of the intervals of the difference in AP of boxes, by row of the table."""
    ends = ["ci_low_AP", "ci_high_AP"] if "ci_low_AP" in table else ["ci_low", "ci_high"]
    rows = table.loc[is_comparison(table), ends]
    return rows.set_axis(["low", "high"], axis="columns").apply(pd.to_numeric, errors="coerce")
