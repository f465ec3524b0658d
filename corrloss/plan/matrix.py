"""All tables, runs and data sets of one scale: what the workflow plans with."""

from __future__ import annotations

import csv
import functools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

from corrloss.plan.configs import resolve
from corrloss.plan.data_files import PARTS, annotation_file, is_made, is_sample, raw_annotations
from corrloss.plan.detectors import read_settings
from corrloss.plan.experiments import Experiments
from corrloss.plan.identity import (
    code_of_stage,
    data_identities,
    digest,
    read_identity,
    run_identity,
    table_identity,
)
from corrloss.plan.pretrained import FOLDER
from corrloss.plan.runs import Run
from corrloss.plan.schema import ExperimentError
from corrloss.plan.settings import Settings
from corrloss.plan.table_files import Table, load_table


@dataclass(frozen=True)
class Planned:
    """A run with its resolved config, whose ``bench`` has the identity of each stage."""

    run: Run
    config: dict

    @property
    def identity(self) -> dict[str, str]:
        """From `corrloss.plan.identity.run_identity`."""
        return self.config["bench"]["identity"]

    @property
    def threads(self) -> int:
        """CPU threads of the training, over all its processes."""
        return self.config["bench"]["threads"] * self.config["bench"]["processes"]

    @property
    def gpus(self) -> int:
        """GPUs of the training."""
        return self.config["bench"]["gpus"]

    def weights_in(self, data_root: Path) -> list[Path]:
        """Local files of the published weights that the run starts from."""
        return [data_root / FOLDER / name for name in self.config["bench"]["pretrained"]]


@dataclass(frozen=True)
class Matrix:
    """Everything that is to be run at one scale.

    Attributes:
        scale: Name of the scale.
        tables: All tables by name.
        planned: All runs by name, each once however many tables share it.
        datasets: Settings of the data sets in use, by name.
        data: Identity of their training and test images, by name.
    """

    scale: str
    tables: dict[str, Table]
    planned: dict[str, Planned]
    datasets: dict[str, dict]
    data: dict[str, dict[str, str]] = field(default_factory=dict)

    @property
    def result_tables(self) -> list[str]:
        """Names of the tables of what runs achieve."""
        return [name for name, table in self.tables.items() if table.runs and table.kind == "results"]

    @property
    def main_tables(self) -> list[str]:
        """Names of the tables that a plain ``snakemake`` makes."""
        return [name for name in self.result_tables if self.tables[name].main]

    @property
    def analysis_tables(self) -> list[str]:
        """Names of the other tables of results."""
        return [name for name in self.result_tables if not self.tables[name].main]

    @property
    def overhead_tables(self) -> list[str]:
        """Names of the tables of what the loss costs in training; they need no finished run."""
        return [name for name, table in self.tables.items() if table.runs and table.kind == "overhead"]

    @property
    def weights(self) -> dict[str, str]:
        """Published weights that runs start from: address by name of the file."""
        return {
            name: url
            for planned in self.planned.values()
            for name, url in planned.config["bench"]["pretrained"].items()
        }

    def run(self, name: str) -> Planned:
        """The planned run of a name.

        Raises:
            ExperimentError: No table has it.
        """
        if name not in self.planned:
            raise ExperimentError(_no_run(name, self.scale))
        return self.planned[name]

    def seconds(self, run: Run, known: Path) -> int:
        """Seconds that trainings of the run's detector took, as a priority: the longest are to start first.

        Args:
            run: The run.
            known: A ``runs.csv`` of the scale, such as that of the reference results.

        Returns:
            The mean, times the run's ``length``; 0 where the file or the detector in it is missing.
        """
        return round(_seconds_of(known).get(run.detector, 0) * dict(run.options).get("length", 1))

    def runs_of(self, tables: Iterable[str]) -> list[Run]:
        """The runs of some tables, each once."""
        return list(dict.fromkeys(run for name in tables for run in self.tables[name].runs))

    def needs(self, dataset: str) -> dict:
        """What the runs of a data set need of it, as arguments of ``check_dataset``.

        Returns:
            ``masks``: whether a run predicts masks. ``min_size``: the largest ``filter_cfg.min_size``, in
            pixels, of a training; mmdet does not train on images with a shorter side.
        """
        configs = [one.config for one in self.planned.values() if one.run.dataset == dataset]
        sizes = [_min_size((config.get("train_dataloader") or {}).get("dataset")) for config in configs]
        return {"masks": any(c["bench"]["masks"] for c in configs), "min_size": max(sizes, default=0)}

    def check_identity(self, dataset: str) -> str:
        """Identity of the report of the check of a data set."""
        return digest(self.data[dataset], self.needs(dataset), code_of_stage("check"))

    def submission_identity(self, planned: Planned) -> str:
        """Identity of a run's submission to the evaluation server."""
        data = self.data[self.test_dev_data(planned.run)]
        return digest(planned.identity["training"], data["test"], code_of_stage("submission"))

    def table_identity(self, name: str, reference: Path) -> str:
        """Identity of a table with all its runs; ``reference`` is the file of published figures."""
        table = self.tables[name]
        stages = ("training", "overhead") if table.kind == "overhead" else ("evaluation", "table")
        runs = [self.planned[run.name].identity[stages[0]] for run in table.runs]
        return table_identity(table, runs, reference, stages[1])

    def is_current(self, runs_csv: Path, tables: Iterable[str]) -> bool:
        """Whether ``runs.csv`` has all runs of some tables, and each run with its planned identity.

        It is not current, either, if it is not as it was written, see `write_identity`.
        """
        if read_identity(runs_csv.with_suffix(".json")) is None:
            return False
        try:
            with runs_csv.open(encoding="utf-8", newline="") as file:
                found = {row["run"]: row["identity"] for row in csv.DictReader(file)}
        except (OSError, KeyError, ValueError, csv.Error):
            return False
        planned = {name: planned.identity["evaluation"] for name, planned in self.planned.items()}
        wanted = {run.name for run in self.runs_of(tables)}
        return wanted <= found.keys() and found.items() <= planned.items()

    def most(self, key: str) -> int:
        """The largest ``threads``, ``processes`` or ``gpus`` of a run."""
        return max(planned.config["bench"][key] for planned in self.planned.values())

    def requested_tables(self, targets: Iterable[str], out: str | Path) -> list[str]:
        """Tables of results whose runs must be in ``runs.csv`` for the targets of a call of Snakemake.

        Args:
            targets: Names of rules and files; none means the rule ``main``.
            out: Folder of the results of the scale.

        Returns:
            The tables that are named, or all tables if a target is not a table, its row or a group of tables.

        Raises:
            ExperimentError: See `rows`.
        """
        targets = list(targets)
        known = {"main": self.main_tables, self.scale: self.main_tables, "analysis": self.analysis_tables}
        known |= {"report": self.main_tables, f"{out}/report.html": self.main_tables}
        for name in self.result_tables:
            known[name] = known[f"{out}/tables/{name}.csv"] = [name]
        known |= {name: [] for name in self.overhead_tables}
        known |= {row: [table.name] for row, table in self.rows(targets).items()}
        requested = [known.get(target, self.result_tables) for target in set(targets) or {"main"}]
        return [name for name in self.result_tables if any(name in tables for tables in requested)]

    def rows(self, targets: Iterable[str]) -> dict[str, Table]:
        """The targets of a call of Snakemake that are one detector of a table: ``<table>/<detector>``.

        Raises:
            ExperimentError: There is no such table, or it has no such detector.
        """
        detectors = {run.detector for table in self.tables.values() for run in table.runs}
        rows = {}
        for target in targets:
            name, _, detector = target.partition("/")
            if name not in self.result_tables and detector in detectors:
                known = ", ".join(self.result_tables)
                raise ExperimentError(f"{target}: expected <table>/<detector> with a table of {known}")
            if name in self.result_tables and detector:
                rows[target] = self.tables[name].row(detector)
                if not rows[target].runs:
                    known = ", ".join(dict.fromkeys(run.detector for run in self.tables[name].runs))
                    raise ExperimentError(f"{target}: expected <table>/<detector> with a detector of {known}")
        return rows

    def datasets_of(self, table: str) -> list[str]:
        """Names of the data sets of a table's runs."""
        return sorted({run.dataset for run in self.tables[table].runs})

    def read_by(self, table: str, results: Path, parts: Iterable[str]) -> list[Path]:
        """Files of its runs that a table is made of besides ``runs.csv``: replicates, and detections.

        Args:
            table: Name of the table.
            results: Folder of all results.
            parts: Metrics that are measured on the detections of a run and its baseline.
        """
        folders = [run.folder(results) for run in self.tables[table].runs]
        files = [folder.replicates() for folder in folders]
        if set(parts) & set(self.tables[table].metrics):
            files += [file for folder in folders for file in (folder.prediction, folder.detections())]
        return files

    def rehearsals(self, tables: Iterable[str], results: Path) -> list[Path]:
        """Reports of the rehearsals of some tables' runs, one of all seeds."""
        runs = dict.fromkeys(run.rehearsed for run in self.runs_of(tables))
        return [run.rehearsal_folder(results).rehearsal for run in runs if run.name in self.planned]

    def test_dev_data(self, run: Run) -> str:
        """Name of the data set that is used as COCO test-dev in the tables that have a run.

        Raises:
            ExperimentError: No table has the run and ``test_dev``, or the scale has no such data set.
        """
        for table in self.tables.values():
            if table.test_dev and run in table.runs:
                return table.test_dev
        raise ExperimentError(
            f"{run.name}: expected a table with `test_dev: true` that has this run, and a data set "
            f"`test_dev` of scale {self.scale!r}, found none; add them in experiments/"
        )

    def missing(self, data_root: Path, *, has_gpus: bool, tables: Iterable[str] = ()) -> Iterator[str]:
        """What a machine lacks for some tables, or for all: data sets that cannot be made here, GPUs."""
        asked = {run.dataset for run in self.runs_of(tables)} or set(self.datasets)
        for data in (self.datasets[name] for name in self.datasets if name in asked):
            for part in (part for part in PARTS if part in data):
                path = annotation_file(data, part, data_root)
                if is_made(data) or is_sample(data) or path.exists():  # rules make or fetch them
                    continue
                raw = raw_annotations(data, part, data_root)
                if raw is None or not raw.exists():
                    yield f"{raw or path} (set the folder of the data sets with --config data_root=...)"
        gpus = self.most("gpus")
        if gpus and not has_gpus:
            yield f"GPUs: each run of this scale needs {gpus}, nvidia-smi was not found on this machine"


def _min_size(dataset: dict | None) -> int:
    """``filter_cfg.min_size`` of a data set, or of the one that it wraps; 0 without."""
    while dataset and isinstance(dataset.get("dataset"), dict):
        dataset = dataset["dataset"]
    return ((dataset or {}).get("filter_cfg") or {}).get("min_size", 0)


@functools.cache
def _seconds_of(runs_csv: Path) -> dict[str, float]:
    """Mean seconds of a training by detector; empty if there is no such file or it is damaged."""
    seconds: dict[str, list[float]] = {}
    try:
        with runs_csv.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                seconds.setdefault(row["detector"], []).append(float(row["train_seconds"]))
    except (OSError, ValueError, KeyError, TypeError, csv.Error):
        return {}
    return {detector: fmean(of) for detector, of in seconds.items()}


def load_matrix(settings: Settings) -> Matrix:
    """Read, check and resolve all of ``experiments/`` for one scale.

    Raises:
        ExperimentError: Any of the files is broken; the message names it.
    """
    experiments = settings.experiments
    tables = _tables(experiments, settings.scale)
    runs = {run.name: run for table in tables.values() for run in table.runs}
    if not runs:
        raise ExperimentError(
            f"{experiments.folder / 'tables'}: no table has a run at scale {settings.scale!r}"
        )
    names = sorted({run.dataset for run in runs.values()})
    datasets = {name: read_settings(experiments, "dataset", name, settings.cache) for name in names}
    test_dev = {table.test_dev for table in tables.values() if table.test_dev and table.runs}
    data = {name: _data(settings, name) for name in {*names, *test_dev}}
    planned = {name: _plan(settings, run, data[run.dataset]) for name, run in runs.items()}
    return Matrix(settings.scale, tables, planned, datasets, data)


def plan_run(settings: Settings, name: str) -> Planned:
    """Read ``experiments/`` for one run of a scale, and resolve that one alone.

    Args:
        settings: The settings.
        name: Name of the run.

    Raises:
        ExperimentError: Any of the files is broken, or no table has the run.
    """
    tables = _tables(settings.experiments, settings.scale).values()
    run = next((run for table in tables for run in table.runs if run.name == name), None)
    if run is None:
        raise ExperimentError(_no_run(name, settings.scale))
    return _plan(settings, run, _data(settings, run.dataset))


def _tables(experiments: Experiments, scale: str) -> dict[str, Table]:
    return {name: load_table(experiments, name, scale) for name in experiments.tables}


def _plan(settings: Settings, run: Run, data: dict[str, str]) -> Planned:
    config = resolve(settings.experiments, run, settings.data_root, settings.cache, settings.batch)
    config["bench"]["identity"] = run_identity(config, data, settings.ap)
    config["bench"]["tensorboard"] = settings.tensorboard
    return Planned(run, config)


def _data(settings: Settings, name: str) -> dict[str, str]:
    return data_identities(settings.dataset(name), settings.data_root, settings.checked(name))


def _no_run(name: str, scale: str) -> str:
    return (
        f"{name}: no table of experiments/tables has this run at scale {scale!r}; expected "
        f"dataset/detector/variant/seed, as `snakemake -n all --config scale={scale}` lists them"
    )
