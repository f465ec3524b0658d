"""All tables, runs and data sets of one scale: what the workflow plans with."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from corrloss.plan.configs import resolve
from corrloss.plan.detectors import read_settings
from corrloss.plan.experiments import Experiments
from corrloss.plan.identity import (
    code_of_stage,
    data_identities,
    digest,
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

    def most(self, key: str) -> int:
        """The largest ``threads``, ``processes`` or ``gpus`` of a run."""
        return max(planned.config["bench"][key] for planned in self.planned.values())

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


def _min_size(dataset: dict | None) -> int:
    """``filter_cfg.min_size`` of a data set, or of the one that it wraps; 0 without."""
    while dataset and isinstance(dataset.get("dataset"), dict):
        dataset = dataset["dataset"]
    return ((dataset or {}).get("filter_cfg") or {}).get("min_size", 0)


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
