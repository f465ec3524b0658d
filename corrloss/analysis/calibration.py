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
#: Share of the score in what replaces it, so that scores that differ still do.
OF_SCORE = 1e-6
#: Lowest scores of the detections that count, besides 0; then those of the curves.
SCORES = (0.1, 0.3, 0.5)
CURVE = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


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
    found = reliability(matches, ground_truth, least_score)
    return {name: 100 * float(np.sum(bins[:, 0] * bins[:, 3])) for name, bins in found.items()}


def reliability(
    matches: Matches, ground_truth: GroundTruth, least_score: float = 0.0
) -> dict[str, np.ndarray]:
    """Return the reliability diagram behind each of `CALIBRATION`.

    Args:
        matches: From `match_for_calibration`.
        ground_truth: The annotations that were matched.
        least_score: Lowest score of the detections that count, 0 to 1.

    Returns:
        float64 (bins, 4) of each error: weight of the bin; mean score; mean IoU (of D-ECE: precision); mean
        of their absolute difference. All are means over classes (D-ECE has one class of all), so the error is
        the sum of weight times absolute difference. NaN without detections; an empty bin has weight 0.
    """
    annotated = np.isin(ground_truth.category_ids, ground_truth.category_id[~ground_truth.is_crowd])
    kept = (matches.score >= least_score) & annotated[matches.category]
    at_any, at_half = kept & ~matches.ignored[0]
    score, category, one = matches.score, matches.category, np.zeros(len(kept), dtype=int)
    true = matches.is_true[0, 1].astype(np.float64)
    return {
        "LaECE": _bins(score[at_any], _targets(matches)[at_any], category[at_any], LAECE_BINS),
        "D_ECE": _bins(score[at_half], true[at_half], one[at_half], DECE_BINS),
    }


def calibration_curves(matches: Matches, ground_truth: GroundTruth) -> dict[str, list]:
    """Return what the figures of calibration need, for JSON; None where a value is undefined.

    Args:
        matches: From `match_for_calibration`.
        ground_truth: The annotations that were matched.

    Returns:
        ``LaECE`` and ``D_ECE``: the bins of `reliability`, of all detections. ``over_scores``: the errors in
        points of the detections from each of `CURVE` on, as ``[score, LaECE, D_ECE]``.
    """
    errors = [calibration_errors(matches, ground_truth, score) for score in CURVE]
    rows = [
        [score, *(of_score[name] for name in CALIBRATION)]
        for score, of_score in zip(CURVE, errors, strict=True)
    ]
    found = reliability(matches, ground_truth) | {"over_scores": np.array(rows)}
    return {
        name: [[None if np.isnan(value) else round(value, 5) for value in row] for row in table.tolist()]
        for name, table in found.items()
    }


def calibrated(ground_truth: GroundTruth, detections: Detections, matches: Matches) -> Detections:
    """Replace scores by isotonic regressions of the IoU on the score, one a class.

    Those of the images of even index are fitted on the images of odd index, and the reverse, so no image is
    calibrated by itself. A regression never falls, and where it is level a millionth of the score is mixed
    in, so within a class and half the order of the scores stays: it mends calibration, not ranking. A class
    that has no detection in the other half keeps its scores.

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
            mended = np.clip(np.interp(score[own], at, target), 0, 1)
            score[own] += (1 - OF_SCORE) * (mended - score[own])
    return detections.with_scores(score)


def _targets(matches: Matches) -> np.ndarray:
    """Return the IoU of each detection with its match at any overlap, 0 without one, float64 (m,)."""
    return np.where(matches.is_true[0, 0], np.append(matches.pairs.iou, 0.0)[matches.pair[0, 0]], 0.0)


def _bins(score: np.ndarray, target: np.ndarray, group: np.ndarray, n_bins: int) -> np.ndarray:
    """Return weight, mean score, mean target and mean |difference| of bins (low, high], float64 (n_bins, 4).

    Entries of a group share a weight of 1 / groups, and bins are averaged over groups by weight.
    """
    if len(score) == 0:
        return np.full((n_bins, 4), np.nan)
    _, group, size = np.unique(group, return_inverse=True, return_counts=True)
    bins = np.searchsorted(np.linspace(0, 1, n_bins + 1)[1:-1], score, side="left")
    cell = group * n_bins + bins
    share = 1 / (size * len(size))[:, None]
    counts, scores, targets = (
        np.bincount(cell, values, len(size) * n_bins).reshape(-1, n_bins) * share
        for values in (None, score, target)
    )
    weight = counts.sum(axis=0)
    sums = scores.sum(axis=0), targets.sum(axis=0), np.abs(scores - targets).sum(axis=0)
    filled = np.where(weight > 0, weight, 1)
    return np.column_stack([weight, *(values / filled for values in sums)])
