"""What the rules look up: the settings and targets of one call of Snakemake, and the files of its runs."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean

from corrloss.plan.data_files import (
    PARTS,
    annotation_file,
    is_made,
    is_sample,
    raw_annotations,
)
from corrloss.plan.identity import read_identity, report_identity
from corrloss.plan.matrix import Matrix
from corrloss.plan.runs import Run
from corrloss.plan.schema import ExperimentError
from corrloss.plan.settings import Settings
from corrloss.plan.table_files import Table
from corrloss.run import RunFolder


@dataclass(frozen=True)
class Plan:
    """One call of Snakemake.

    Attributes:
        settings: The settings.
        matrix: All tables and runs of the scale.
        targets: Names of rules and files; none means the rule ``main``.
    """

    settings: Settings
    matrix: Matrix
    targets: tuple[str, ...] = ()

    @cached_property
    def rows(self) -> dict[str, Table]:
        """The targets that are one detector of a table: ``<table>/<detector>``.

        Raises:
            ExperimentError: There is no such table, or it has no such detector.
        """
        tables, results = self.matrix.tables, self.matrix.result_tables
        detectors = {run.detector for table in tables.values() for run in table.runs}
        rows = {}
        for target in self.targets:
            name, _, detector = target.partition("/")
            if name not in results and detector in detectors:
                known = ", ".join(results)
                raise ExperimentError(f"{target}: expected <table>/<detector> with a table of {known}")
            if name in results and detector:
                rows[target] = tables[name].row(detector)
                if not rows[target].runs:
                    known = ", ".join(dict.fromkeys(run.detector for run in tables[name].runs))
                    raise ExperimentError(f"{target}: expected <table>/<detector> with a detector of {known}")
        return rows

    @cached_property
    def requested(self) -> list[str]:
        """Tables of results whose runs must be in ``runs.csv``.

        Those that the targets name; all tables if a target is not a table, its row or a group of tables.

        Raises:
            ExperimentError: See `rows`.
        """
        matrix, out = self.matrix, self.settings.out
        known = {"main": matrix.main_tables, matrix.scale: matrix.main_tables, "report": matrix.main_tables}
        known |= {f"{out}/report.html": matrix.main_tables, "analysis": matrix.analysis_tables}
        for name in matrix.result_tables:
            known[name] = known[str(self.settings.table(name))] = [name]
        known |= {name: [] for name in matrix.overhead_tables}
        known |= {row: [table.name] for row, table in self.rows.items()}
        groups = [known.get(target, matrix.result_tables) for target in self.targets or ("main",)]
        return [name for name in matrix.result_tables if any(name in group for group in groups)]

    def missing(self, *, has_gpus: bool) -> Iterator[str]:
        """What this machine lacks for the requested tables: data sets that no rule makes, and GPUs."""
        asked = {run.dataset for run in self.matrix.runs_of(self.requested)} or {*self.matrix.datasets}
        for data in (data for name, data in self.matrix.datasets.items() if name in asked):
            for part in (part for part in PARTS if part in data):
                path = annotation_file(data, part, self.settings.data_root)
                if is_made(data) or is_sample(data) or path.exists():  # rules make or fetch them
                    continue
                raw = raw_annotations(data, part, self.settings.data_root)
                if raw is None or not raw.exists():
                    yield f"{raw or path} (set the folder of the data sets with --config data_root=...)"
        gpus = self.matrix.most("gpus")
        if gpus and not has_gpus:
            yield f"GPUs: each run of this scale needs {gpus}, nvidia-smi was not found on this machine"

    def folders(self, tables: Iterable[str]) -> list[RunFolder]:
        """Folders of the runs of some tables."""
        return [run.folder(self.settings.results) for run in self.matrix.runs_of(tables)]

    def rehearsals(self, tables: Iterable[str]) -> list[Path]:
        """Reports of the rehearsals of the runs of some tables: one seed of each."""
        runs = dict.fromkeys(run.rehearsed for run in self.matrix.runs_of(tables))
        planned = [run for run in runs if run.name in self.matrix.planned]
        return [run.rehearsal_folder(self.settings.results).rehearsal for run in planned]

    def read_by(self, table: str, parts: Iterable[str]) -> list[Path]:
        """Files of its runs that a table is made of besides ``runs.csv``: replicates, and detections.

        Args:
            table: Name of the table.
            parts: Metrics that are measured on the detections of a run and its baseline.
        """
        folders = self.folders([table])
        files = [folder.replicates() for folder in folders]
        if set(parts) & set(self.matrix.tables[table].metrics):
            files += [file for folder in folders for file in (folder.prediction, folder.detections())]
        return files

    def checked(self, table: str) -> list[Path]:
        """Reports of the checks of the data sets of a table's runs."""
        datasets = {run.dataset for run in self.matrix.tables[table].runs}
        return [self.settings.checked(name) for name in sorted(datasets)]

    def table_identity(self, name: str) -> str:
        """Identity of a table with all its runs."""
        return self.matrix.table_identity(name, self.settings.experiments.reference)

    def report_identity(self) -> str:
        """Identity of the report."""
        return report_identity(map(self.table_identity, self.matrix.main_tables))

    def has_current_runs(self) -> bool:
        """Whether ``runs.csv`` has all runs of the requested tables, and each run with its planned identity.

        It is not current, either, if it is not as it was written, see `write_identity`.
        """
        path = self.settings.runs_csv
        if read_identity(path.with_suffix(".json")) is None:
            return False
        try:
            found = {row["run"]: row["identity"] for row in _rows(path)}
        except (OSError, KeyError, ValueError, csv.Error):
            return False
        planned = {name: one.identity["evaluation"] for name, one in self.matrix.planned.items()}
        wanted = {run.name for run in self.matrix.runs_of(self.requested)}
        return wanted <= found.keys() and found.items() <= planned.items()

    def seconds(self, run: Run) -> int:
        """Seconds that trainings of the run's detector took, as a priority: the longest are to start first.

        Returns:
            The mean over the reference results of the scale, times the run's ``length``; 0 if they are
            missing or lack the detector.
        """
        return round(self._seconds.get(run.detector, 0) * dict(run.options).get("length", 1))

    @cached_property
    def _seconds(self) -> dict[str, float]:
        """Mean seconds of a training by detector; empty if there is no such file or it is damaged."""
        path = self.settings.root / "results" / "reference" / self.settings.scale / "runs.csv"
        seconds: dict[str, list[float]] = {}
        try:
            for row in _rows(path):
                seconds.setdefault(row["detector"], []).append(float(row["train_seconds"]))
        except (OSError, ValueError, KeyError, TypeError, csv.Error):
            return {}
        return {detector: fmean(of) for detector, of in seconds.items()}


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
