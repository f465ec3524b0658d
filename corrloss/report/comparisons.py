"""Each detector with the loss compared with the same detector without it, for the page's first figure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from statistics import fmean
from typing import NamedTuple

import pandas as pd

from corrloss.analysis.pooled import Pooled
from corrloss.plan.runs import BASELINE, OPTION_NAMES, SHARED_OPTIONS, Run, readable
from corrloss.report.results import FinishedRun, MadeTable, loss_label
from corrloss.tables.intervals import Intervals
from corrloss.tables.pooled_rows import is_comparison
from corrloss.tables.render import NOT_EVIDENCE

RHO = ("rho_img", "rho_cls")
ONE_PAIR = (
    "Every interval of one detector is over images and holds for this pair of trained models only: another "
    "seed gives another pair of models, so measuring the method takes several seeds."
)
SEVERAL_PAIRS = (
    "Solid intervals are over images and seeds; dashed ones are of one seed, over images, and hold for that "
    "pair of trained models only."
)


@dataclass(frozen=True)
class Comparison:
    """A detector trained with the loss, compared with its baseline; means over seeds, in points."""

    dataset: str
    detector: str
    coefficient: str
    weight: str  # λ, as text
    loss: str  # coefficient, weight and options
    metric: str  # AP or mask_AP
    headline: bool  # whether it is the metric that the table is about: masks where there are masks
    value: float  # the metric with the loss
    delta: float  # the metric minus that of the baseline
    interval: tuple[float, float] | None  # 95% interval of delta; over images alone where there is one seed
    n_seeds: int
    published: float | None  # the gain that the paper reports
    verdict: str  # how the table compares the two; empty where it does not
    rho: dict[str, tuple[float, float]] = field(default_factory=dict)  # of RHO: (baseline, with the loss)

    @property
    def name(self) -> str:
        """Detector and loss."""
        return f"{self.detector} · {self.loss}"


def compare(tables: list[MadeTable], runs: list[FinishedRun]) -> list[Comparison]:
    """One comparison a detector, coefficient and headline metric, those of one detector in sequence.

    They are in the order of the tables, masks before boxes. Rows without the loss, of another recipe than the
    baseline's, are left out. Of several weights or options of one coefficient the first is taken; of several
    rows with the same loss the one with the most seeds.

    Args:
        tables: Tables, main ones first.
        runs: Finished runs, for their ρ.
    """
    rho = _mean_rho(runs)
    chosen: dict[tuple[str, ...], Comparison] = {}
    for found in (row for table in tables for row in _rows(table, rho)):
        key = (found.dataset, found.detector, found.metric, found.coefficient)
        before = chosen.setdefault(key, found)
        if found.loss == before.loss and found.n_seeds > before.n_seeds:
            chosen[key] = found
    order = list(dict.fromkeys((c.dataset, c.detector) for c in chosen.values()))
    return sorted(
        chosen.values(), key=lambda c: (order.index((c.dataset, c.detector)), c.metric != "mask_AP")
    )


def _rows(table: MadeTable, rho: dict[tuple, dict[str, float]]) -> Iterator[Comparison]:
    dataset = table.plan.runs[0].dataset
    for _, row in table.frame[is_comparison(table.frame)].iterrows():
        options = {name: row[name] for name in OPTION_NAMES if name in row}
        loss = loss_label(row["coefficient"], row["weight"], options)
        shared = {name: value for name, value in options.items() if name in SHARED_OPTIONS}
        without = loss_label(BASELINE, 0.0, shared)
        base, own = (rho.get((dataset, row["detector"], name), {}) for name in (without, loss))
        for metric in table.plan.headlines:
            if pd.notna(row[f"delta_{metric}"]):
                headline = metric == table.plan.headlines[-1]  # the one of the published figures
                published = row.get("paper_delta") if headline else None
                yield Comparison(
                    dataset, row["detector"], row["coefficient"], readable(row["weight"]), loss, metric,
                    headline, row[metric], row[f"delta_{metric}"], interval(row, metric, table),
                    int(row["n_seeds"]), published if pd.notna(published) else None,
                    str(row.get("verdict", "")) if headline else "",
                    {name: (base[name], own[name]) for name in RHO if name in base and name in own},
                )  # fmt: skip


def interval(row: pd.Series, metric: str, table: MadeTable) -> tuple[float, float] | None:
    """The 95% interval of a headline metric's delta in one row of a table; None where it is unknown."""
    suffix = "" if metric == table.plan.headlines[-1] else f"_{metric}"
    bounds = tuple(row.get(f"{name}{suffix}") for name in ("ci_low", "ci_high"))
    return None if any(pd.isna(bound) for bound in bounds) else bounds


def _mean_rho(runs: list[FinishedRun]) -> dict[tuple, dict[str, float]]:
    """Mean over seeds of each of `RHO`, by data set, detector and loss; of seeds that have a baseline."""
    finished = {run.run: run for run in runs if not run.failed}
    groups: dict[tuple, list[FinishedRun]] = {}
    for run in finished.values():
        if run.run.baseline in finished:
            groups.setdefault((run.run.dataset, run.run.detector, run.loss), []).append(run)
    means = {}
    for key, group in groups.items():
        values = {name: [run.metric(name) for run in group] for name in RHO}
        means[key] = {name: fmean(of) for name, of in values.items() if None not in of}
    return means


class Mean(NamedTuple):
    """The mean gain of a coefficient in AP over the detectors of a data set."""

    dataset: str
    coefficient: str
    gain: Pooled


def means(comparisons: list[Comparison], runs: list[FinishedRun], interval: Intervals) -> list[Mean]:
    """The mean gain in AP of boxes over the compared detectors, where there are enough for an interval.

    Args:
        comparisons: From `compare`.
        runs: Finished runs.
        interval: From `corrloss.tables.intervals.stored_intervals`.
    """
    compared = {(c.dataset, c.detector, c.loss) for c in comparisons if c.metric == "AP"}
    finished = {run.run for run in runs if not run.failed}
    groups: dict[tuple[str, str], list[Run]] = {}
    for run in sorted((run for run in runs if not run.failed), key=lambda run: run.run):
        if run.run.baseline in finished and (run.run.dataset, run.run.detector, run.loss) in compared:
            groups.setdefault((run.run.dataset, run.run.coefficient), []).append(run.run)
    found = [Mean(*key, gain) for key, own in groups.items() if (gain := interval(own, "AP"))]
    return [mean for mean in found if isinstance(mean.gain, Pooled) and not pd.isna(mean.gain.ci_low)]


class Count(NamedTuple):
    """How many of the comparisons in which something was measured ``rose``."""

    name: str
    rose: int
    total: int


def count(comparisons: list[Comparison]) -> list[Count]:
    """The counts at the top of the page, of headline metrics."""
    comparisons = [c for c in comparisons if c.headline]
    counts = []
    for name in RHO:
        pairs = [c.rho[name] for c in comparisons if name in c.rho]
        rose = sum(own > base for base, own in pairs)
        counts.append(Count(f"{name.replace('rho', 'ρ')} rose", rose, len(pairs)))
    intervals = [c.interval for c in comparisons if c.interval is not None]
    return [
        *counts,
        Count("AP rose", sum(c.delta > 0 for c in comparisons), len(comparisons)),
        Count("AP rose, interval above 0", sum(low > 0 for low, _ in intervals), len(intervals)),
        Count("AP fell, interval below 0", sum(high < 0 for _, high in intervals), len(intervals)),
    ]


def sentences(scale: str, comparisons: list[Comparison]) -> list[str]:
    """What was compared, what the intervals cover, and what follows for the paper."""
    if not comparisons:
        return ["No detector is finished with and without the loss yet."]
    comparisons = [c for c in comparisons if c.headline]
    detectors = {(c.dataset, c.detector) for c in comparisons}
    seeds = sorted({c.n_seeds for c in comparisons})
    number = " to ".join(str(n) for n in dict.fromkeys((seeds[0], seeds[-1])))
    verdicts = Counter(c.verdict for c in comparisons if c.verdict)
    counts = ", ".join(f"{number} {verdict}" for verdict, number in verdicts.most_common())
    return [
        f"{len(comparisons)} comparisons of {len(detectors)} detectors, each trained with and without "
        f"Correlation Loss from the same seeds: {'one seed' if seeds == [1] else f'{number} seeds'} each.",
        ONE_PAIR if seeds == [1] else SEVERAL_PAIRS,
        f"{NOT_EVIDENCE[scale]} The paper's gains are shown for orientation.".replace("`", "")
        if scale in NOT_EVIDENCE
        else f"Compared with the published gains: {counts or 'no verdict'}.",
    ]
