"""What a run left of its predictions: read and checked once, for every figure that is computed from it."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from corrloss.analysis.bounds import ORDERS
from corrloss.analysis.calibration import calibrated, match_for_calibration
from corrloss.analysis.correlation import Positives, load_positives
from corrloss.analysis.matching import Matches
from corrloss.coco import Detections, GroundTruth, load_detections, load_ground_truth
from corrloss.run import RunFolder


@dataclass(frozen=True)
class StoredRun:
    """The predictions of one run on the test images.

    Attributes:
        ground_truth: Annotations of the test images.
        boxes: Detected boxes.
        masks: Detected masks; None for a detector without masks.
        positives: Positives before post-processing; None where the run stored none.
        bounds: Boxes after scores were reassigned before post-processing, by order; may be empty.
    """

    ground_truth: GroundTruth
    boxes: Detections
    masks: Detections | None = None
    positives: Positives | None = None
    bounds: dict[str, Detections] = field(default_factory=dict)

    @property
    def detections(self) -> list[Detections]:
        """Boxes and, where there are any, masks."""
        return [self.boxes] if self.masks is None else [self.boxes, self.masks]

    @cached_property
    def calibrated(self) -> tuple[Detections, Matches]:
        """Boxes after isotonic regression on held-out images, with their matches for calibration."""
        boxes = calibrated(self.ground_truth, self.boxes, self.calibration_matches)
        return boxes, match_for_calibration(self.ground_truth, boxes)

    @cached_property
    def calibration_matches(self) -> Matches:
        """Matches of the boxes for calibration."""
        return match_for_calibration(self.ground_truth, self.boxes)


def load_run(folder: RunFolder, annotations: Path, identity: str = "") -> StoredRun:
    """Read and check all predictions of a run.

    Args:
        folder: The run's folder; it holds boxes and, depending on the detector, masks, positives and bounds.
        annotations: COCO annotation file of the test images.
        identity: What the prediction must be; "" checks nothing.

    Raises:
        StageReportError: The files are of another prediction.
        DataSetError: The annotation file is unusable.
        DetectionsError: The file of boxes is missing, or one of the files is unusable.
    """
    ground_truth = load_ground_truth(annotations)
    masks, bounds = folder.detections("segm"), {order: folder.bound(order) for order in ORDERS}
    run = StoredRun(
        ground_truth,
        load_detections(folder.detections(), ground_truth),
        load_detections(masks, ground_truth, "segm") if masks.exists() else None,
        load_positives(folder.positives, ground_truth) if folder.positives.exists() else None,
        {order: load_detections(path, ground_truth) for order, path in bounds.items() if path.exists()},
    )
    if identity:  # last: of a damaged file its own message says more
        folder.read_prediction(identity)
    return run
