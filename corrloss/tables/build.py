"""From ``runs.csv`` to one table: seeds averaged, deltas against the baseline, published figures beside."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import groupby

import pandas as pd

from corrloss.analysis.ap import MANY_DETECTIONS, OF_MANY_DETECTIONS
from corrloss.analysis.differences import holm
from corrloss.analysis.gain_parts import HYBRIDS, PARTS
from corrloss.analysis.metrics import ISOTONIC
from corrloss.analysis.verdict import Verdict, judge
from corrloss.plan.runs import OPTION_NAMES, Run
from corrloss.plan.schema import ExperimentError
from corrloss.plan.table_files import Table
from corrloss.tables.intervals import Intervals, uncertainty
from corrloss.tables.pooled_rows import CONTROL, pooled_rows
from corrloss.tables.records import FAILED
from corrloss.tables.reference import Cells, by_cell, published

# Metrics of files that not every run leaves: their columns may be absent from runs.csv.
OPTIONAL = (
    "mask_", "rho_", "bound_", "object_", "best_box", "iou_scores_", "LaECE", "D_ECE", "isotonic_", *PARTS,
)  # fmt: skip
# Metrics besides the last headline whose difference to the baseline is shown with its interval.
WITH_INTERVAL = ("AP", "rho_img", "rho_cls", "oLRP", "isotonic_AP", *HYBRIDS)
MANY = f"_{MANY_DETECTIONS}"  # absent from a runs.csv of an older version
# Other metrics whose difference is shown without an interval.
WITH_DIFFERENCE = ("tide_",)
VARIANT = ("detector", "coefficient", "weight")  # the first columns; then options
ZOO_TOLERANCE = 0.1  # points: the digit to which AP is published
REMARKS = ("incomplete", "failed", "mixed")  # last columns, absent where no row has any


def no_interval(runs: list[Run], metric: str) -> None:
    """No uncertainty is known of any delta."""


def build_table(
    table: Table,
    runs: pd.DataFrame,
    reference: pd.DataFrame,
    interval: Intervals = no_interval,
    zoo: Mapping[str, Mapping[str, float]] | None = None,
) -> pd.DataFrame:
    """One row a variant, in the order of the table's file, then one a coefficient, its mean over detectors.

    In a table with a control, each baseline is followed by a row of the same runs after isotonic regression
    on held-out images (`CONTROL` as coefficient). The means (`pooled_rows`) are of coefficients that have one
    row of each of several detectors.

    Args:
        table: The table.
        runs: ``runs.csv``; runs that it lacks leave their cells empty and are named in ``incomplete``.
        reference: From `corrloss.tables.reference.load_reference`.
        interval: From `corrloss.tables.intervals.stored_intervals`.
        zoo: AP that is published with the weights of published detectors, by detector and headline.

    Returns:
        ``detector, coefficient, weight``, options of the loss, the table's metrics (points, mean over
        seeds), ``delta_<headline>`` (mean over seeds of the difference to the baseline of the same
        seed). Of the last headline: the 95% interval of that delta ``ci_low, ci_high``, its standard errors
        ``se_images`` and, from two seeds on, ``se_seeds``, ``p_value`` and ``p_holm`` (adjusted for all rows
        of the table), what the interval is over, ``interval_over``, ``n_images``, from two seeds on how many
        would show a gain of 1, ``seeds_for_1_AP`` (`seeds_needed`), and ``n_seeds`` (of a mean the smallest).
        Of the other metrics in `WITH_INTERVAL`: ``delta_<metric>, ci_low_<metric>, ci_high_<metric>``, of
        those in `WITH_DIFFERENCE` the first alone. Then the published ``paper_AP, paper_delta,
        paper_source`` (empty where unknown); ``difference`` and ``verdict`` of the comparison with them,
        which figure is ``compared`` (``delta_AP`` or ``AP``), and ``tolerance_low, tolerance_high``, between
        which the published figure would agree. Then, where any row has an entry: ``incomplete`` (runs that
        are missing), ``failed`` (runs whose training failed: they are in no mean, and a row with any has no
        verdict) and ``mixed`` (what differs between the environment of a row's runs and their baselines).
        With ``zoo``, before these: ``zoo_AP`` and ``zoo_agrees``, ``yes`` where the AP equals it within
        `ZOO_TOLERANCE`, else ``no``; empty where one of the two is unknown.

    Raises:
        ExperimentError: The table has no runs at this scale, or asks for a metric that is in no record.
    """
    table = replace(table, metrics=columns(table))
    measured = runs.set_index("run")
    _check(table, runs)
    variants = [list(seeds) for _, seeds in groupby(table.runs, key=_variant)]
    failed = _failed(measured)
    cells = by_cell(reference)
    rows = [_row(table, seeds, measured, failed, cells, interval) for seeds in variants]
    for row, adjusted in zip(rows, holm([_number(row["p_value"]) for row in rows]), strict=True):
        row["p_holm"] = adjusted
    ended = set(measured.index) - failed
    pairs = [(row, _compared(seeds, ended)) for row, seeds in zip(rows, variants, strict=True)]
    means = list(pooled_rows(pairs, table.headlines[-1], interval))
    if zoo:
        rows = [_with_zoo(row, zoo.get(row["detector"], {}), table.headlines[-1]) for row in rows]
    if table.control:
        rows = _with_controls(table, zip(rows, variants, strict=True), measured, ended, interval)
    frame = pd.DataFrame(rows + means).astype(dict.fromkeys(table.metrics, float))  # also where all unknown
    options = [name for name in OPTION_NAMES if name in frame]  # the first row, a baseline, has none
    frame = frame[[*VARIANT, *options, *frame.columns.difference([*VARIANT, *options], sort=False)]]
    return frame.drop(columns=[name for name in REMARKS if (frame[name] == "").all()])


def _with_zoo(row: dict, published: Mapping[str, float], headline: str) -> dict:
    known, measured = published.get(headline), row[headline]
    agrees = ""
    if known is not None and measured is not None and not pd.isna(measured):
        agrees = "yes" if abs(measured - known) <= ZOO_TOLERANCE + 1e-9 else "no"
    remarks = {name: row[name] for name in REMARKS}
    rest = {name: value for name, value in row.items() if name not in REMARKS}
    return {**rest, "zoo_AP": known, "zoo_agrees": agrees, **remarks}


def columns(table: Table) -> tuple[str, ...]:
    """The table's metrics by their names in records: ``AP50_1000`` with up to 1,000 detections."""
    if table.max_detections != MANY_DETECTIONS:
        return table.metrics
    counted = [name.removeprefix("mask_") in OF_MANY_DETECTIONS for name in table.metrics]
    return tuple(name + MANY * many for name, many in zip(table.metrics, counted, strict=True))


def _check(table: Table, runs: pd.DataFrame) -> None:
    if not table.runs:
        raise ExperimentError(f"table {table.name}: has no runs at this scale")
    finished = runs["run"].isin([run.name for run in table.runs])
    asked = [name for name in table.metrics if not name.startswith(OPTIONAL) and not name.endswith(MANY)]
    unknown = [name for name in asked if name not in runs]
    if finished.any() and unknown:
        known = [name for name in runs.select_dtypes("number") if name not in ("weight", "seed", "strength")]
        raise ExperimentError(
            f"table {table.name}: at metrics: {unknown[0]!r} is not one of {', '.join(known)}"
        )


def _variant(run: Run) -> tuple:
    return run.dataset, run.detector, run.variant


def _row(
    table: Table,
    seeds: list[Run],
    measured: pd.DataFrame,
    all_failed: set[str],
    cells: Cells,
    interval: Intervals,
) -> dict:
    run = seeds[0]
    needed = {name for seed in seeds for name in (seed.name, seed.baseline.name)}
    failed = needed & all_failed
    ended = set(measured.index) - failed
    present = [seed for seed in seeds if seed.name in ended]
    compared = _compared(seeds, ended)
    metrics = {name: _mean_of(measured, name, present) for name in table.metrics}
    headline = table.headlines[-1]
    gain = interval(compared, headline) if compared else None
    paper, marks = _published(table, run, cells)
    verdict = Verdict("")
    if not failed:
        known = paper["paper_AP"], paper["paper_delta"]
        verdict = judge(metrics[headline], gain, *known, run.scale, marks)
    missing = needed - set(measured.index)
    return {
        "detector": run.detector,
        "coefficient": run.coefficient,
        "weight": run.weight,
        **dict(run.options),
        **metrics,
        f"delta_{headline}": _mean_delta(measured, headline, compared),
        **uncertainty(gain),
        "n_seeds": len(present),
        **_others(table, measured, compared, interval),
        **paper,
        **_judged(verdict),
        "incomplete": " ".join(sorted(missing)),
        "failed": " ".join(sorted(failed)),
        "mixed": _mixed(measured, needed & ended),
    }


def _compared(seeds: list[Run], ended: set[str]) -> list[Run]:
    """Runs of a variant that finished and whose baseline did."""
    return [seed for seed in seeds if not seed.is_baseline and {seed.name, seed.baseline.name} <= ended]


def _with_controls(
    table: Table,
    rows: Iterable[tuple[dict, list[Run]]],
    measured: pd.DataFrame,
    ended: set[str],
    interval: Intervals,
) -> list[dict]:
    """Return the rows, each baseline followed by itself after isotonic regression."""
    names = {name: f"{ISOTONIC}{name}" for name in table.metrics}
    found = []
    for row, seeds in rows:
        found.append(row)
        present = [seed for seed in seeds if seed.name in ended]
        if seeds[0].is_baseline and present:
            own = {name: _mean_of(measured, after, present) for name, after in names.items()}
            shown = [name for name in row if name.startswith("delta_") and own[name[6:]] is not None]
            gains = {name: own[name[6:]] - row[name[6:]] for name in shown}
            published = {name: None for name in row if name.startswith(("paper_", "zoo_"))} | {
                "paper_source": ""
            }
            known = uncertainty(interval(present, table.headlines[-1]))
            found.append(row | own | gains | known | published | {"coefficient": CONTROL})
    return found


def _others(table: Table, measured: pd.DataFrame, compared: list[Run], interval: Intervals) -> dict:
    """Return the differences of other metrics, and the intervals of those that have one."""
    cells = {}
    for name in table.metrics:
        if name.startswith(WITH_DIFFERENCE):
            cells[f"delta_{name}"] = _mean_delta(measured, name, compared)
    for name in (name for name in table.metrics if name in WITH_INTERVAL and name != table.headlines[-1]):
        known = interval(compared, name) if compared else None
        cells[f"delta_{name}"] = _mean_delta(measured, name, compared)
        cells |= {f"{end}_{name}": getattr(known, end, None) for end in ("ci_low", "ci_high")}
    return cells


def _judged(verdict: Verdict) -> dict:
    low, high = verdict.tolerance or (None, None)
    return {
        "difference": verdict.difference,
        "compared": verdict.compared or "",
        "verdict": verdict.verdict,
        "tolerance_low": low,
        "tolerance_high": high,
    }


def _failed(measured: pd.DataFrame) -> set[str]:
    """Names of the runs whose training failed; none if runs.csv is of an older version."""
    if "status" not in measured:
        return set()
    return set(measured.index[measured["status"].str.startswith(FAILED)])


def _mixed(measured: pd.DataFrame, names: set[str]) -> str:
    """Settings and versions in which some runs differ, each with the values that there are."""
    if "environment" not in measured:
        return ""
    texts = measured["environment"].loc[sorted(names)].dropna().unique()
    known = [dict(part.partition("=")[::2] for part in text.split("; ")) for text in texts]
    found = {}
    for key in sorted(set().union(*known)):
        # Of the prediction is written only what differs from the training.
        values = {one.get(key, one.get(key.removeprefix("predict."), "unknown")) for one in known}
        if len(values) > 1:
            found[key] = " / ".join(sorted(values))
    return "; ".join(f"{key}: {values}" for key, values in found.items())


def _published(table: Table, run: Run, cells: Cells) -> tuple[dict, tuple[str, ...]]:
    """Return the columns of the published figures, and what limits them as a reference."""
    here = published(cells, table.data, run, table.headlines[-1])
    if here is None:
        return {"paper_AP": None, "paper_delta": None, "paper_source": ""}, ()
    base = None if run.is_baseline else published(cells, table.data, run.baseline, table.headlines[-1])
    sources = [here] if base is None else [here, base]
    second_hand = any(source["source_kind"] == "second-hand" for source in sources)
    inferred = any(source["attribution"] == "inferred" for source in sources)
    marks = ("second-hand",) * second_hand + ("inferred",) * inferred
    note = "; attribution inferred" if here["attribution"] == "inferred" else ""
    columns = {
        "paper_AP": float(here["value"]),
        "paper_delta": None if base is None else round(float(here["value"]) - float(base["value"]), 2),
        "paper_source": f"{here['source_kind']}: {here['source']}{note}",
    }
    return columns, marks


def _number(value: float | None) -> float:
    return float("nan") if value is None else value


def _mean_of(measured: pd.DataFrame, metric: str, runs: list[Run]) -> float | None:
    if metric not in measured or not runs:
        return None
    return float(measured[metric].loc[[run.name for run in runs]].to_numpy().mean())  # NaN where any is


def _mean_delta(measured: pd.DataFrame, metric: str, compared: list[Run]) -> float | None:
    own, base = (_mean_of(measured, metric, side) for side in (compared, [run.baseline for run in compared]))
    return None if own is None else own - base
