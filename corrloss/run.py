"""A run's folder: the name of every file in it, the reports of its stages, and its lock."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from filelock import FileLock, Timeout

from corrloss.errors import CorrLossError
from corrloss.files import sha256, write_json

#: Boxes and masks, as COCO names the kinds of detections.
KINDS = ("bbox", "segm")
#: Keys of training.json; a failed training adds ``failed``, the reason.
TRAINING_KEYS = (
    "identity",
    "train_seconds",
    "iterations",
    "resumes",
    "peak_memory_mb",
    "environment",
    "curve",
)
#: Keys of prediction.json.
PREDICTION_KEYS = ("identity", "predict_seconds", "peak_memory_mb", "environment")


class StageReportError(CorrLossError):
    """The report of a stage is missing or damaged; the message names the file."""


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run, from its resolved config to its record. No other module names its files.

    Attributes:
        path: The folder; it need not exist yet.

    Examples:
        >>> folder = RunFolder(Path("results/mini/runs/mini_coco/atss/none/seed0"))
        >>> folder.detections("segm").name, folder.bound("best").name, folder.replicates().name
        ('detections.segm.json', 'detections_best.bbox.json', 'bootstrap.bbox.npz')
    """

    path: Path

    @property
    def config(self) -> Path:
        """Resolved config, written by `corrloss.plan.config_files.dump`."""
        return self.path / "config.py"

    @property
    def weights(self) -> Path:
        """Final state dict of the model."""
        return self.path / "weights.pth"

    @property
    def training(self) -> Path:
        """Report of the training, JSON with `TRAINING_KEYS`."""
        return self.path / "training.json"

    @property
    def prediction(self) -> Path:
        """Report of the prediction, JSON with `PREDICTION_KEYS`."""
        return self.path / "prediction.json"

    @property
    def positives(self) -> Path:
        """Positives before post-processing, written by `corrloss.engine.candidates`."""
        return self.path / "positives.npz"

    @property
    def record(self) -> Path:
        """Metrics of the run and the circumstances they were measured in, JSON."""
        return self.path / "record.json"

    @property
    def rehearsal(self) -> Path:
        """Report of a rehearsal, JSON, written by `corrloss.engine.rehearsal`."""
        return self.path / "rehearsal.json"

    @property
    def rehearsal_log(self) -> Path:
        """What the last training process of a rehearsal wrote to its standard error."""
        return self.path / "rehearsal.log"

    @property
    def test_dev(self) -> Path:
        """Folder of the submission to COCO's evaluation server."""
        return self.path / "test_dev"

    @property
    def submission(self) -> Path:
        """Identity of the submission, JSON."""
        return self.path / "test_dev.json"

    def checkpoints(self, identity: str) -> Path:
        """Folder of the checkpoints of one training; that of another identity never resumes from them."""
        return self.path / "checkpoints" / identity

    def detections(self, kind: str = "bbox") -> Path:
        """Detections on the test images in COCO's result format; ``kind`` is one of `KINDS`."""
        return self.path / f"detections.{kind}.json"

    def bound(self, order: str) -> Path:
        """Boxes after scores were reassigned in the ``best`` or ``worst`` order before post-processing."""
        return self.path / f"detections_{order}.bbox.json"

    def replicates(self, kind: str = "bbox") -> Path:
        """Bootstrap replicates of AP; ``kind`` is one of `KINDS`."""
        return self.path / f"bootstrap.{kind}.npz"

    @property
    def predicted(self) -> list[Path]:
        """All files that a prediction may leave, but its report."""
        bounds = [self.bound(order) for order in ("best", "worst")]
        return [self.detections("bbox"), self.detections("segm"), self.positives, *bounds]

    def start(self, stage: str) -> None:
        """Remove the reports of a stage and of the later ones, and then their files.

        A process that is killed at any time leaves no report beside files that are not of it.

        Args:
            stage: ``training``, ``prediction`` or ``evaluation``.
        """
        reports = [self.record, self.prediction, self.training]
        files = [self.replicates(kind) for kind in KINDS], self.predicted, [self.weights]
        count = 1 + ("evaluation", "prediction", "training").index(stage)
        for path in (*reports[:count], *chain(*files[:count])):
            path.unlink(missing_ok=True)

    def read_training(self, identity: str = "", *, weights: bool = True) -> dict:
        """Read the report of the training.

        Args:
            identity: What the training must be; "" checks nothing.
            weights: Whether the weights must be there, as the training left them.

        Raises:
            StageReportError: The report is missing, damaged, lacks a key, or is of another training.
        """
        return _read_report(self.training, TRAINING_KEYS, identity, [self.weights] if weights else [])

    def write_training(self, report: dict) -> None:
        """Write the report of the training, with all of `TRAINING_KEYS`, after its weights."""
        write_json(self.training, report | {"files": _digests([self.weights])})

    def read_prediction(self, identity: str = "") -> dict:
        """Read the report of the prediction.

        Args:
            identity: What the prediction must be, with the files that it left; "" checks nothing.

        Raises:
            StageReportError: The report is missing, damaged, lacks a key, or is of another prediction.
        """
        return _read_report(self.prediction, PREDICTION_KEYS, identity, self.predicted)

    def write_prediction(self, report: dict) -> None:
        """Write the report of the prediction, with all of `PREDICTION_KEYS`, after its files."""
        write_json(self.prediction, report | {"files": _digests(self.predicted)})

    def write_record(self, record: dict) -> None:
        """Write the record; `corrloss.tables.records.read_record` reads it."""
        write_json(self.record, record)

    @contextmanager
    def exclusive(self, log: Callable[[str], None]) -> Iterator[None]:
        """Hold the folder's lock while the block runs; the operating system releases it if the process dies.

        If another process holds the lock, such as a training that outlived its Snakemake, wait for it. Once
        the lock is held, temporary files that a killed process left in the folder are removed.

        Args:
            log: Called with one line if it has to wait.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        # No fallback to a lock that is the mere existence of a file: it would outlive a killed process.
        lock = FileLock(self.path / ".lock", fallback_to_soft=False)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            log(f"{self.path}: waiting for another process that works on this run (fuser {lock.lock_file})")
            lock.acquire()
        try:
            self._remove_temporary_files()
            yield
        finally:
            lock.release()

    def _remove_temporary_files(self) -> None:
        for file in self.path.rglob(".*.part"):  # of corrloss.files.atomic_write
            file.unlink()
        for folder in self.path.glob(".predict-*"):  # of corrloss.engine.predict
            shutil.rmtree(folder)


def _digests(files: list[Path]) -> dict[str, str]:
    return {path.name: sha256(path) for path in files if path.exists()}


def _read_report(path: Path, keys: tuple[str, ...], identity: str, files: list[Path]) -> dict:
    again = "delete it and run snakemake again"
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(report, dict):
            raise ValueError(f"a {type(report).__name__} instead of an object")
        if missing := [key for key in keys if key not in report]:
            raise ValueError(f"no {', '.join(missing)}")
    except (OSError, ValueError, RecursionError) as error:
        raise StageReportError(
            f"{path}: not readable as a report: expected JSON with {', '.join(keys)}, found: {error}; {again}"
        ) from error
    if identity and report["identity"] != identity:
        raise StageReportError(f"{path}: expected identity {identity}, found {report['identity']}; {again}")
    if identity and files and (found := _digests(files)) != report.get("files"):
        written = report.get("files") or {}
        names = sorted(name for name in {*found, *written} if found.get(name) != written.get(name))
        raise StageReportError(
            f"{path}: expected the files beside it as its stage left them, found others or none of "
            f"{', '.join(names)}; {again}"
        )
    return report
