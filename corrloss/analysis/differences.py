"""Is a difference of AP real? Intervals from a paired bootstrap over images and the spread between seeds."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.special import stdtrit

from corrloss.analysis.replicates import Replicates, ReplicatesError
from corrloss.analysis.weighted_ap import METRICS

#: Images that must hold annotations of a size for an interval of its AP. With fewer, resamples may agree
#: exactly and give an interval of width 0.
MIN_IMAGES = 10
#: Share of the interaction's variance that takes the t quantile of the seeds instead of that of the images.
#: Cutting the variance of the seeds at 0 makes intervals too narrow where it is small; chosen by simulation.
INTERACTION_SHARE = 0.2
#: Smallest p-value that is computed.
SMALLEST_P = 1e-12


@dataclass(frozen=True)
class Interval:
    """A difference of AP with its uncertainty, in points (0-100); NaN where a value is undefined.

    Attributes:
        delta: Mean over seeds of the difference on the data.
        ci_low: Lower end of the confidence interval. With one seed the interval covers the choice of images
            for this pair of trained models only, not the method.
        ci_high: Upper end.
        p_value: Two-sided, of no difference; NaN with one seed.
        se_images: Standard error of `delta` from the choice of images.
        se_seeds: Standard error of `delta` from the choice of seeds; NaN with one seed.
        sd_seeds: Standard deviation of the difference of one seed on these images; NaN with one seed.
        n_images: Number of images in the data.
        n_seeds: Number of pairs of runs.
    """

    delta: float
    ci_low: float
    ci_high: float
    p_value: float
    se_images: float
    se_seeds: float
    sd_seeds: float
    n_images: int
    n_seeds: int


def paired_difference(
    baselines: Sequence[Replicates], others: Sequence[Replicates], confidence: float = 0.95
) -> dict[str, Interval]:
    """Return the difference, others minus baselines, of each of `METRICS`.

    The runs are paired by seed, in order; the difference is the mean over the n pairs. With s² the variance
    of the pairs' differences on the data, and V the variance over resamples, its squared standard error is

        se² = V(mean over seeds) + max(0, s² − V_interaction) / n.

    V_interaction is the variance between seeds of what a resample does to their differences. s² contains it,
    and so does V(mean), as V_interaction / n; subtracting it counts it once. The half-width is the root of
    t²_images · V_images + t²_seeds · V_seeds, each variance with the t quantile of its own degrees of
    freedom, n_images − 1 and n − 1. `tests/analysis/test_differences.py` simulates the coverage.

    Args:
        baselines: One run per seed.
        others: The runs with the loss, in the same order of seeds.
        confidence: Coverage of the interval, in (0, 1).

    Returns:
        An interval for each of `METRICS`. Only `delta` is defined where fewer than `MIN_IMAGES` images hold
        annotations of that size.

    Raises:
        ReplicatesError: Unequal numbers of runs, none, or runs of different images or resamples.
    """
    _check_comparable(baselines, others)
    pairs = list(zip(baselines, others, strict=True))
    deltas = np.stack([other.estimate - baseline.estimate for baseline, other in pairs])
    replicates = np.stack([other.values - baseline.values for baseline, other in pairs])
    first = baselines[0]
    return {
        name: _interval(
            deltas[:, index],
            replicates[:, :, index],
            first.n_images,
            first.n_holding[index] >= MIN_IMAGES,
            confidence,
        )
        for index, name in enumerate(METRICS)
    }


def _interval(
    deltas: np.ndarray, replicates: np.ndarray, n_images: int, is_defined: bool, confidence: float
) -> Interval:
    """Combine the differences of the seeds on the data (n,) with those on the resamples (n, B)."""
    n_seeds, delta = len(deltas), float(deltas.mean())
    replicates = replicates[
        :, ~np.isnan(replicates).any(axis=0)
    ]  # a resample may hold no annotation of a size
    images = seeds = float("nan")
    if is_defined and replicates.shape[1] > 1:
        images = float(replicates.mean(axis=0).var(ddof=1))
    parts = [(images, n_images - 1)]
    if n_seeds > 1 and images >= 0:
        centred = replicates - replicates.mean(axis=1, keepdims=True)
        interaction = float(centred.var(axis=0, ddof=1).mean())
        seeds = max(0.0, float(deltas.var(ddof=1)) - interaction) / n_seeds
        moved = min(INTERACTION_SHARE * interaction / n_seeds, images)
        parts = [(images - moved, n_images - 1), (seeds + moved, n_seeds - 1)]
    half_width = _half_width(parts, 1 - confidence)
    return Interval(
        delta=delta,
        ci_low=delta - half_width,
        ci_high=delta + half_width,
        p_value=_p_value(delta, parts) if n_seeds > 1 else float("nan"),
        se_images=float(np.sqrt(images)),
        se_seeds=float(np.sqrt(seeds)),
        sd_seeds=float(deltas.std(ddof=1)) if n_seeds > 1 else float("nan"),
        n_images=n_images,
        n_seeds=n_seeds,
    )


def _half_width(parts: list[tuple[float, int]], p_value: float) -> float:
    """Return the root of the sum of t² · variance over pairs of a variance and its degrees of freedom."""
    return float(
        np.sqrt(sum(stdtrit(freedom, 1 - p_value / 2) ** 2 * part for part, freedom in parts if part))
    )


def _p_value(delta: float, parts: list[tuple[float, int]]) -> float:
    """Return the p at which the interval of coverage 1 − p ends at 0."""
    if np.isnan([delta, *(part for part, _ in parts)]).any():
        return float("nan")
    if delta == 0:
        return 1.0
    if _half_width(parts, SMALLEST_P) <= abs(delta):
        return 0.0 if _half_width(parts, 0.5) == 0 else SMALLEST_P
    return float(brentq(lambda p: _half_width(parts, p) - abs(delta), SMALLEST_P, 1.0))


def _check_comparable(baselines: Sequence[Replicates], others: Sequence[Replicates]) -> None:
    if len(baselines) != len(others) or not baselines:
        raise ReplicatesError(
            f"expected one baseline and one other run for every seed, found {len(baselines)} baselines and "
            f"{len(others)} other runs; evaluate the missing runs."
        )
    found = {(run.n_images, run.images, run.seed, len(run.values)) for run in (*baselines, *others)}
    if len(found) > 1:
        raise ReplicatesError(
            "expected runs of the same images, resampled alike, found different (number of images, hash of "
            f"the images, seed, replicates): {sorted(found)}; evaluate them again on the same annotations."
        )


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for the number of comparisons, after Holm (1979); NaN stays NaN.

    >>> holm([0.01, 0.04, float("nan"), 0.03])
    [0.03, 0.06, nan, 0.06]
    """
    values = np.asarray(p_values, dtype=np.float64)
    known = np.flatnonzero(~np.isnan(values))
    order = known[np.argsort(values[known], kind="stable")]
    adjusted = np.full(len(values), np.nan)
    steps = values[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(steps))
    return adjusted.tolist()
