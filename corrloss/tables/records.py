"""Reading the records of finished runs into one frame, a row a run."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pandas as pd

from corrloss.errors import CorrLossError
from corrloss.plan.runs import OPTION_NAMES, Run
from corrloss.plan.schema import SHOWN
from corrloss.tables.csv_file import read_csv

if TYPE_CHECKING:  # a table is made from runs.csv without it, and mmengine's Config takes a second to load
    from corrloss.plan.matrix import Matrix

IDENTITY = ["run", "scale", "dataset", "detector", "coefficient", "weight", "seed"]
TAIL = ["train_seconds", "identity"]
NOTES = ["status", "environment"]  # last columns; absent from a runs.csv of an older version
TEXT = {"run", "scale", "dataset", "detector", "coefficient", "identity", *OPTION_NAMES, *NOTES} - {
    "strength"
}
FIRST_METRICS = ["AP", "AP50", "AP75", "AP_S", "AP_M", "AP_L"]  # then those of masks, then the rest
OK, FAILED = "ok", "failed"
LARGEST = 1e300  # absolute value of a figure: larger integers do not fit a float
# By stage, then by name; versions are one level deeper.
Environment = dict[str, dict[str, str | float | dict[str, str | float | None] | None]]

Bins = list[tuple[float | None, float | None, float | None, float | None]]


class Curves(msgspec.Struct):
    """Calibration curves, as `corrloss.analysis.calibration.calibration_curves` returns them."""

    LaECE: Bins
    D_ECE: Bins
    over_scores: list[tuple[float, float | None, float | None]]


class Calibration(msgspec.Struct):
    """Of a run's boxes as they are, and after isotonic regression."""

    none: Curves
    isotonic: Curves


class RecordError(CorrLossError):
    """A record is damaged or belongs to another run; the message names the file."""


def read_record(path: Path, run: Run) -> dict:
    """Read one ``record.json`` and make sure that it is this run's.

    Args:
        path: The file.
        run: The run that it must belong to.

    Returns:
        The record.

    Raises:
        RecordError: It is missing, truncated or of another run, a figure is not a finite number, or the
            training failed and yet a figure is known.
    """
    again = "delete it and run snakemake again"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        found, metrics = record["run"], record["metrics"]
        numbers = {"train_seconds": record["train_seconds"]}
        if not isinstance(metrics, dict) or not isinstance(record["identity"], str):
            raise TypeError("metrics must be a mapping, identity text")
        failed = record.get(FAILED, "no")
        if not isinstance(failed, str) or not failed.strip():
            raise TypeError("failed must be the reason, as text")
        if wrong := [name for name in metrics if not re.fullmatch(r"[A-Za-z][\w.]*", name, re.ASCII)]:
            raise ValueError(f"metrics: expected names of letters, digits, `_` and `.`, got {wrong[0]!r}")
        msgspec.convert(record.get("environment", {}), Environment)
        msgspec.convert(record.get("calibration") or None, Calibration | None)
    except FileNotFoundError:
        raise RecordError(f"{path}: no record; the run is not finished") from None
    except (ValueError, KeyError, TypeError, RecursionError, msgspec.ValidationError) as error:
        raise RecordError(f"{path}: damaged record ({error!r}); {again}") from error
    if found != run.name:
        raise RecordError(f"{path}: is of run {str(found)[:SHOWN]}, not {run.name}; {again}")
    numbers |= {f"metrics.{name}": value for name, value in metrics.items() if value is not None}
    for name, value in numbers.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < LARGEST:
            raise RecordError(f"{path}: {name} is {repr(value)[:SHOWN]}, not a finite number; {again}")
    for name, value in metrics.items():
        low, high = limits(name)
        if value is not None and not low <= value <= high:
            raise RecordError(f"{path}: metrics.{name} is {value!r}, expected {low:g} to {high:g}; {again}")
    if FAILED in record and any(value is not None for value in metrics.values()):
        raise RecordError(f"{path}: has metrics of a training that failed ({failed}); {again}")
    return record


def limits(metric: str) -> tuple[float, float]:
    """Least and greatest value of a metric: points, points of correlations and gains, counts.

    >>> limits("AP50"), limits("rho_cls_at_0.5"), limits("rho_img_positives")
    ((0, 100.001), (-100.001, 100.001), (0, inf))
    """
    if any(count in metric for count in ("_used", "_left_out", "_positives", "_failures")):
        return 0, math.inf
    signed = metric.startswith(("rho_", "tide_")) or metric == "object_PCC"
    return -100.001 if signed else 0, 100.001  # rounded in runs.csv


def runs_frame(records: Iterable[tuple[Run, dict]]) -> pd.DataFrame:
    """One row a run: identity, options of the loss, metrics in points (0-100), seconds, identity, notes.

    The notes are ``status``, ``ok`` or ``failed: <reason>``, and ``environment``, what a result may depend
    on besides its config, from `surroundings_text`.

    Args:
        records: Runs with what `read_record` returned, in the order of the rows.
    """
    rows = [
        {
            "run": run.name,
            "scale": run.scale,
            "dataset": run.dataset,
            "detector": run.detector,
            "coefficient": run.coefficient,
            "weight": run.weight,
            "seed": run.seed,
            **dict(run.options),
            **record["metrics"],
            "train_seconds": record["train_seconds"],
            "identity": record["identity"],
            "status": f"{FAILED}: {record[FAILED]}" if FAILED in record else OK,
            "environment": surroundings_text(record.get("environment", {})) or None,
        }
        for run, record in records
    ]
    frame = pd.DataFrame(rows, columns=None if rows else IDENTITY + TAIL + NOTES)
    options = [name for name in OPTION_NAMES if name in frame]
    metrics = _ordered(name for name in frame if name not in {*IDENTITY, *TAIL, *NOTES, *options})
    return frame.astype(dict.fromkeys(metrics, float))[IDENTITY + options + metrics + TAIL + NOTES]


def surroundings_text(environment: dict) -> str:
    """What a run was trained and predicted under, in one line; of the prediction only what differs.

    >>> surroundings_text({"train": {"threads": 1, "versions": {"torch": "2.13.0"}}, "predict": {}})
    'threads=1; versions.torch=2.13.0'
    """
    train, predict = (dict(_flat(environment.get(stage, {}))) for stage in ("train", "predict"))
    other = {f"predict.{name}": value for name, value in predict.items() if train.get(name) != value}
    return "; ".join(f"{name}={value}" for name, value in (*sorted(train.items()), *sorted(other.items())))


def _flat(nested: dict, prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in nested.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", " ".join(str(value).replace(";", ",").split())


def _ordered(metrics: Iterable[str]) -> list[str]:
    first = [f"{kind}{name}" for kind in ("", "mask_") for name in FIRST_METRICS]
    return sorted(metrics, key=lambda name: first.index(name) if name in first else len(first))


def read_finished(matrix: Matrix, results: Path) -> list[tuple[Run, dict]]:
    """Records of the runs that are finished as they are planned now, in the tables' order.

    A run that was never finished, or whose record has another identity, is left out: it has no figures
    yet. A damaged record is an error.

    Args:
        matrix: What there is to be run.
        results: Folder of all results.

    Raises:
        RecordError: A record is damaged, or of another run.
    """
    finished = []
    for planned in matrix.planned.values():
        path = planned.run.folder(results).record
        if (
            path.exists()
            and (record := read_record(path, planned.run))["identity"] == planned.identity["evaluation"]
        ):
            finished.append((planned.run, record))
    return finished


def read_runs(path: Path) -> pd.DataFrame:
    """Read ``runs.csv``.

    Raises:
        RecordError: It is damaged, lacks a column, names a run twice, or a figure is not a number; the
            message names line and column.
    """
    frame = read_csv(path, RecordError, IDENTITY + TAIL)
    twice = frame["run"].duplicated()
    if twice.any():
        line = twice.idxmax()
        raise RecordError(f"{path}: line {line}: duplicate run {frame['run'][line]}; keep one")
    columns = {name: _checked(path, frame[name]) for name in frame}
    return pd.DataFrame(columns).reset_index(drop=True)


def _checked(path: Path, cells: pd.Series) -> pd.Series:
    """A column as text or as numbers; NaN for empty cells where a cell may be empty."""
    empty = cells == ""
    wrong = empty if cells.name in IDENTITY + TAIL else empty & False
    kind = "text" if cells.name in TEXT else "a finite number"
    if cells.name not in TEXT:
        numbers = pd.to_numeric(cells, errors="coerce")
        wrong |= ~empty & ~np.isfinite(numbers)
        if cells.name not in {*IDENTITY, *TAIL, *OPTION_NAMES} and not wrong.any():
            low, high = limits(cells.name)
            wrong |= ~empty & ~numbers.between(low, high)
            kind = f"a number from {low:g} to {high:g}"
    if wrong.any():
        line = wrong.idxmax()
        found = repr(cells[line]) if cells[line] else "nothing"
        where = f"{path}: line {line}, {cells.name}"
        raise RecordError(f"{where}: expected {kind}, found {found}; collect the runs again")
    return cells.where(~empty) if cells.name in TEXT else numbers
