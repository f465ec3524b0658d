"""The page's input: the tables of a scale and the files of its finished runs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from corrloss.coco import GroundTruth, load_ground_truth
from corrloss.errors import CorrLossError
from corrloss.plan.experiments import Experiments
from corrloss.plan.runs import BASELINE, OPTION_NAMES, PUBLISHED, Run, readable
from corrloss.plan.table_files import Table, load_table
from corrloss.run import RunFolder
from corrloss.tables.records import FAILED, read_record, read_runs
from corrloss.tables.show import read_table


class ReportError(CorrLossError):
    """A file that the page needs is missing, damaged or of another run; the message names it."""


@dataclass(frozen=True)
class MadeTable:
    """A table: the content of its file, and its values from `corrloss.tables.show.read_table`."""

    plan: Table
    frame: pd.DataFrame


@dataclass(frozen=True)
class FinishedRun:
    """A run with its record.

    Attributes:
        curve: Mean of each loss term over stretches of the training; ``iteration`` is the last of each.
    """

    run: Run
    folder: RunFolder
    record: dict
    curve: list[dict[str, float]]

    @property
    def label(self) -> str:
        """Detector, loss and seed, for headings and tooltips."""
        return f"{self.run.detector} · {self.loss} · seed {self.run.seed}"

    @property
    def loss(self) -> str:
        """Coefficient, weight and options of the loss."""
        return loss_label(self.run.coefficient, self.run.weight, dict(self.run.options))

    @property
    def failed(self) -> str | None:
        """Why the training failed, and None if it did not. A failed run has no metrics."""
        return self.record.get(FAILED)

    @property
    def details(self) -> str:
        """The record without its figures, as JSON."""
        others = {k: value for k, value in self.record.items() if k not in ("metrics", "calibration")}
        return json.dumps(others, indent=1, ensure_ascii=False)

    def metric(self, name: str) -> float | None:
        """A figure of the record; None where it is unknown."""
        return self.record["metrics"].get(name)


@dataclass(frozen=True)
class DataSet:
    """Annotations of the test images of some runs, and the folder of these images, which need not exist."""

    ground_truth: GroundTruth
    images: Path


def loss_label(coefficient: str, weight: float, options: dict) -> str:
    """Coefficient, weight and options of a loss as one label.

    Examples:
        >>> loss_label("spearman", 0.2, {"strength": 0.01}), loss_label("none", 0.0, {})
        ('spearman 0.2, strength 0.01', 'none')
    """
    loss = coefficient if coefficient in (BASELINE, PUBLISHED) else f"{coefficient} {readable(weight)}"
    given = [f"{name} {readable(value)}" for name, value in options.items() if not pd.isna(value)]
    return ", ".join([loss, *given])


def load_data_set(data_root: Path, settings: dict) -> DataSet:
    """The test images and their annotations, by the settings of a file of ``experiments/datasets``.

    Raises:
        DataSetError: The annotations are missing or damaged.
    """
    folder, test = data_root / settings["folder"], settings["test"]
    return DataSet(load_ground_truth(folder / test["ann_file"]), folder / test["img"])


def load_tables(experiments: Experiments, scale: str, folder: Path) -> list[MadeTable]:
    """All tables of a scale that were made, whose CSVs are in ``folder``; main ones first.

    Raises:
        ReportError: No table was made yet.
        NoTableError: One is damaged.
    """
    made = []
    for plan in (load_table(experiments, name, scale) for name in experiments.tables):
        path = folder / f"{plan.name}.csv"
        if plan.kind == "results" and plan.runs and path.exists():
            made.append(MadeTable(plan, read_table(path)))
    if not made:
        raise ReportError(f"{folder}: no table yet; make them with `snakemake --config scale={scale}`")
    return sorted(made, key=lambda table: not table.plan.main)


def load_runs(runs_csv: Path, results: Path) -> list[FinishedRun]:
    """The runs of ``runs.csv`` with their records and training curves, in its order.

    Raises:
        ReportError: A record has another identity than the row in ``runs.csv``, or a curve is damaged.
        RecordError: ``runs.csv`` or a record is damaged.
    """
    return [_finished(row, results) for _, row in read_runs(runs_csv).iterrows()]


def _finished(row: pd.Series, results: Path) -> FinishedRun:
    options = tuple((name, row[name]) for name in sorted(OPTION_NAMES) if not pd.isna(row.get(name)))
    identity = (row["scale"], row["dataset"], row["detector"], row["coefficient"])
    run = Run(*identity, float(row["weight"]), int(row["seed"]), options)
    if run.name != row["run"]:
        raise ReportError(f"runs.csv: run {row['run']} has the columns of {run.name}; run snakemake again")
    folder = run.folder(results)
    record = read_record(folder.record, run)
    if record["identity"] != row["identity"]:
        raise ReportError(f"{folder.record}: has another identity than runs.csv; run snakemake again")
    curve = folder.read_training()["curve"]
    try:
        curve = [{name: float(value) for name, value in point.items()} for point in curve]
    except (ValueError, TypeError, AttributeError) as error:
        raise ReportError(
            f"{folder.training}: not readable as a training's report ({error!r}); train it again"
        ) from error
    return FinishedRun(run, folder, record, curve)
