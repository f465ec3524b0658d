"""Types of error of a run: oLRP and its parts, and TIDE's types."""

import numpy as np

from corrloss.analysis.ap import hotcoco_evaluation
from corrloss.analysis.matching import Matches
from corrloss.coco import Detections, GroundTruth, positions

OLRP = ("oLRP", "oLRP_Loc", "oLRP_FP", "oLRP_FN")
TIDE = ("Cls", "Loc", "Both", "Dupe", "Bkg", "Miss", "FP", "FN")


def optimal_lrp(matches: Matches, ground_truth: GroundTruth, threshold: float = 0.5) -> dict[str, float]:
    """Return the optimal localisation recall precision error and its three parts.

    Of Oksuz et al., *Localization Recall Precision* (ECCV 2018; TPAMI 2021): keeping a class's detections
    down to some score, with N_TP true and N_FP false positives and N_FN missed annotations,

        LRP = (Σ_TP (1 − IoU) / (1 − τ) + N_FP + N_FN) / (N_TP + N_FP + N_FN),

    and oLRP is its minimum over the score. At that score, Loc is the mean of 1 − IoU over true positives, FP
    is N_FP / (N_TP + N_FP) and FN is N_FN over the annotations. Means over the classes that have annotations;
    a class without a true positive has oLRP and FN of 1, and no Loc or FP, as in the authors' own code.

    Args:
        matches: of the size range "all", with `threshold` among its thresholds.
        ground_truth: the annotations that were matched.
        threshold: τ.

    Returns:
        `OLRP` in points, 0 (perfect) to 100; NaN where no class defines it.

    Raises:
        ValueError: `matches` lacks the threshold or the size range "all".
    """
    at = matches.index("all", threshold)
    true, counted = matches.is_true[at], ~matches.ignored[at]
    error = np.zeros(len(true))
    error[true] = (1 - matches.pairs.iou[matches.pair[at][true]]) / (1 - threshold)
    # Rows are ordered by image and rank, so a stable sort ranks ties as COCO's evaluation does.
    order = np.lexsort((-matches.score, matches.category))
    order = order[counted[order]]
    regular = positions(ground_truth.category_id[~ground_truth.is_crowd], ground_truth.category_ids)
    n_annotations = np.bincount(regular, minlength=len(ground_truth.category_ids))
    rows = [
        _optimum(true[chosen], error[chosen], int(n_annotations[category]), threshold)
        for category, chosen in _by_category(order, matches.category, len(n_annotations))
        if n_annotations[category]
    ]
    return dict(zip(OLRP, _mean_of_defined(np.array(rows).reshape(-1, len(OLRP))), strict=True))


def _by_category(order: np.ndarray, category: np.ndarray, n_categories: int) -> list[tuple[int, np.ndarray]]:
    starts = np.searchsorted(category[order], np.arange(1, n_categories))
    return list(enumerate(np.split(order, starts)))


def _optimum(
    true: np.ndarray, error: np.ndarray, n_annotations: int, threshold: float
) -> tuple[float, float, float, float]:
    """Return oLRP, Loc, FP and FN of one class, its detections in the order of their scores."""
    if not true.any():
        return 1.0, np.nan, np.nan, 1.0
    n_true, n_kept = np.cumsum(true), np.arange(1, len(true) + 1)
    n_false, n_missed = n_kept - n_true, n_annotations - n_true
    total = np.cumsum(error)
    lrp = (total + n_false + n_missed) / (n_kept + n_missed)
    best = int(np.argmin(lrp))
    location = total[best] * (1 - threshold) / n_true[best] if n_true[best] else np.nan
    return lrp[best], location, n_false[best] / n_kept[best], n_missed[best] / n_annotations


def _mean_of_defined(rows: np.ndarray) -> list[float]:
    columns = [column[~np.isnan(column)] for column in rows.T]
    return [100 * float(column.mean()) if len(column) else float("nan") for column in columns]


def tide_errors(ground_truth: GroundTruth, detections: Detections) -> dict[str, float]:
    """Return how much AP50 each of TIDE's error types costs, in points.

    Of Bolya et al., *TIDE* (ECCV 2020), as hotcoco computes it, at IoU 0.5 with background below 0.1: wrong
    class (Cls), poor box (Loc), both, duplicate (Dupe), background (Bkg), missed (Miss), and all false
    positives (FP) or negatives (FN). docs/measures.md has the three differences from the authors' tidecv.

    Returns:
        The gain in AP50 if all errors of a type were corrected, for each of `TIDE`, in points.
    """
    evaluation = hotcoco_evaluation(ground_truth, detections)
    gains = evaluation.tide_errors(pos_thr=0.5, bg_thr=0.1)["delta_ap"]
    return {name: 100 * float(gains[name]) for name in TIDE}
