"""What a gain in AP comes from: the order of the scores, or the boxes.

The boxes of two models are matched with each other. With the boxes of one and the order of the other there
are two more AP between those of the models.
"""

from dataclasses import dataclass, replace

import numpy as np

from corrloss.analysis.ap import Backend, average_precision
from corrloss.analysis.bounds import reassign_scores
from corrloss.analysis.correlation import POSITIVE_IOU
from corrloss.analysis.matching import match
from corrloss.coco import Detections, GroundTruth

#: AP of the baseline's boxes in this model's order; of this model's boxes in the baseline's order; percent of
#: this model's boxes that have a partner. The first two are AP itself where both models are the same.
PARTS = ("order_AP", "boxes_AP", "matched")
HYBRIDS = PARTS[:2]
#: Errors of TIDE whose change belongs to the parts of a gain.
ERRORS = ("tide_Loc", "tide_Cls", "tide_Dupe", "tide_Bkg")


@dataclass(frozen=True)
class Exchanged:
    """Two models between a baseline and a model with the loss.

    Attributes:
        order_AP: The baseline's boxes in the model's order.
        boxes_AP: The model's boxes in the baseline's order.
        matched: Percent of the model's boxes that have a partner; NaN where it has no boxes.
    """

    order_AP: Detections
    boxes_AP: Detections
    matched: float


def exchange(ground_truth: GroundTruth, baseline: Detections, other: Detections) -> Exchanged:
    """Exchange the orders of two models.

    Args:
        ground_truth: Annotations, for images and classes alone.
        baseline: Boxes of the baseline.
        other: Boxes of the model with the loss.
    """
    reordered, _ = in_order_of(baseline, other, ground_truth)
    boxes, own = in_order_of(other, baseline, ground_truth)
    return Exchanged(reordered, boxes, 100 * len(own) / len(other) if len(other) else float("nan"))


def gain_parts(
    ground_truth: GroundTruth, baseline: Detections, other: Detections, backend: Backend = "hotcoco"
) -> dict[str, float]:
    """Return `PARTS` of a pair of models, in points and percent.

    Args:
        ground_truth: Annotations of the test images.
        baseline: Boxes of the baseline.
        other: Boxes of the model with the loss.
        backend: Tool that computes AP.
    """
    found = exchange(ground_truth, baseline, other)
    aps = {
        name: average_precision(ground_truth, getattr(found, name), backend=backend)["AP"] for name in HYBRIDS
    }
    return aps | {"matched": found.matched}


def in_order_of(
    detections: Detections, other: Detections, ground_truth: GroundTruth, threshold: float = POSITIVE_IOU
) -> tuple[Detections, np.ndarray]:
    """Give the detections that another model has, too, their own scores in the order of the other's.

    A detection's partner is a box of the other model in the same image and class with an IoU of at least
    `threshold`, chosen as COCO matches detections with annotations: by falling score, the free box of highest
    IoU. Within each class, over the whole data set, the scores of the detections with partners are reassigned
    in the order of their partners' scores. Boxes, classes and all other scores stay.

    Args:
        detections: Boxes of one model.
        other: Boxes of another one on the same images.
        ground_truth: Annotations, for images and classes alone.
        threshold: IoU from which two boxes are partners, in (0, 1].

    Returns:
        The detections with other scores, and the indices of those that have a partner, int64.
    """
    n = len(other)
    columns = {"image_id": other.image_id, "category_id": other.category_id, "bbox": other.bbox}
    columns |= {"annotation_id": np.arange(1, n + 1), "area": other.bbox[:, 2] * other.bbox[:, 3]}
    boxes = replace(ground_truth, **columns, is_crowd=np.zeros(n, dtype=bool), segmentation=[None] * n)
    matches = match(boxes, detections, [threshold], ("all",))
    matched = matches.is_true[0, 0]
    rows = matches.detection[matched]
    order = other.score[matches.pairs.annotation[matches.pair[0, 0, matched]]]
    score = detections.score.copy()
    score[rows] = reassign_scores(score[rows], order, matches.category[matched], "best")
    return detections.with_scores(score), rows
