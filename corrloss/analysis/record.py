"""The record of one run: its figures, and the circumstances in which they were measured."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from corrloss.analysis.ap import Backend
from corrloss.analysis.calibration import calibration_curves
from corrloss.analysis.metrics import metric_names, run_metrics
from corrloss.analysis.replicates import bootstrap_ap, unknown_replicates
from corrloss.analysis.stored_run import StoredRun
from corrloss.files import atomic_write
from corrloss.run import RunFolder


def make_record(
    run: str, identity: str, folder: RunFolder, stored: StoredRun, backend: Backend = "hotcoco"
) -> dict:
    """Compute a run's figures and collect everything else that is known of the run.

    Args:
        run: Name of the run.
        identity: Identity of the evaluation.
        folder: The run's folder, with the reports of training and prediction.
        stored: The run's predictions, from `corrloss.analysis.stored_run.load_run`.
        backend: Tool that computes AP.

    Returns:
        ``run, seed, identity, metrics, calibration, ap_backend, train_seconds, predict_seconds,
        peak_memory_mb, environment, iterations, resumes, commit, date``; after a failed training also
        ``failed``, the reason, and every metric is None. ``calibration`` has the curves of the boxes as they
        are, ``none``, and after isotonic regression, ``isotonic``.

    Raises:
        StageReportError: The report of the training or of the prediction is damaged.
    """
    training, prediction = folder.read_training(), folder.read_prediction()
    if "failed" in training:
        metrics, calibration = dict.fromkeys(metric_names(masks=stored.masks is not None)), {}
    else:
        metrics, calibration = run_metrics(stored, backend), _calibration(stored)
    return {
        "run": run,
        "seed": int(run.rpartition("seed")[2]),
        "identity": identity,
        "metrics": metrics,
        "calibration": calibration,
        "ap_backend": backend,
        "train_seconds": training["train_seconds"],
        "predict_seconds": prediction["predict_seconds"],
        "peak_memory_mb": training["peak_memory_mb"],
        "iterations": training["iterations"],
        "resumes": training["resumes"],
        "environment": {"train": training["environment"], "predict": prediction["environment"]},
        "commit": _commit(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        **({"failed": training["failed"]} if "failed" in training else {}),
    }


def _calibration(stored: StoredRun) -> dict[str, dict[str, list]]:
    matches = {"none": stored.calibration_matches, "isotonic": stored.calibrated[1]}
    return {name: calibration_curves(found, stored.ground_truth) for name, found in matches.items()}


def write_replicates(folder: RunFolder, identity: str, stored: StoredRun) -> None:
    """Write the bootstrap replicates of the AP of a run's boxes and, where it has them, masks.

    The replicates of a run whose training failed are NaN.

    Args:
        folder: The run's folder, with the report of the training.
        identity: Identity of the evaluation.
        stored: The run's predictions.

    Raises:
        StageReportError: The report of the training is damaged.
    """
    failed = "failed" in folder.read_training()
    for detections in stored.detections:
        if failed:
            replicates = unknown_replicates(stored.ground_truth)
        else:
            of_boxes = {"positives": stored.positives, "mended": stored.calibrated[0]}
            more = of_boxes if detections is stored.boxes else {}
            replicates = bootstrap_ap(stored.ground_truth, detections, **more)
        path = folder.replicates(detections.iou_type)
        with atomic_write(path) as temporary, temporary.open("wb") as file:
            replace(replicates, identity=identity).save(file)


def _commit() -> str:
    """Return the project's commit, marked ``-dirty`` with uncommitted changes; ``unknown`` without git."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        folder = Path(__file__).parent
        found = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)
    except OSError:  # git is not installed
        return "unknown"
    return found.stdout.strip() or "unknown"
