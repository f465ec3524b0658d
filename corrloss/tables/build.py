"""From ``runs.csv`` to one table: seeds averaged, deltas against the baseline, published figures beside."""

from __future__ import annotations

from itertools import groupby

import pandas as pd

from corrloss.analysis.verdict import judge
from corrloss.plan.runs import Run
from corrloss.plan.schema import ExperimentError
from corrloss.plan.table_files import Table
from corrloss.tables.intervals import Intervals
from corrloss.tables.records import FAILED
from corrloss.tables.reference import Cells, by_cell, published

# Metrics of files that not every run leaves: their columns may be absent from runs.csv.
OPTIONAL = ("mask_", "rho_img", "bound_img_")
REMARKS = ("incomplete", "failed", "mixed")  # last columns, absent where no row has any


def no_interval(runs: list[Run], metric: str) -> None:
    """No uncertainty is known of any delta."""


def build_table(
    table: Table, runs: pd.DataFrame, reference: pd.DataFrame, interval: Intervals = no_interval
) -> pd.DataFrame:
    """One row a variant, in the order of the table's file.

    Args:
        table: The table.
        runs: ``runs.csv``; runs that it lacks leave their cells empty and are named in ``incomplete``.
        reference: From :func:`corrloss.tables.reference.load_reference`.
        interval: From :func:`corrloss.tables.intervals.stored_intervals`.

    Returns:
        ``detector, coefficient, weight``, options of the loss, the table's metrics (points, mean over
        seeds), ``delta_<headline>`` (mean over seeds of the difference to the baseline of the same
        seed); of the last headline the 95% interval of that delta ``ci_low, ci_high``, its standard errors
        apart, ``se_images`` and, from two seeds on, ``se_seeds``, its ``p_value``, ``n_images`` and
        ``n_seeds``, the published ``paper_AP, paper_delta, paper_source`` (empty where unknown), and
        ``difference`` and ``verdict`` of the comparison with them, and ``tolerance_low, tolerance_high``,
        between which the published gain (or AP, where no gain is known) would agree. Then, where any row has
        something to say there: ``incomplete`` (the runs that are missing), ``failed`` (those whose training
        failed: they are in no mean, and a row with any has no verdict) and ``mixed`` (what differs between
        the environment of a row's runs and their baselines).

    Raises:
        ExperimentError: The table has no runs at this scale, or asks for a metric that is in no record.
    """
    measured = runs.set_index("run")
    _check(table, runs)
    variants = [list(seeds) for _, seeds in groupby(table.runs, key=_variant)]
    failed = _failed(measured)
    cells = by_cell(reference)
    rows = [_row(table, seeds, measured, failed, cells, interval) for seeds in variants]
    frame = pd.DataFrame(rows).astype(dict.fromkeys(table.metrics, float))  # also where all are unknown
    return frame.drop(columns=[name for name in REMARKS if (frame[name] == "").all()])


def _check(table: Table, runs: pd.DataFrame) -> None:
    if not table.runs:
        raise ExperimentError(f"table {table.name}: has no runs at this scale")
    finished = runs["run"].isin([run.name for run in table.runs])
    unknown = [name for name in table.metrics if name not in runs and not name.startswith(OPTIONAL)]
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
    pairs = [seed for seed in present if seed.baseline.name in ended]
    metrics = {name: _mean_of(measured, name, present) for name in table.metrics}
    deltas = {f"delta_{name}": _mean_delta(measured, name, pairs) for name in table.headlines}
    headline = table.headlines[-1]
    uncertainty = _uncertainty(pairs, headline, interval)
    paper = _published(table, run, cells)
    measured_cell = (metrics[headline], deltas[f"delta_{headline}"])
    ci = (uncertainty["ci_low"], uncertainty["ci_high"])
    verdict = judge(*measured_cell, ci, paper["paper_AP"], paper["paper_delta"], run.scale)
    missing = needed - set(measured.index)
    return {
        "detector": run.detector,
        "coefficient": run.coefficient,
        "weight": run.weight,
        **dict(run.options),
        **metrics,
        **deltas,
        **uncertainty,
        "n_seeds": len(present),
        **paper,
        "difference": None if failed else verdict.difference,
        "verdict": "" if failed else verdict.verdict,
        "tolerance_low": None if failed or verdict.tolerance is None else verdict.tolerance[0],
        "tolerance_high": None if failed or verdict.tolerance is None else verdict.tolerance[1],
        "incomplete": " ".join(sorted(missing)),
        "failed": " ".join(sorted(failed)),
        "mixed": _mixed(measured, needed & ended),
    }


def _failed(measured: pd.DataFrame) -> set[str]:
    """Names of the runs whose training failed; an older runs.csv knows of none."""
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


def _uncertainty(pairs: list[Run], headline: str, interval: Intervals) -> dict:
    compared = [run for run in pairs if not run.is_baseline]
    found = interval(compared, headline) if compared else None
    names = ("ci_low", "ci_high", "se_images", "se_seeds", "p_value", "n_images")
    return {name: None if found is None else getattr(found, name) for name in names}


def _published(table: Table, run: Run, cells: Cells) -> dict:
    here = published(cells, table.data, run, table.headlines[-1])
    base = published(cells, table.data, run.baseline, table.headlines[-1])
    if here is None:
        return {"paper_AP": None, "paper_delta": None, "paper_source": ""}
    known_delta = base is not None and not run.is_baseline
    inferred = "; attribution inferred" if here["attribution"] == "inferred" else ""
    return {
        "paper_AP": float(here["value"]),
        "paper_delta": round(float(here["value"]) - float(base["value"]), 2) if known_delta else None,
        "paper_source": f"{here['source_kind']}: {here['source']}{inferred}",
    }


def _mean_of(measured: pd.DataFrame, metric: str, runs: list[Run]) -> float | None:
    if metric not in measured or not runs:
        return None
    return float(measured[metric].loc[[run.name for run in runs]].to_numpy().mean())  # NaN where any is


def _mean_delta(measured: pd.DataFrame, metric: str, runs: list[Run]) -> float | None:
    compared = [run for run in runs if not run.is_baseline]
    own, base = (_mean_of(measured, metric, side) for side in (compared, [run.baseline for run in compared]))
    return None if own is None else own - base
