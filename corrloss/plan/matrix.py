"""All tables, runs and data sets of one scale: what the workflow plans with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from corrloss.plan.configs import config_hash, resolve
from corrloss.plan.data_files import annotation_file, is_made, raw_annotations
from corrloss.plan.detectors import read_settings
from corrloss.plan.experiments import Experiments
from corrloss.plan.runs import Run
from corrloss.plan.schema import ExperimentError
from corrloss.plan.settings import Settings
from corrloss.plan.table_files import Table, load_table


@dataclass(frozen=True)
class Planned:
    """A run with its resolved config and the config's hash."""

    run: Run
    config: dict
    hash: str


@dataclass(frozen=True)
class Matrix:
    """Everything that is to be run at one scale.

    Attributes:
        scale: Name of the scale.
        tables: All tables by name.
        planned: All runs by name, each once however many tables share it.
        datasets: Settings of the data sets in use, by name.
    """

    scale: str
    tables: dict[str, Table]
    planned: dict[str, Planned]
    datasets: dict[str, dict]

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

    def detectors(self, *, masks: bool) -> list[str]:
        """Names of the detectors that predict masks, or of those that do not."""
        planned = self.planned.values()
        return sorted({one.run.detector for one in planned if one.config["bench"]["masks"] == masks})

    def needs(self, dataset: str) -> dict:
        """What the runs of a data set need of it, as arguments of ``check_dataset``.

        Returns:
            ``masks``: whether a run predicts masks. ``min_size``: the largest ``filter_cfg.min_size``, in
            pixels, of a training; mmdet does not train on images with a shorter side.
        """
        configs = [one.config for one in self.planned.values() if one.run.dataset == dataset]
        sizes = [_min_size((config.get("train_dataloader") or {}).get("dataset")) for config in configs]
        return {"masks": any(c["bench"]["masks"] for c in configs), "min_size": max(sizes, default=0)}

    def most(self, key: str) -> int:
        """The largest ``threads``, ``processes`` or ``gpus`` of a run."""
        return max(planned.config["bench"][key] for planned in self.planned.values())

    def requested_tables(self, targets: Iterable[str], out: str | Path) -> list[str]:
        """Tables of results whose runs must be in ``runs.csv`` for the targets of a call of Snakemake.

        Args:
            targets: Names of rules and files; none stands for the rule ``main``.
            out: Folder of the results of the scale.

        Returns:
            The tables that are named, or all tables if a target is not a table or a group of tables.
        """
        known = {"main": self.main_tables, "analysis": self.analysis_tables}
        known |= {"report": self.main_tables, f"{out}/report.html": self.main_tables}
        for name in self.result_tables:
            known[name] = known[f"{out}/tables/{name}.csv"] = [name]
        known |= {name: [] for name in self.overhead_tables}
        requested = [known.get(target, self.result_tables) for target in set(targets) or {"main"}]
        return [name for name in self.result_tables if any(name in tables for tables in requested)]

    def test_dev_data(self, run: Run) -> str:
        """Name of the data set that stands for COCO test-dev in the tables that have a run.

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

    def missing(self, data_root: Path, *, has_gpus: bool) -> Iterator[str]:
        """What a machine lacks for the scale: data sets that cannot be made here, GPUs."""
        for data in self.datasets.values():
            for part in ("train", "test"):
                path = annotation_file(data, part, data_root)
                if is_made(data) or path.exists():
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
    planned = {name: _plan(settings, run) for name, run in runs.items()}
    datasets = {
        name: read_settings(experiments, "dataset", name, settings.cache)
        for name in sorted({run.dataset for run in runs.values()})
    }
    return Matrix(settings.scale, tables, planned, datasets)


def plan_run(settings: Settings, name: str, expected_hash: str = "") -> Planned:
    """Read ``experiments/`` for one run of a scale, and resolve that one alone.

    Args:
        settings: The settings.
        name: Name of the run.
        expected_hash: Hash that the config must have; "" accepts any.

    Raises:
        ExperimentError: Any of the files is broken, no table has the run, or its config has another hash.
    """
    tables = _tables(settings.experiments, settings.scale).values()
    run = next((run for table in tables for run in table.runs if run.name == name), None)
    if run is None:
        raise ExperimentError(_no_run(name, settings.scale))
    planned = _plan(settings, run)
    if expected_hash not in ("", planned.hash):
        raise ExperimentError(
            f"{name}: expected a config of hash {expected_hash}, got {planned.hash}: experiments/ or the "
            "code of the loss changed since this was planned; run snakemake again"
        )
    return planned


def _tables(experiments: Experiments, scale: str) -> dict[str, Table]:
    return {name: load_table(experiments, name, scale) for name in experiments.tables}


def _plan(settings: Settings, run: Run) -> Planned:
    config = resolve(settings.experiments, run, settings.data_root, settings.cache, settings.batch)
    return Planned(run, config, config_hash(config))


def _no_run(name: str, scale: str) -> str:
    return (
        f"{name}: no table of experiments/tables has this run at scale {scale!r}; expected "
        f"dataset/detector/variant/seed, as `snakemake -n all --config scale={scale}` lists them"
    )
