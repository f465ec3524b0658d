"""How well scores follow IoUs: ρ_img before post-processing, ρ_cls after it.

Kahraman et al., *Correlation Loss* (AAAI 2023): ρ_img is the mean over images of Spearman's coefficient
between IoU and score of the positives before NMS; ρ_cls is the mean over classes of the same of the true
positives after NMS, over the whole data set. Pearson's, Kendall's (τ-b) and Lin's concordance coefficient are
computed of the same groups. All in points (100 times the coefficient), as the paper prints them.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from corrloss.analysis.matching import Matches, rank_in_group
from corrloss.coco import DetectionsError, GroundTruth, positions
from corrloss.files import read_arrays

COEFFICIENTS = ("spearman", "pearson", "kendall", "concordance")
#: What counts as a positive before post-processing; the paper does not state its own.
POSITIVE_IOU = 0.5
#: Thresholds at which every run is measured as well, to show how the measures depend on them.
SWEEP = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
#: Positives of an annotation that count in the second definition of ρ_img, by falling score.
TOP_PER_OBJECT = 10
#: Positives of an object that TOOD's coefficient counts, by falling score.
MANY_PER_OBJECT = 50
#: How well scores and IoUs agree within objects.
ALIGNMENT = ("object_PCC", "object_IoU", "best_box")
#: Positives are stored in float32, which may round 0.3 or an IoU of 1 a little past itself.
ROUNDING = 1e-6


@dataclass(frozen=True)
class Positives:
    """Detections before post-processing that overlap an annotation of their class; n entries.

    Attributes:
        path: the file, for messages.
        image_id: int64 (n,).
        category_id: int64 (n,).
        annotation_id: int64 (n,), the annotation of highest IoU.
        score: float32 (n,), in [0, 1].
        iou: float32 (n,), in [min_iou, 1].
        min_iou: the lowest IoU that was stored.
    """

    path: Path
    image_id: np.ndarray
    category_id: np.ndarray
    annotation_id: np.ndarray
    score: np.ndarray
    iou: np.ndarray
    min_iou: float


@dataclass(frozen=True)
class Correlation:
    """Mean coefficients over groups (images or classes), in points; NaN where no group has one.

    Attributes:
        spearman: mean of Spearman's ρ, -100 to 100.
        pearson: mean of Pearson's r.
        kendall: mean of Kendall's τ-b; NaN where it was not asked for.
        concordance: mean of Lin's concordance coefficient, from unbiased moments.
        n_groups: how many groups the means are over.
        n_left_out: groups that have annotations, but fewer than two positives, or positives of one score or
            one IoU, where the coefficients are undefined.
        n_positives: how many positives there are, in all groups.
    """

    spearman: float
    pearson: float
    kendall: float
    concordance: float
    n_groups: int
    n_left_out: int
    n_positives: int


def load_positives(path: str | os.PathLike, ground_truth: GroundTruth) -> Positives:
    """Read and check the positives that the predict stage stored.

    Raises:
        DetectionsError: the file is missing or no `.npz`; an array is missing or of another length; an image,
            category or annotation is unknown; a score is outside [0, 1] or an IoU outside [min_iou, 1].
    """
    path = Path(path)
    try:
        arrays = read_arrays(path)
    except ValueError as problem:
        raise DetectionsError(f"{path}: cannot read these positives ({problem}). Predict again.") from problem
    names = ("image_id", "category_id", "annotation_id", "score", "iou")
    missing = [name for name in (*names, "min_iou") if name not in arrays]
    if missing:
        raise DetectionsError(f"{path}: no array {', '.join(missing)}. Predict this run again.")
    lengths = {name: arrays[name].shape for name in names}
    if len(set(lengths.values())) != 1 or arrays["score"].ndim != 1:
        raise DetectionsError(f"{path}: arrays of different shapes {lengths}. Predict this run again.")
    if arrays["min_iou"].size != 1:
        raise DetectionsError(f"{path}: min_iou is not a number. Predict this run again.")
    positives = Positives(path, *(arrays[name] for name in names), arrays["min_iou"].item())
    _check_positives(positives, ground_truth)
    return positives


def rho_img(
    positives: Positives,
    ground_truth: GroundTruth,
    threshold: float = POSITIVE_IOU,
    kendall: bool = True,
    top: int | None = None,
) -> Correlation:
    """Return the image-level correlation of the positives before post-processing.

    Args:
        positives: from `load_positives`.
        ground_truth: the annotations; images with any but crowds are those that could have had positives.
        threshold: the IoU from which a detection is a positive.
        kendall: whether to compute Kendall's coefficient, the slow one.
        top: positives of each annotation that count, those of highest score; all unless given. How many a
            model has depends on the score from which it keeps detections, so a fixed number compares models
            on the same footing.

    Raises:
        ValueError: the threshold is below what was stored.
    """
    kept = _at_least(positives, threshold)
    if top is not None:
        kept = kept[_rank_in_annotation(positives, kept) < top]
    groups = positions(positives.image_id[kept], ground_truth.image_ids)
    n_possible = len(np.unique(ground_truth.image_id[~ground_truth.is_crowd]))
    return correlate(positives.score[kept], positives.iou[kept], groups, n_possible, kendall)


def rho_of_images(
    positives: Positives, ground_truth: GroundTruth, threshold: float = POSITIVE_IOU
) -> tuple[np.ndarray, np.ndarray]:
    """Return what `rho_img` is the mean of.

    Returns:
        Indices into `GroundTruth.image_ids` of the images that have a coefficient, and Spearman's of each,
        -1 to 1.
    """
    kept = _at_least(positives, threshold)
    groups = positions(positives.image_id[kept], ground_truth.image_ids)
    return spearman_by_group(positives.score[kept], positives.iou[kept], groups)


def alignment(positives: Positives, threshold: float = POSITIVE_IOU) -> dict[str, float]:
    """Return how well scores and IoUs agree within objects, before post-processing.

    Args:
        positives: from `load_positives`.
        threshold: the IoU from which a detection is a positive.

    Returns:
        `ALIGNMENT` in points; NaN where no object defines it. After Feng et al., *TOOD* (ICCV 2021):
        ``object_PCC``, the mean over objects of Pearson's coefficient of the 50 best scored positives, and
        ``object_IoU``, the mean over objects of the mean IoU of the 10 best scored. ``best_box``: of the
        objects with several positives, in how many the one of highest IoU has the highest score.
    """
    kept = _at_least(positives, threshold)
    rank = _rank_in_annotation(positives, kept)
    score, iou = positives.score[kept], positives.iou[kept].astype(np.float64)
    _, objects, counts = np.unique(positives.annotation_id[kept], return_inverse=True, return_counts=True)
    many = rank < MANY_PER_OBJECT
    _, x, y, groups, sizes = _defined(score[many], iou[many], objects[many])
    ten = rank < TOP_PER_OBJECT
    mean_iou = np.bincount(objects[ten], iou[ten]) / np.maximum(np.bincount(objects[ten]), 1)
    highest = np.zeros(len(counts))
    np.maximum.at(highest, objects, iou)
    first = (rank == 0) & (counts[objects] > 1)
    found = _pearson(x, y, groups, sizes), mean_iou, iou[first] == highest[objects[first]]
    means = [100 * float(values.mean()) if len(values) else float("nan") for values in found]
    return dict(zip(ALIGNMENT, means, strict=True))


def _at_least(positives: Positives, threshold: float) -> np.ndarray:
    """Return the indices of the positives of at least this IoU."""
    if threshold < positives.min_iou - ROUNDING:
        raise ValueError(
            f"threshold is {threshold}, but {positives.path} holds positives of IoU {positives.min_iou} or "
            "more; choose a threshold at or above it, or predict again with a lower one."
        )
    return np.flatnonzero(positives.iou >= threshold)


def _rank_in_annotation(positives: Positives, kept: np.ndarray) -> np.ndarray:
    """Return 0, 1, 2, ... for the positives of each annotation by falling score; of equal scores by file."""
    order = np.lexsort((-positives.score[kept], positives.annotation_id[kept]))
    rank = np.empty(len(kept), dtype=int)
    rank[order] = rank_in_group(positives.annotation_id[kept][order])
    return rank


def rho_cls(
    matches: Matches, ground_truth: GroundTruth, threshold: float = POSITIVE_IOU, kendall: bool = True
) -> Correlation:
    """Return the class-level correlation of the true positives after post-processing.

    Args:
        matches: of the size range "all", with `threshold` among its thresholds.
        ground_truth: the annotations that were matched.
        threshold: the IoU from which a detection is a true positive, by COCO's matching.
        kendall: whether to compute Kendall's coefficient, the slow one.
    """
    rows, iou = true_positives(matches, threshold)
    n_possible = len(np.unique(ground_truth.category_id[~ground_truth.is_crowd]))
    return correlate(matches.score[rows], iou, matches.category[rows], n_possible, kendall)


def true_positives(matches: Matches, threshold: float = POSITIVE_IOU) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of `matches` that are true positives at `threshold`, and their IoUs; int64, float64.

    Raises:
        ValueError: `matches` lacks the threshold or the size range "all".
    """
    at = matches.index("all", threshold)
    rows = np.flatnonzero(matches.is_true[at])
    return rows, matches.pairs.iou[matches.pair[at][rows]]


def correlate(
    scores: np.ndarray, ious: np.ndarray, groups: np.ndarray, n_possible: int, kendall: bool = True
) -> Correlation:
    """Return the mean over groups of four coefficients between scores and IoUs.

    Args:
        scores: float (n,).
        ious: float (n,).
        groups: int (n,), non-negative labels, in any order.
        n_possible: how many groups there could have been; what is not used of them is counted as left out.
        kendall: whether to compute Kendall's coefficient.

    Examples:
        >>> scores, ious = np.array([0.1, 0.2, 0.9, 0.5]), np.array([0.5, 0.6, 0.7, 0.9])
        >>> correlate(scores, ious, np.zeros(4, int), n_possible=2).spearman
        80.0
    """
    n_positives = len(scores)
    _, scores, ious, groups, counts = _defined(scores, ious, groups)
    means = {
        "spearman": _pearson(_ranks(scores, groups), _ranks(ious, groups), groups, counts),
        "pearson": _pearson(scores, ious, groups, counts),
        "kendall": _kendall(scores, ious, counts) if kendall else np.array([]),
        "concordance": _concordance(scores, ious, groups, counts),
    }
    points = {
        name: 100 * float(values.mean()) if len(values) else float("nan") for name, values in means.items()
    }
    return Correlation(
        **points, n_groups=len(counts), n_left_out=n_possible - len(counts), n_positives=n_positives
    )


def spearman_by_group(
    scores: np.ndarray, ious: np.ndarray, groups: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the groups that have a coefficient, int (g,), and Spearman's of each, float64 (g,), -1 to 1."""
    labels, scores, ious, groups, counts = _defined(scores, ious, groups)
    return labels, _pearson(_ranks(scores, groups), _ranks(ious, groups), groups, counts)


def _defined(
    scores: np.ndarray, ious: np.ndarray, groups: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Leave out undefined groups and sort by group.

    Returns:
        The labels of the groups that are left (g,), scores and IoUs (n,), groups as 0 to g - 1 (n,), and how
        many entries each has (g,).
    """
    order = np.argsort(groups, kind="stable")
    scores, ious = np.asarray(scores, dtype=np.float64)[order], np.asarray(ious, dtype=np.float64)[order]
    labels, groups, counts = np.unique(groups[order], return_inverse=True, return_counts=True)
    defined = (counts >= 2) & _varies(scores, counts) & _varies(ious, counts)
    kept = defined[groups]
    counts = counts[defined]
    groups = np.repeat(np.arange(len(counts)), counts)
    return labels[defined], scores[kept], ious[kept], groups, counts


def _varies(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return for each run of `counts` values whether it holds more than one value, bool (n_groups,)."""
    if len(values) == 0:
        return np.zeros(len(counts), dtype=bool)
    starts = np.cumsum(counts) - counts
    return np.maximum.reduceat(values, starts) > np.minimum.reduceat(values, starts)


def _ranks(values: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Return ranks within groups, ties sharing the mean of theirs, float64 (n,)."""
    order = np.lexsort((values, groups))
    ties = np.ones(len(values), dtype=bool)
    ties[1:] = (np.diff(values[order]) != 0) | (np.diff(groups[order]) != 0)
    tie = np.cumsum(ties) - 1
    position = np.arange(len(values), dtype=np.float64)
    mean = np.bincount(tie, position) / np.maximum(np.bincount(tie), 1)
    ranks = np.empty(len(values))
    ranks[order] = mean[tie]
    return ranks


def _moments(
    x: np.ndarray, y: np.ndarray, groups: np.ndarray, counts: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return sums of squares of x and y, of their products, and the difference of means, by group."""
    mean_x, mean_y = (np.bincount(groups, v, len(counts)) / counts for v in (x, y))
    dx, dy = x - mean_x[groups], y - mean_y[groups]
    xx, yy, xy = (np.bincount(groups, v, len(counts)) for v in (dx * dx, dy * dy, dx * dy))
    return xx, yy, xy, mean_x - mean_y


def _pearson(x: np.ndarray, y: np.ndarray, groups: np.ndarray, counts: np.ndarray) -> np.ndarray:
    xx, yy, xy, _ = _moments(x, y, groups, counts)
    return np.clip(xy / np.sqrt(xx * yy), -1, 1)


def _concordance(x: np.ndarray, y: np.ndarray, groups: np.ndarray, counts: np.ndarray) -> np.ndarray:
    xx, yy, xy, shift = _moments(x, y, groups, counts)
    return 2 * xy / (xx + yy + (counts - 1) * shift**2)


def _kendall(x: np.ndarray, y: np.ndarray, counts: np.ndarray) -> np.ndarray:
    from scipy.stats import kendalltau

    ends = np.cumsum(counts)
    return np.array(
        [
            kendalltau(x[end - count : end], y[end - count : end]).statistic
            for end, count in zip(ends, counts, strict=True)
        ]
    )


def _check_positives(positives: Positives, ground_truth: GroundTruth) -> None:
    known = np.sort(ground_truth.annotation_id)
    problems = {
        "image_id": positions(positives.image_id, ground_truth.image_ids) < 0,
        "category_id": positions(positives.category_id, ground_truth.category_ids) < 0,
        "annotation_id": positions(positives.annotation_id, known) < 0,
        "score": ~((positives.score >= 0) & (positives.score <= 1)),
        "iou": ~((positives.iou >= positives.min_iou - ROUNDING) & (positives.iou <= 1 + ROUNDING)),
    }
    for name, bad in problems.items():
        if bad.any():
            index = int(np.argmax(bad))
            reason = "not in the ground truth" if name.endswith("_id") else "outside its range"
            raise DetectionsError(
                f"{positives.path}: positive[{index}] (image {positives.image_id[index]}): {name} "
                f"{getattr(positives, name)[index]} is {reason} ({int(bad.sum())} such). "
                "Predict this run again."
            )
