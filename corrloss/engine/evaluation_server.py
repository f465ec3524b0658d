"""Prediction of images without published ground truth, for the evaluation server that has it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from corrloss.coco.published import PUBLISHED
from corrloss.coco.submission import pack_test_dev
from corrloss.engine.predict import predict
from corrloss.plan.config_files import dump, load
from corrloss.plan.configs import with_test_images

ALGORITHM = "corrloss"  # stands in the names that the server wants; the run's folder says which run it is


@dataclass(frozen=True)
class TrainedRun:
    """What a run left that predicts.

    Attributes:
        config: Its resolved config.
        weights: Its state dict.
        training: The report of its training.
    """

    config: Path
    weights: Path
    training: Path


def predict_test_dev(
    run: TrainedRun, data: dict, data_root: Path, folder: Path, log: Callable[[str], None]
) -> Path:
    """Predict the test images of a data set with a run that was trained on another, and pack the boxes.

    Args:
        run: The trained run.
        data: The data set's file in ``experiments/datasets``; its ``test`` lists images, with or without
            annotations.
        data_root: Folder that holds the data sets.
        folder: Where the zip file goes, and scratch files on the way.
        log: Takes lines about the progress.

    Returns:
        The zip file, ready for the server: see :func:`corrloss.coco.submission.pack_test_dev`.

    Raises:
        WeightsError: The weights do not load or do not fit the config's model.
        DataSetError: The image list is not that of the data set, or a detection is malformed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    expected = data["test"].get("expected")
    with tempfile.TemporaryDirectory(dir=folder, prefix=".predict-") as scratch:
        config, detections = Path(scratch) / "config.py", Path(scratch) / "detections.bbox.json"
        changed = with_test_images(load(run.config).to_dict(), data, data_root)
        config.write_text(dump(changed), encoding="utf-8")
        predict(config, run.weights, run.training, detections, Path(scratch) / "prediction.json", log)
        return pack_test_dev(
            detections,
            data_root / data["folder"] / data["test"]["ann_file"],
            folder,
            ALGORITHM,
            published_images=PUBLISHED[expected].images if expected else None,
        )
