"""AP and oLRP on resamples of the images: a replicate is a vector of image weights; matching is done once.

An image that is drawn k times counts k times: its annotations have weight k in recall, its detections weight
k in precision. Matching does not depend on the draw. Precision changes only at true positives, where it is
(weighted true positives so far) / (weighted detections so far); recall gives the number of COCO's 101 recall
points that the true positive reaches.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np

from corrloss.analysis.ap import METRICS as COCO_METRICS
from corrloss.analysis.matching import AREAS, THRESHOLDS, Matches
from corrloss.coco import GroundTruth, positions

#: The figures that are resampled: the first six of COCO's twelve, AP to AP_L, and oLRP.
METRICS = (*COCO_METRICS[:6], "oLRP")
#: COCO's recall points in the same floating-point representation; 0.57 is slightly above 57 / 100.
RECALLS = np.linspace(0, 1, 101)
#: Replicates evaluated at once: enough to amortise NumPy's call overhead, few enough to stay in cache.
CHUNK = 100


def weighted_ap(
    matches: Matches, ground_truth: GroundTruth, weights: np.ndarray, workers: int = 1
) -> np.ndarray:
    """Return AP and oLRP where each image counts as often as its weight says.

    The result equals COCO's AP, and `optimal_lrp`, on a data set that contains image i w_i times, the copies
    in sequence.

    Args:
        matches: For all of COCO's thresholds, and its size ranges or the first of them.
        ground_truth: The annotations that were matched.
        weights: int (B, n_images), at least 0, in the order of `GroundTruth.image_ids`.
        workers: Number of threads.

    Returns:
        float64 (B, 7), `METRICS` in points (0-100); NaN where no annotation of that size has a weight,
        and for sizes that were not matched.

    Raises:
        ValueError: `matches` lacks a threshold or size range, or `weights` has another number of images.
    """
    if matches.areas != tuple(AREAS)[: len(matches.areas)] or not np.array_equal(
        matches.thresholds, THRESHOLDS
    ):
        raise ValueError("weighted AP needs matches of all of COCO's thresholds and size ranges.")
    if weights.ndim != 2 or weights.shape[1] != len(ground_truth.image_ids):
        raise ValueError(f"weights of shape {weights.shape} for {len(ground_truth.image_ids)} images.")
    weights = weights.astype(np.int32, copy=False)
    copies = int(weights.max(initial=1))
    categories, tied_images = _categories(matches, ground_truth, copies)
    chunks = np.split(weights, range(CHUNK, len(weights), CHUNK))
    with ThreadPoolExecutor(workers) as pool:
        return np.concatenate(list(pool.map(partial(_evaluate, categories, tied_images, copies), chunks)))


@dataclass(frozen=True)
class _Curve:
    """The e true positives of one category, size range and threshold, by descending score.

    A detection inside the size range counts unless it is ignored; one outside counts only if it is true. The
    corrections are these exceptions, so that all thresholds of a size range share one cumulative count.
    """

    column: np.ndarray  # (e,) column of the weight table
    n_inside: np.ndarray  # (e,) ranked detections inside the size range, itself included
    correction_column: np.ndarray  # columns of the weight table
    correction_sign: np.ndarray  # 1: counts although outside; -1: ignored although inside
    n_corrections: np.ndarray  # (e,) number of corrections up to each true positive
    error: np.ndarray  # (e,) localisation error (1 − IoU) / (1 − τ), with τ the threshold


@dataclass(frozen=True)
class _Size:
    """A category in one size range."""

    annotation_column: np.ndarray
    inside: np.ndarray  # the category's ranked detections inside the size range
    curves: list[_Curve]  # one per threshold


@dataclass(frozen=True)
class _Category:
    """A category's detections by descending score, down to its last true positive, as weight columns."""

    column: np.ndarray
    sizes: list[_Size]


def _categories(
    matches: Matches, ground_truth: GroundTruth, copies: int
) -> tuple[list[_Category], np.ndarray]:
    row, column, tied_images = _ranked(matches, copies, len(ground_truth.image_ids))
    image = positions(ground_truth.image_id, ground_truth.image_ids)
    category = positions(ground_truth.category_id, ground_truth.category_ids)
    starts = np.searchsorted(matches.category[row], np.arange(len(ground_truth.category_ids) + 1))
    categories = []
    for index, (start, end) in enumerate(pairwise(starts)):
        own = [image[(category == index) & ~ignored] for ignored in matches.annotation_ignored]
        categories.append(_category(matches, row[start:end], column[start:end], own))
    return categories, tied_images


def _category(
    matches: Matches, row: np.ndarray, column: np.ndarray, annotations: list[np.ndarray]
) -> _Category:
    true = matches.is_true[:, :, row]
    ever_true = np.flatnonzero(true.any(axis=(0, 1)))
    end = ever_true[-1] + 1 if len(ever_true) else 0
    row, column, true = row[:end], column[:end], true[:, :, :end]
    ignored, inside = matches.ignored[:, :, row], ~matches.outside[:, row]
    thresholds = matches.thresholds[:, None]
    iou = np.append(matches.pairs.iou, 1.0)[matches.pair[:, :, row]]  # 1 where there is no match
    error = (1 - iou) / (1 - thresholds)
    sizes = []
    for area, annotation_column in enumerate(annotations):
        n_inside = np.cumsum(inside[area])
        curves = [
            _curve(true[area, t], ignored[area, t], inside[area], n_inside, column, error[area, t])
            for t in range(len(matches.thresholds))
        ]
        sizes.append(_Size(annotation_column, np.flatnonzero(inside[area]), curves))
    return _Category(column, sizes)


def _curve(
    true: np.ndarray,
    ignored: np.ndarray,
    inside: np.ndarray,
    n_inside: np.ndarray,
    column: np.ndarray,
    error: np.ndarray,
) -> _Curve:
    rank = np.flatnonzero(true)
    counted = true | (inside & ~ignored)
    sign = counted.astype(np.int32) - inside
    corrected = np.flatnonzero(sign)
    return _Curve(
        column=column[rank],
        n_inside=n_inside[rank],
        correction_column=column[corrected],
        correction_sign=sign[corrected],
        n_corrections=np.searchsorted(corrected, rank, side="right"),
        error=error[rank],
    )


def _ranked(matches: Matches, copies: int, n_images: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rank the detections of each category by score and return the weight column of each.

    Ties within an image are a special case: k copies of the image repeat the tied sequence k times, which is
    not the same as each tied detection counting k times in its place. Tied detections therefore appear in the
    ranking once per possible copy, with weight 1 where the replicate has that copy and 0 elsewhere.
    """
    same = np.zeros(len(matches.score), dtype=bool)
    same[1:] = (
        (np.diff(matches.score) == 0) & (np.diff(matches.image) == 0) & (np.diff(matches.category) == 0)
    )
    tied = same | np.append(same[1:], False)
    tied_images, tied_image = np.unique(matches.image[tied], return_inverse=True)
    copy = np.repeat(np.arange(copies), tied.sum())
    row = np.concatenate([np.flatnonzero(~tied), np.tile(np.flatnonzero(tied), copies)])
    column = np.concatenate(
        [matches.image[~tied], n_images + copy * len(tied_images) + np.tile(tied_image, copies)]
    )
    copy = np.concatenate([np.zeros((~tied).sum(), dtype=int), copy])
    order = np.lexsort((row, copy, matches.image[row], -matches.score[row], matches.category[row]))
    return row[order], column[order], tied_images


def _weight_table(weights: np.ndarray, tied_images: np.ndarray, copies: int) -> np.ndarray:
    """Append, for each possible copy, whether a replicate has that copy of each image with ties.

    Replicates become the last axis, (n_rows, b), so that each look-up reads a contiguous row.
    """
    tied = weights[:, tied_images]
    table = [weights, *[(tied > copy).astype(np.int32) for copy in range(copies)]]
    return np.ascontiguousarray(np.concatenate(table, axis=1).T)


def _evaluate(
    categories: list[_Category], tied_images: np.ndarray, copies: int, weights: np.ndarray
) -> np.ndarray:
    """Return `METRICS` of one chunk of replicates, float64 (b, 7)."""
    weights = _weight_table(weights, tied_images, copies)
    n_replicates = weights.shape[1]
    total = np.zeros((len(AREAS), len(THRESHOLDS), n_replicates))
    n_categories = np.zeros((len(AREAS), 1, n_replicates))
    lrp = np.zeros(n_replicates)
    for category in categories:
        weight = weights.take(category.column, axis=0)
        for area, size in enumerate(category.sizes):
            n_annotations = weights.take(size.annotation_column, axis=0).sum(axis=0)
            n_categories[area, 0] += n_annotations > 0
            if len(size.curves[0].column) == 0:  # no true positive at the lowest threshold or above
                lrp += (area == 0) & (n_annotations > 0)
                continue
            counted = _running(weight.take(size.inside, axis=0))
            points = _recall_points(n_annotations)
            for t, curve in enumerate(size.curves):
                n_true, n_all = _counts(curve, weights, counted)
                if (area, t) == (0, 0):
                    lrp += _optimal_lrp(curve, weights, n_true, n_all, n_annotations)
                total[area, t] += _curve_ap(n_true, n_all, points)
    with np.errstate(invalid="ignore"):
        ap = np.where(n_categories > 0, 100 * total / n_categories, np.nan)
        lrp = np.where(n_categories[0, 0] > 0, 100 * lrp / n_categories[0, 0], np.nan)
    return np.stack([ap[0].mean(axis=0), ap[0, 0], ap[0, 5], *ap[1:].mean(axis=1), lrp], axis=1)


def _counts(curve: _Curve, weights: np.ndarray, counted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the true positives, and all detections that count, down to each true positive, int32 (e, b)."""
    n_true = weights.take(curve.column, axis=0)
    np.add.accumulate(n_true, axis=0, out=n_true)
    n_all = counted.take(curve.n_inside, axis=0)
    if len(curve.correction_column):
        corrections = weights.take(curve.correction_column, axis=0) * curve.correction_sign[:, None]
        n_all += _running(corrections).take(curve.n_corrections, axis=0)
    return n_true, n_all


def _optimal_lrp(
    curve: _Curve, weights: np.ndarray, n_true: np.ndarray, n_all: np.ndarray, n_annotations: np.ndarray
) -> np.ndarray:
    """Return the least LRP over cuts in each replicate, 0 to 1, float64 (b,); 0 without annotations.

    A false positive raises LRP, so the least is found at a true positive.
    """
    error = np.cumsum(weights.take(curve.column, axis=0) * curve.error[:, None], axis=0)
    n_kept = n_all + (n_annotations - n_true)
    lrp = (error + (n_kept - n_true)) / np.maximum(n_kept, 1)
    return np.where(n_annotations > 0, lrp.min(axis=0), 0.0)


def _curve_ap(n_true: np.ndarray, n_all: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return the 101-point AP of one curve in each replicate, float64 (b,)."""
    precision = n_true / np.maximum(n_all, 1, out=n_all)
    # Non-negative floats sort like the integers of their bits, whose running maximum is twice as fast.
    best_from_here = np.maximum.accumulate(precision.view(np.int64)[::-1], axis=0)[::-1].view(np.float64)
    n_replicates = points.shape[1]
    place = n_true * np.int32(n_replicates) + np.arange(n_replicates, dtype=np.int32)
    reached = points.ravel().take(place, mode="clip")
    reached[1:] -= reached[:-1].copy()
    return np.einsum("eb,eb->b", best_from_here, reached) / len(RECALLS)


def _running(values: np.ndarray) -> np.ndarray:
    """Return the sums of the first 0, 1, 2, ... rows, int32 (n + 1, b)."""
    sums = np.zeros((len(values) + 1, values.shape[1]), dtype=np.int32)
    np.add.accumulate(values, axis=0, out=sums[1:])
    return sums


def _recall_points(n_annotations: np.ndarray) -> np.ndarray:
    """Return how many recall points n = 0, 1, 2, ... true positives reach, float64 (max n + 1, b)."""
    n_true = np.arange(n_annotations.max(initial=0) + 1)
    recall = n_true[:, None] / np.maximum(n_annotations, 1)
    # Rounding may give one point too few where recall lies on a point; the comparison below is COCO's own.
    reached = (recall * 100 + (1 - 1e-9)).astype(np.intp)
    return reached + (recall >= np.append(RECALLS, np.inf).take(reached, mode="clip")).astype(np.float64)
