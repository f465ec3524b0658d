"""All tables and runs of one scale at once: what the workflow plans with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from corrloss.plan.batch_plan import RECIPE, BatchPlan
from corrloss.plan.configs import config_hash, resolve
from corrloss.plan.detectors import read_settings
from corrloss.plan.runs import Run
from corrloss.plan.schema import ExperimentError
from corrloss.plan.table_files import Experiments, Table, load_table


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


def load_matrix(root: Path, scale: str, data_root: Path, results: Path, spread: BatchPlan = RECIPE) -> Matrix:
    """Read, validate and resolve all of ``experiments/`` for one scale.

    Args:
        root: The project's root.
        scale: Name of the scale.
        data_root: Folder that holds the data sets.
        results: Folder of all results; loaded config files are kept in ``.cache`` below it.
        spread: How the batch of each run is spread over processes.

    Raises:
        ExperimentError: Any of the files is broken; the message names it.
    """
    experiments, cache = Experiments(root), results / ".cache"
    tables = {name: load_table(experiments, name, scale) for name in experiments.tables}
    runs = _runs(experiments, tables, scale)
    planned = {name: _plan(experiments, run, data_root, cache, spread) for name, run in runs.items()}
    datasets = {
        name: read_settings(experiments, "dataset", name, cache)
        for name in sorted({run.dataset for run in runs.values()})
    }
    return Matrix(scale, tables, planned, datasets)


def plan_run(
    root: Path, scale: str, data_root: Path, results: Path, name: str, spread: BatchPlan = RECIPE
) -> Planned:
    """Read ``experiments/`` for one run of a scale, and resolve that one alone.

    Args:
        root, scale, data_root, results, spread: As :func:`load_matrix` takes them.
        name: Name of the run.

    Raises:
        ExperimentError: Any of the files is broken, or no table has the run; the message names it.
    """
    experiments = Experiments(root)
    tables = {table: load_table(experiments, table, scale) for table in experiments.tables}
    runs = _runs(experiments, tables, scale)
    if name not in runs:
        raise ExperimentError(f"{experiments.folder / 'tables'}: no table has run {name} at scale {scale!r}")
    return _plan(experiments, runs[name], data_root, results / ".cache", spread)


def _runs(experiments: Experiments, tables: dict[str, Table], scale: str) -> dict[str, Run]:
    runs = {run.name: run for table in tables.values() for run in table.runs}
    if not runs:
        raise ExperimentError(f"{experiments.folder / 'tables'}: no table has a run at scale {scale!r}")
    return runs


def _plan(experiments: Experiments, run: Run, data_root: Path, cache: Path, spread: BatchPlan) -> Planned:
    config = resolve(experiments, run, data_root, cache, spread)
    return Planned(run, config, config_hash(config))
