"""Is a difference of AP real? A paired bootstrap over images, and the spread between seeds.

A replicate draws as many images as there are, with replacement. An image drawn k times counts k times: its
annotations weigh k in recall, its detections k in precision; dropping it to once, as some tools do, makes the
intervals about a quarter too narrow. Two runs are compared on the same replicates, so what makes an image
hard for both cancels.

Matching does not depend on which images are drawn, so it is done once. After that a replicate is a vector of
weights, and only true positives matter: precision at each of them is (weighted true positives so far) /
(weighted detections so far), and recall says how many of COCO's 101 points it stands for.
"""

import os
import zipfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
from scipy.special import stdtr, stdtrit

from corrloss.analysis.matching import AREAS, THRESHOLDS, Matches, match
from corrloss.coco.reading import Detections, GroundTruth, positions
from corrloss.errors import CorrLossError

METRICS = ("AP", "AP50", "AP75", "AP_S", "AP_M", "AP_L")
#: COCO's recall points, to the last bit: 0.57 is a little above 57 / 100 here as there.
RECALLS = np.linspace(0, 1, 101)
#: Resamples of a run, unless told otherwise.
N_REPLICATES = 1000
#: Replicates that are evaluated at once: enough to hide numpy's overhead, few enough for the cache.
CHUNK = 100


class ReplicatesError(CorrLossError):
    """Stored replicates are unusable, or cannot be compared; the message says which and what to do."""


@dataclass(frozen=True)
class Replicates:
    """AP of one run on the data and on B resamples of its images.

    Attributes:
        estimate: float64 (6,), `METRICS` on the data itself, in points; NaN where COCO gives -1.
        values: float64 (B, 6), the same on each resample.
        n_images: how many images there are.
        seed: of the resamples; runs are comparable where it and the images agree.
    """

    estimate: np.ndarray
    values: np.ndarray
    n_images: int
    seed: int

    def save(self, path: str | os.PathLike) -> None:
        """Write to an `.npz` file."""
        np.savez(path, **vars(self))  # compressed it would be a tenth smaller and take twice as long to read

    @classmethod
    def load(cls, path: str | os.PathLike) -> "Replicates":
        """Read what `save` wrote.

        Raises:
            ReplicatesError: the file is not one that `save` wrote.
        """
        path = Path(path)
        try:
            with np.load(path, allow_pickle=False) as file:
                counts = int(file["n_images"]), int(file["seed"])
                return cls(file["estimate"], file["values"], *counts)
        except (OSError, KeyError, EOFError, ValueError, zipfile.BadZipFile) as problem:
            raise ReplicatesError(
                f"{path}: no bootstrap replicates ({problem}). Evaluate this run again."
            ) from None


@dataclass(frozen=True)
class Interval:
    """A difference of AP with its uncertainty, in points.

    Attributes:
        delta: mean over seeds of the difference on the data.
        ci_low: lower end of the confidence interval.
        ci_high: upper end.
        p_value: two-sided, of no difference.
        se_images: standard error that comes from the choice of images.
        se_seeds: standard error that comes from the choice of seeds; NaN with one seed, and then the interval
            speaks of these two trained models only, not of the method.
        n_images: images in the data.
        n_seeds: pairs of runs.
    """

    delta: float
    ci_low: float
    ci_high: float
    p_value: float
    se_images: float
    se_seeds: float
    n_images: int
    n_seeds: int


def resample(n_images: int, n_replicates: int, seed: int) -> np.ndarray:
    """Return how often each image is drawn in each replicate, int32 (n_replicates, n_images).

    >>> resample(5, 2, seed=0).sum(axis=1).tolist()
    [5, 5]
    """
    rng = np.random.default_rng(seed)
    weights = np.empty((n_replicates, n_images), dtype=np.int32)
    for row in weights:
        row[:] = np.bincount(rng.integers(n_images, size=n_images), minlength=n_images)
    return weights


def unknown_replicates(n_images: int) -> Replicates:
    """Return what stands for a run that has no AP, one whose training failed: NaN throughout.

    Args:
        n_images: of the data set.
    """
    return Replicates(
        np.full(len(METRICS), np.nan), np.full((N_REPLICATES, len(METRICS)), np.nan), n_images, 0
    )


def bootstrap_ap(
    ground_truth: GroundTruth,
    detections: Detections,
    n_replicates: int = N_REPLICATES,
    seed: int = 0,
    workers: int = 1,
) -> Replicates:
    """Return a run's AP on the data and on resamples that depend on the images' number and `seed` alone.

    Args:
        ground_truth: what `load_ground_truth` gave.
        detections: boxes or masks of the run.
        n_replicates: B.
        seed: of the resamples; the same for all runs that are to be compared.
        workers: threads.
    """
    n_images = len(ground_truth.image_ids)
    weights = np.concatenate([np.ones((1, n_images), dtype=np.int32), resample(n_images, n_replicates, seed)])
    values = weighted_ap(match(ground_truth, detections), ground_truth, weights, workers)
    return Replicates(values[0], values[1:], n_images, seed)


def paired_difference(
    baselines: Sequence[Replicates], others: Sequence[Replicates], confidence: float = 0.95
) -> dict[str, Interval]:
    """Return the difference, others minus baselines, of each of `METRICS`.

    The runs are paired by seed, in order; the difference is the mean of theirs. Two sources of error are
    told apart: the images (the standard deviation of that mean over the replicates) and, from two seeds on,
    the seeds (the standard deviation of the n differences on the data, over √n). By the law of total variance
    their squares add. The interval is the difference ± t standard errors, the degrees of freedom by Welch
    and Satterthwaite from n_images − 1 and n_seeds − 1: two seeds that differ much give a very wide interval,
    which is what two seeds tell. In simulation this covers the truth more often than percentiles of the
    replicates do, since AP of a resample is a little biased.

    Args:
        baselines: one run a seed.
        others: the run of the same seed with the loss, in the same order.
        confidence: of the interval, in (0, 1).

    Raises:
        ReplicatesError: unequal numbers of runs, none, or runs of different images or resamples.
    """
    _check_comparable(baselines, others)
    deltas = np.stack([b.estimate - a.estimate for a, b in zip(baselines, others, strict=True)])
    replicates = np.mean([b.values - a.values for a, b in zip(baselines, others, strict=True)], axis=0)
    return {
        name: _interval(deltas[:, index], replicates[:, index], baselines[0].n_images, confidence)
        for index, name in enumerate(METRICS)
    }


def _interval(deltas: np.ndarray, replicates: np.ndarray, n_images: int, confidence: float) -> Interval:
    """Combine the differences of the seeds on the data (n,) with those of the replicates' means (B,)."""
    n_seeds, delta = len(deltas), float(deltas.mean())
    replicates = replicates[~np.isnan(replicates)]  # a resample may hold no annotation of a size
    images = float(replicates.std(ddof=1)) if len(replicates) > 1 else float("nan")
    seeds = float(deltas.std(ddof=1) / np.sqrt(n_seeds)) if n_seeds > 1 else float("nan")
    parts = [(images**2, n_images - 1)] + ([(seeds**2, n_seeds - 1)] if n_seeds > 1 else [])
    variance = sum(part for part, _ in parts)
    freedom = variance**2 / sum(part**2 / count for part, count in parts) if variance > 0 else np.inf
    error = float(np.sqrt(variance))
    half_width = float(stdtrit(freedom, (1 + confidence) / 2)) * error if error > 0 else error
    return Interval(
        delta=delta,
        ci_low=delta - half_width,
        ci_high=delta + half_width,
        p_value=_p_value(delta, error, freedom),
        se_images=images,
        se_seeds=seeds,
        n_images=n_images,
        n_seeds=n_seeds,
    )


def _p_value(delta: float, error: float, freedom: float) -> float:
    if np.isnan(delta) or np.isnan(error):
        return float("nan")
    if error == 0:  # two equal runs, or two that differ alike on every resample
        return 1.0 if delta == 0 else 0.0
    return float(2 * stdtr(freedom, -abs(delta) / error))


def _check_comparable(baselines: Sequence[Replicates], others: Sequence[Replicates]) -> None:
    if len(baselines) != len(others) or not baselines:
        raise ReplicatesError(
            f"{len(baselines)} baselines and {len(others)} other runs; give one of each for every seed."
        )
    kinds = {(run.n_images, run.seed, len(run.values)) for run in (*baselines, *others)}
    if len(kinds) > 1:
        raise ReplicatesError(
            f"runs of different (images, seed, replicates): {sorted(kinds)}; compare runs of one data set, "
            "resampled alike."
        )


def weighted_ap(
    matches: Matches, ground_truth: GroundTruth, weights: np.ndarray, workers: int = 1
) -> np.ndarray:
    """Return AP where each image counts as often as its weight says.

    The result is COCO's on a data set in which image i stands w_i times, its copies next to each other.

    Args:
        matches: of all of COCO's thresholds and size ranges.
        ground_truth: the annotations that were matched.
        weights: int (B, n_images), 0 or more, in the order of `GroundTruth.image_ids`.
        workers: threads.

    Returns:
        float64 (B, 6), `METRICS` in points; NaN where no weighted annotation is of that size.

    Raises:
        ValueError: `matches` lacks thresholds or size ranges, or the weights are of another number of images.
    """
    if matches.areas != tuple(AREAS) or not np.array_equal(matches.thresholds, THRESHOLDS):
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
    """The true positives of a category, size range and threshold, by falling score; e of them.

    A detection inside the size range counts, except where it is ignored; one outside counts where it is true.
    `corrections` are these exceptions, so that one running count of a size range serves all its thresholds.
    """

    column: np.ndarray  # (e,) of the weight table
    n_inside: np.ndarray  # (e,) ranked rows inside the size range, itself included
    correction_column: np.ndarray
    correction_sign: np.ndarray
    n_corrections: np.ndarray  # (e,) corrections up to it


@dataclass(frozen=True)
class _Size:
    """A category in one size range."""

    annotation_column: np.ndarray
    inside: np.ndarray  # the category's ranked rows inside the size range
    curves: list[_Curve]  # one a threshold


@dataclass(frozen=True)
class _Category:
    """A category's detections by falling score, down to its last true positive, as columns of weights."""

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
    sizes = []
    for area, annotation_column in enumerate(annotations):
        n_inside = np.cumsum(inside[area])
        curves = [
            _curve(true[area, t], ignored[area, t], inside[area], n_inside, column)
            for t in range(len(matches.thresholds))
        ]
        sizes.append(_Size(annotation_column, np.flatnonzero(inside[area]), curves))
    return _Category(column, sizes)


def _curve(
    true: np.ndarray, ignored: np.ndarray, inside: np.ndarray, n_inside: np.ndarray, column: np.ndarray
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
    )


def _ranked(matches: Matches, copies: int, n_images: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rank the detections of each category by score; give the column of each one's weight.

    Equal scores of one image need care: k copies of the image repeat the whole run of them k times, which
    is not the same as each counting k times in its place. They stand in the ranking once for each copy that
    there may be, with a weight of one where there is that copy.
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
    """Append to the images' weights, for each copy there may be, whether the images with ties have it.

    Replicates become the last axis, (n_rows, b): what is looked up is then a whole row.
    """
    tied = weights[:, tied_images]
    table = [weights, *[(tied > copy).astype(np.int32) for copy in range(copies)]]
    return np.ascontiguousarray(np.concatenate(table, axis=1).T)


def _evaluate(
    categories: list[_Category], tied_images: np.ndarray, copies: int, weights: np.ndarray
) -> np.ndarray:
    """Return `METRICS` of one chunk of replicates, float64 (b, 6)."""
    weights = _weight_table(weights, tied_images, copies)
    n_replicates = weights.shape[1]
    total = np.zeros((len(AREAS), len(THRESHOLDS), n_replicates))
    n_categories = np.zeros((len(AREAS), 1, n_replicates))
    for category in categories:
        weight = weights.take(category.column, axis=0)
        for area, size in enumerate(category.sizes):
            n_annotations = weights.take(size.annotation_column, axis=0).sum(axis=0)
            n_categories[area, 0] += n_annotations > 0
            if len(size.curves[0].column) == 0:  # nothing true at the lowest threshold, nor above
                continue
            counted = _running(weight.take(size.inside, axis=0))
            points = _recall_points(n_annotations)
            for t, curve in enumerate(size.curves):
                total[area, t] += _curve_ap(curve, weights, counted, points)
    with np.errstate(invalid="ignore"):
        ap = np.where(n_categories > 0, 100 * total / n_categories, np.nan)
    return np.stack([ap[0].mean(axis=0), ap[0, 0], ap[0, 5], *ap[1:].mean(axis=1)], axis=1)


def _curve_ap(curve: _Curve, weights: np.ndarray, counted: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return the 101-point AP of one curve in each replicate, float64 (b,)."""
    n_true = weights.take(curve.column, axis=0)
    np.add.accumulate(n_true, axis=0, out=n_true)
    n_all = counted.take(curve.n_inside, axis=0)
    if len(curve.correction_column):
        corrections = weights.take(curve.correction_column, axis=0) * curve.correction_sign[:, None]
        n_all += _running(corrections).take(curve.n_corrections, axis=0)
    precision = n_true / np.maximum(n_all, 1, out=n_all)
    # Floats from 0 up order like the integers of their bits, whose running maximum is twice as fast.
    best_from_here = np.maximum.accumulate(precision.view(np.int64)[::-1], axis=0)[::-1].view(np.float64)
    n_replicates = points.shape[1]
    place = n_true * np.int32(n_replicates) + np.arange(n_replicates, dtype=np.int32)
    reached = points.ravel().take(place, mode="clip")
    reached[1:] -= reached[:-1].copy()
    return np.einsum("eb,eb->b", best_from_here, reached) / len(RECALLS)


def _running(values: np.ndarray) -> np.ndarray:
    """Return sums of the first 0, 1, 2, ... rows, int32 (n + 1, b)."""
    sums = np.zeros((len(values) + 1, values.shape[1]), dtype=np.int32)
    np.add.accumulate(values, axis=0, out=sums[1:])
    return sums


def _recall_points(n_annotations: np.ndarray) -> np.ndarray:
    """Return how many recall points n = 0, 1, 2, ... true positives reach, float64 (max n + 1, b)."""
    n_true = np.arange(n_annotations.max(initial=0) + 1)
    recall = n_true[:, None] / np.maximum(n_annotations, 1)
    # One point too few where recall is at a point, by rounding; then comparing as COCO does.
    reached = (recall * 100 + (1 - 1e-9)).astype(np.intp)
    return reached + (recall >= np.append(RECALLS, np.inf).take(reached, mode="clip")).astype(np.float64)
