"""AP at the best and the worst order of the scores of the positives.

Boxes and classes stay; only the scores of the positives are reassigned: within a class after
post-processing (here), within an image before it (the predict stage, which then runs the detector's own
post-processing again and stores `detections_best` and `detections_worst`). Neither order bounds AP: a
detection that loses its score may lose its annotation to a duplicate with a better box.
"""

from typing import Literal

import numpy as np

from corrloss.analysis.correlation import POSITIVE_IOU, true_positives
from corrloss.analysis.matching import Matches
from corrloss.coco import Detections, GroundTruth

Order = Literal["best", "worst"]
ORDERS = ("best", "worst")
LEVELS = ("cls", "img")
#: AP in points that differ by less are equal.
ROUNDING = 1e-9


def reassign_scores(scores: np.ndarray, ious: np.ndarray, groups: np.ndarray, order: Order) -> np.ndarray:
    """Reassign the scores of each group by the rank of the IoUs.

    Args:
        scores: (n,) of any float type.
        ious: (n,).
        groups: int (n,), labels of the groups (images, or classes), in any order.
        order: "best" gives the highest score to the highest IoU of the group, "worst" to the lowest.

    Returns:
        (n,), of the type of `scores`; each group has the scores it had. Of equal IoUs the earlier gets the
        higher score.

    Raises:
        ValueError: an unknown order, or arrays of different lengths.

    >>> reassign_scores(np.array([0.9, 0.5]), np.array([0.6, 0.8]), np.zeros(2, int), "best").tolist()
    [0.5, 0.9]
    """
    if order not in ORDERS:
        raise ValueError(f"order is {order!r}; choose one of {', '.join(ORDERS)}.")
    if not len(scores) == len(ious) == len(groups):
        raise ValueError(
            f"{len(scores)} scores, {len(ious)} IoUs and {len(groups)} groups; give one of each."
        )
    sign = -1 if order == "best" else 1
    reassigned = np.empty_like(scores)
    reassigned[np.lexsort((sign * ious, groups))] = scores[np.lexsort((-scores, groups))]
    return reassigned


def bound_after_nms(
    detections: Detections, matches: Matches, order: Order, threshold: float = POSITIVE_IOU
) -> Detections:
    """Reassign the scores of each class's true positives, over the whole data set.

    Args:
        detections: a run's detections after post-processing.
        matches: of these detections, of the size range "all", with `threshold` among its thresholds.
        order: "best" or "worst".
        threshold: the IoU from which a detection is a true positive.

    Returns:
        The same detections with other scores. Their AP comes from a new matching, as for any detections.
    """
    rows, iou = true_positives(matches, threshold)
    chosen = matches.detection[rows]
    score = detections.score.copy()
    score[chosen] = reassign_scores(score[chosen], iou, matches.category[rows], order)
    return detections.with_scores(score)


def order_failures(metrics: dict[str, float], level: str) -> int:
    """Return how many of worst ≤ AP and AP ≤ best fail: 0, 1 or 2.

    Args:
        metrics: ``AP``, ``bound_<level>_best_AP`` and ``bound_<level>_worst_AP``.
        level: "cls" or "img".

    >>> order_failures({"AP": 68.55, "bound_cls_best_AP": 68.55, "bound_cls_worst_AP": 75.05}, "cls")
    1
    """
    worst, best = (metrics[f"bound_{level}_{order}_AP"] for order in ("worst", "best"))
    return (worst > metrics["AP"] + ROUNDING) + (metrics["AP"] > best + ROUNDING)


def with_ious_as_scores(detections: Detections, matches: Matches, ground_truth: GroundTruth) -> Detections:
    """Give each detection its IoU with the nearest annotation of its class as its score.

    Zhang et al., *VarifocalNet* (CVPR 2021), do so before post-processing; this is after it. Crowds do not
    count.

    Args:
        detections: a run's detections after post-processing.
        matches: of these detections; an IoU below their lowest threshold becomes a score of 0.
        ground_truth: the annotations that were matched.
    """
    pairs = matches.pairs
    own = ~ground_truth.is_crowd[pairs.annotation]
    score = np.zeros_like(detections.score)
    np.maximum.at(score, matches.detection[pairs.row[own]], pairs.iou[own])
    return detections.with_scores(score)
