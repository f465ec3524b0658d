"""The record of one run: what was measured, and under what circumstances."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime
from pathlib import Path

from corrloss.analysis.ap import Backend
from corrloss.analysis.bootstrap import bootstrap_ap, unknown_replicates
from corrloss.analysis.metrics import metric_names, run_metrics
from corrloss.coco.reading import load_detections, load_ground_truth
from corrloss.files import atomic_write
from corrloss.run import KINDS, RunFolder


def make_record(
    run: str, config_hash: str, folder: RunFolder, annotations: Path, backend: Backend = "hotcoco"
) -> dict:
    """Measure a run's detections and gather everything that is known of it.

    Of a run whose ``training.json`` says ``failed`` nothing is measured: every metric is None.

    Args:
        run: Name of the run.
        config_hash: Hash of its resolved config.
        folder: The run's folder with the reports of training and prediction, and detections.
        annotations: COCO annotation file of the images that were predicted.
        backend: Which tool computes AP.

    Returns:
        ``run, seed, config_hash, metrics, ap_backend, train_seconds, predict_seconds, peak_memory_mb,
        environment, iterations, resumes, commit, date``, and ``failed``, the reason, where the training
        failed.

    Raises:
        StageReportError: ``training.json`` or ``prediction.json`` is damaged.
        ValueError: So are the detections or what else is measured; the message names the file.
    """
    training, prediction = folder.read_training(), folder.read_prediction()
    failed = training.get("failed")
    if failed is None:
        metrics = run_metrics(annotations, folder, backend)
    else:
        metrics = dict.fromkeys(metric_names(masks=folder.detections("segm").exists()))
    return {
        "run": run,
        "seed": int(run.rpartition("seed")[2]),
        "config_hash": config_hash,
        "metrics": metrics,
        "ap_backend": backend,
        "train_seconds": training["train_seconds"],
        "predict_seconds": prediction["predict_seconds"],
        "peak_memory_mb": training["peak_memory_mb"],
        "iterations": training["iterations"],
        "resumes": training["resumes"],
        "environment": {"train": training["environment"], "predict": prediction["environment"]},
        "commit": _commit(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        **({} if failed is None else {"failed": failed}),
    }


def write_replicates(folder: RunFolder, annotations: Path) -> None:
    """Bootstrap the AP of a run's boxes, and masks where it has them, over images, and keep the replicates.

    Every run is resampled alike, so that the difference of two is a subtraction. The replicates of a run
    whose training failed are NaN.

    Args:
        folder: The run's folder with its detections.
        annotations: COCO annotation file of the images that were predicted.
    """
    ground_truth = load_ground_truth(annotations)
    failed = "failed" in folder.read_training()
    for kind in KINDS:
        detections = folder.detections(kind)
        if detections.exists():
            if failed:
                replicates = unknown_replicates(len(ground_truth.image_ids))
            else:
                replicates = bootstrap_ap(ground_truth, load_detections(detections, ground_truth, kind))
            with atomic_write(folder.replicates(kind)) as temporary, temporary.open("wb") as file:
                replicates.save(file)


def _commit() -> str:
    """The project's commit, marked ``-dirty`` with uncommitted changes; ``unknown`` outside git."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    found = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parent, check=False)
    return found.stdout.strip() or "unknown"
