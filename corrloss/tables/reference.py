"""The published figures, and which cell of which table each belongs to."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from corrloss.analysis.metrics import metric_names
from corrloss.errors import CorrLossError
from corrloss.plan.experiments import Experiments
from corrloss.plan.runs import BASELINE, Run, readable
from corrloss.plan.schema import check
from corrloss.plan.table_files import make_run
from corrloss.tables.csv_file import read_csv, refuse

COLUMNS = (
    "table", "dataset", "split", "detector", "backbone", "schedule", "variant", "lambda", "metric", "value",
    "source", "source_kind", "note", "run_data", "run_detector", "run_coefficient", "run_weight",
    "run_options", "attribution",
)  # fmt: skip
SOURCE_KINDS = ("primary", "second-hand", "official-code", "model-zoo")
CELL = ("run_data", "run_detector", "run_coefficient", "run_weight", "run_options")
Cells = dict[tuple[str | float, ...], pd.Series]
ATTRIBUTIONS = ("", "stated", "inferred")
DATA = ("coco", "cityscapes")


class ReferenceFileError(CorrLossError):
    """The reference CSV is broken; the message names file, line and column."""


def load_reference(experiments: Experiments, path: Path | None = None) -> pd.DataFrame:
    """Read ``experiments/reference/paper.csv``.

    Rows with ``run_detector`` belong to a cell; the others are context and fill none.

    Args:
        experiments: What there is: a cell of another detector, coefficient or option would never be shown.
        path: The file, if not that of ``experiments``.

    Returns:
        All rows, text as text, ``run_weight`` and the value of cells as float.

    Raises:
        ReferenceFileError: A line is truncated, a column is missing, a value is not a number, a kind is
            unknown, a figure has no source, a figure of a cell is outside 0-100, no run and metric can fill
            a cell, or two rows are of one cell.
    """
    path = path or experiments.reference
    frame = read_csv(path, ReferenceFileError, COLUMNS)
    cells = frame["run_detector"] != ""
    rules = [
        ("source_kind", ~frame["source_kind"].isin(SOURCE_KINDS), _one_of(SOURCE_KINDS)),
        ("attribution", ~frame["attribution"].isin(ATTRIBUTIONS), _one_of(ATTRIBUTIONS)),
        ("source", frame["source"].str.strip() == "", "a source for every figure"),
        ("run_data", cells & ~frame["run_data"].isin(DATA), _one_of(DATA)),
        ("attribution", cells & (frame["attribution"] == ""), _one_of(ATTRIBUTIONS)),
        ("value", cells & ~_numbers(frame["value"]).between(0, 100), "a number from 0 to 100"),
        (
            "run_detector",
            cells & ~frame["run_detector"].isin(experiments.detectors),
            _one_of(experiments.detectors),
        ),
        ("metric", cells & ~frame["metric"].isin(metric_names(masks=True)), "the name of a metric"),
        ("run_weight", cells & ~np.isfinite(_numbers(frame["run_weight"])), "a number"),
    ]
    for column, wrong, needed in rules:
        refuse(path, frame, wrong, column, needed, ReferenceFileError)
    weights = pd.to_numeric(frame["run_weight"].where(cells, "0"))
    mistaken = (weights > 0) == (frame["run_coefficient"] == BASELINE)
    needed = f"0 for {BASELINE}, more for a coefficient"
    refuse(path, frame, cells & mistaken, "run_weight", needed, ReferenceFileError)
    frame["run_weight"] = weights.astype(float)
    for line, row in frame[cells].iterrows():
        _check_variant(f"{path}: line {line}, run_options", row, experiments.schema("table"))
    twice = cells & frame.duplicated([*CELL, "metric"])
    if twice.any():
        where = f"line {twice.idxmax()}, {', '.join(CELL)}, metric"
        raise ReferenceFileError(f"{path}: {where}: a second figure for one cell")
    return frame.reset_index(drop=True)


def by_cell(reference: pd.DataFrame) -> Cells:
    """The rows that belong to a cell of a table, by what names it.

    Args:
        reference: From `load_reference`.
    """
    own = reference[reference["run_detector"] != ""]
    return {tuple(row[name] for name in (*CELL, "metric")): row for _, row in own.iterrows()}


def published(cells: Cells, data: str, run: Run, metric: str) -> pd.Series | None:
    """The reference row of one run and metric, or None where nothing is published.

    Args:
        cells: From `by_cell`.
        data: What the run's data set represents, ``coco`` or ``cityscapes``.
        run: The run; seed and scale do not matter.
        metric: Name of the metric.
    """
    return cells.get((data, run.detector, run.coefficient, run.weight, _options(run), metric))


def _options(run: Run) -> str:
    return ";".join(f"{name}={readable(value)}" for name, value in run.options)


def _check_variant(where: str, row: pd.Series, schema: dict) -> None:
    """Refuse a coefficient or an option that no table can have, and options in another form or order."""
    variant = dict(pair.partition("=")[::2] for pair in row["run_options"].split(";") if pair)
    variant |= {
        name: float(value) for name, value in variant.items() if name == "strength" and _is_number(value)
    }
    variant["coefficient"] = row["run_coefficient"]
    if row["run_weight"]:
        variant["weight"] = row["run_weight"]
    check(variant, schema["$defs"]["variant"] | {"$defs": schema["$defs"]}, where, ReferenceFileError)
    needed = _options(make_run("", "", "", variant, 0))
    if row["run_options"] != needed:
        raise ReferenceFileError(f"{where}: {row['run_options']!r}; needs {needed!r}")


def _one_of(names: Iterable[str]) -> str:
    return f"one of {', '.join(filter(None, names))}"


def _numbers(column: pd.Series) -> pd.Series:
    return pd.to_numeric(column, errors="coerce")


def _is_number(text: str) -> bool:
    return bool(np.isfinite(pd.to_numeric(text, errors="coerce")))
