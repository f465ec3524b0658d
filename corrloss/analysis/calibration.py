"""Do scores mean what they say? Calibration errors of detections, and isotonic regression as a control.

Two definitions, both in points. *LaECE* (Oksuz et al., CVPR 2023; as in Kuzucu et al., *On Calibration of
Object Detectors*, ECCV 2024): |mean score − ΣIoU / detections| of each of 25 bins of the scores of a class,
averaged over bins with the number of their detections as weights, then over classes; IoU is that of the match
at any overlap, 0 without one. *D-ECE* (Küppers et al., CVPR Workshops 2020): the same of |mean score −
precision| at IoU 0.5 in 10 bins, of all classes together.
"""

import numpy as np
from scipy.optimize import isotonic_regression

from corrloss.analysis.matching import Matches, match
from corrloss.coco import Detections, GroundTruth, positions

CALIBRATION = ("LaECE", "D_ECE")
LAECE_BINS, DECE_BINS = 25, 10
#: IoU from which boxes overlap at all; at 0 a box would match an annotation that it does not touch.
ANY_OVERLAP = 1e-9
#: Lowest scores of the detections that count, besides 0.
SCORES = (0.1, 0.3, 0.5)


def match_for_calibration(ground_truth: GroundTruth, detections: Detections) -> Matches:
    """Return the matches that the other functions need: at any overlap and at IoU 0.5."""
    return match(ground_truth, detections, [ANY_OVERLAP, 0.5], ("all",))


def calibration_errors(
    matches: Matches, ground_truth: GroundTruth, least_score: float = 0.0
) -> dict[str, float]:
    """Return `CALIBRATION` of the detections from a score on, in points; NaN where there are none.

    Args:
        matches: From `match_for_calibration`.
        ground_truth: The annotations that were matched. Classes without any do not count, as in AP.
        least_score: Lowest score of the detections that count, 0 to 1.
    """
    annotated = np.isin(ground_truth.category_ids, ground_truth.category_id[~ground_truth.is_crowd])
    kept = (matches.score >= least_score) & annotated[matches.category]
    iou, ignored = _targets(matches), matches.ignored[0]
    own = kept & ~ignored[0]
    classes = [own & (matches.category == index) for index in np.unique(matches.category[own])]
    errors = [_expected_error(matches.score[rows], iou[rows], LAECE_BINS) for rows in classes]
    own = kept & ~ignored[1]
    d_ece = _expected_error(matches.score[own], matches.is_true[0, 1, own].astype(float), DECE_BINS)
    return {"LaECE": 100 * float(np.mean(errors)) if errors else float("nan"), "D_ECE": 100 * d_ece}


def calibrated(ground_truth: GroundTruth, detections: Detections, matches: Matches) -> Detections:
    """Replace scores by isotonic regressions of the IoU on the score, one a class.

    Those of the images of even index are fitted on the images of odd index, and the reverse, so no image is
    calibrated by itself. A regression never falls, so within a class and half it keeps the order of the
    scores or makes them equal: it mends calibration, not ranking. A class that has no detection in the other
    half keeps its scores.

    Args:
        ground_truth: The annotations that were matched.
        detections: What was matched.
        matches: From `match_for_calibration`.
    """
    iou = _targets(matches)
    image = positions(detections.image_id, ground_truth.image_ids)
    category = positions(detections.category_id, ground_truth.category_ids)
    group = 2 * category + image % 2
    fitted_group = np.where(matches.ignored[0, 0], -1, 2 * matches.category + (1 - matches.image % 2))
    score = detections.score.copy()
    for name in np.unique(group):
        fit, own = fitted_group == name, group == name
        if fit.any():
            at, inverse = np.unique(matches.score[fit], return_inverse=True)
            counts = np.bincount(inverse)
            target = isotonic_regression(np.bincount(inverse, iou[fit]) / counts, weights=counts).x
            score[own] = np.clip(np.interp(score[own], at, target), 0, 1)
    return detections.with_scores(score)


def _targets(matches: Matches) -> np.ndarray:
    """Return the IoU of each detection with its match at any overlap, 0 without one, float64 (m,)."""
    return np.where(matches.is_true[0, 0], np.append(matches.pairs.iou, 0.0)[matches.pair[0, 0]], 0.0)


def _expected_error(scores: np.ndarray, targets: np.ndarray, n_bins: int) -> float:
    """Return the mean of |mean score − mean target| over bins (low, high], weighted by their entries."""
    if len(scores) == 0:
        return float("nan")
    bins = np.searchsorted(np.linspace(0, 1, n_bins + 1)[1:-1], scores, side="left")
    return float(np.abs(np.bincount(bins, scores - targets)).sum() / len(scores))
