"""Is a difference of AP real? Intervals from a paired bootstrap over images and the spread between seeds."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtr, stdtrit

from corrloss.analysis.replicates import Replicates, ReplicatesError
from corrloss.analysis.weighted_ap import METRICS


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
