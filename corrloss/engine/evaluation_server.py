"""Prediction of images without published ground truth, packed for the evaluation server that has it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from mmengine.config import Config

from corrloss.coco.published import PUBLISHED
from corrloss.coco.submission import pack_test_dev
from corrloss.engine.predict import build_test_runner
from corrloss.engine.weights import WeightsError
from corrloss.plan.configs import with_test_images
from corrloss.run import RunFolder

ALGORITHM = "corrloss"  # in the file names that the server expects; the run's folder names the run


def predict_test_dev(
    folder: RunFolder, config: dict, data: dict, data_root: Path, log: Callable[[str], None]
) -> Path:
    """Predict the test images of another data set than the run's, of the same classes, and pack the boxes.

    Args:
        folder: The folder of a trained run; the zip file goes to its ``test_dev``.
        config: Resolved config of the run.
        data: The data set's file in ``experiments/datasets``; its ``test`` lists images, with or without
            annotations.
        data_root: Folder that holds the data sets.
        log: Called with lines about the progress.

    Returns:
        The zip file, ready for the server: see `corrloss.coco.submission.pack_test_dev`.

    Raises:
        StageReportError: The training is of another config.
        WeightsError: The training failed, or the weights do not load or do not fit the config's model.
        DataSetError: The image list is not that of the data set, or a detection is malformed.
    """
    expected = data["test"].get("expected")
    with folder.exclusive(log):
        if reason := folder.read_training(config["bench"]["identity"]["training"]).get("failed"):
            raise WeightsError(
                f"{folder.weights}: expected weights of a training that did not fail, found: {reason}"
            )
        folder.test_dev.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.path, prefix=".predict-") as scratch:
            changed = Config(with_test_images(config, data, data_root))
            build_test_runner(changed, folder.weights, Path(scratch), log).test()
            return pack_test_dev(
                RunFolder(Path(scratch)).detections(),
                data_root / data["folder"] / data["test"]["ann_file"],
                folder.test_dev,
                ALGORITHM,
                published_images=PUBLISHED[expected].images if expected else None,
            )
