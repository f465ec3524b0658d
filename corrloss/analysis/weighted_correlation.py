"""ρ_img and ρ_cls on resamples of the images: a replicate is a vector of image weights."""

from itertools import pairwise

import numpy as np

from corrloss.analysis.correlation import POSITIVE_IOU, Positives, rho_of_images, true_positives
from corrloss.analysis.matching import Matches
from corrloss.coco import GroundTruth

#: Replicates evaluated at once, few enough to stay in cache.
CHUNK = 100


def weighted_rho_img(positives: Positives, ground_truth: GroundTruth, weights: np.ndarray) -> np.ndarray:
    """Return ρ_img where each image counts as often as its weight says.

    Args:
        positives: From `load_positives`.
        ground_truth: The annotations.
        weights: int (B, n_images), at least 0, in the order of `GroundTruth.image_ids`.

    Returns:
        float64 (B,), Spearman's in points; NaN where no image with a weight has a coefficient.
    """
    images, rho = rho_of_images(positives, ground_truth)
    own = weights[:, images].astype(np.float64)
    return 100 * _ratio(own @ rho, own.sum(axis=1))


def weighted_rho_cls(matches: Matches, weights: np.ndarray, threshold: float = POSITIVE_IOU) -> np.ndarray:
    """Return ρ_cls where each image counts as often as its weight says.

    The result equals `rho_cls` on a data set that contains image i w_i times.

    Args:
        matches: Of the size range "all", with `threshold` among its thresholds.
        weights: int (B, n_images), at least 0, in the order of `GroundTruth.image_ids`.
        threshold: IoU from which a detection is a true positive.

    Returns:
        float64 (B,), Spearman's in points; NaN where no class has a coefficient.
    """
    rows, iou = true_positives(matches, threshold)
    order = np.argsort(matches.category[rows], kind="stable")
    rows, iou = rows[order], iou[order]
    bounds = [0, *(np.flatnonzero(np.diff(matches.category[rows])) + 1), len(rows)]
    chunks = np.split(np.ascontiguousarray(weights.T), range(CHUNK, len(weights), CHUNK), axis=1)
    means = []
    for chunk in chunks:
        total, n_classes = np.zeros(chunk.shape[1]), np.zeros(chunk.shape[1])
        for start, end in pairwise(bounds):
            own = rows[start:end]
            weight = chunk[matches.image[own]].astype(np.float64)
            rho = _spearman(matches.score[own], iou[start:end], weight)
            total += np.nan_to_num(rho)
            n_classes += ~np.isnan(rho)
        means.append(100 * _ratio(total, n_classes))
    return np.concatenate(means)


def _spearman(x: np.ndarray, y: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return Spearman's coefficient of n pairs, weighted in each of b replicates, float64 (b,)."""
    middle = (weight.sum(axis=0) + 1) / 2
    dx, dy = _ranks(x, weight) - middle, _ranks(y, weight) - middle
    wx = weight * dx
    xx, xy, yy = (np.einsum("nb,nb->b", a, b) for a, b in ((wx, dx), (wx, dy), (weight * dy, dy)))
    return np.clip(_ratio(xy, np.sqrt(xx * yy)), -1, 1)


def _ranks(values: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return the mean rank of the copies of each value among the copies of all, float64 (n, b)."""
    order = np.argsort(values)
    before = np.zeros((len(values) + 1, weight.shape[1]))
    np.cumsum(weight[order], axis=0, out=before[1:])
    first = np.searchsorted(values[order], values, side="left")
    last = np.searchsorted(values[order], values, side="right")
    return (before[first] + before[last] + 1) / 2


def _ratio(total: np.ndarray, number: np.ndarray) -> np.ndarray:
    return np.divide(total, number, out=np.full(len(total), np.nan), where=number > 0)
