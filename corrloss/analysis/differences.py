"""Is a difference real? Intervals from a paired bootstrap over images and the spread between seeds."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
from scipy.optimize import brentq
from scipy.special import stdtrit

from corrloss.analysis.replicates import METRICS, Replicates, ReplicatesError

#: Images that must hold annotations of a size for an interval of its AP. With fewer, resamples may agree
#: exactly and give an interval of width 0.
MIN_IMAGES = 10
#: Smallest p-value that is computed.
SMALLEST_P = 1e-12


@dataclass(frozen=True)
class Interval:
    """A difference with its uncertainty, in points; NaN where a value is undefined.

    Attributes:
        delta: Mean over seeds of the difference on the data.
        ci_low: Lower end of the confidence interval. With one seed the interval covers the choice of images
            for this pair of trained models only, not the method.
        ci_high: Upper end.
        p_value: Two-sided, of no difference; NaN with one seed.
        se_images: Standard error of `delta` from the choice of images; with several seeds, of what the
            images do to all of them alike.
        se_seeds: Standard error of `delta` from the choice of seeds, `sd_seeds` / √n; NaN with one seed.
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

    The runs are paired by seed, in order; `combine_seeds` gives the intervals.

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
    check_comparable(baselines, others)
    pairs = list(zip(baselines, others, strict=True))
    deltas = np.stack([other.estimate - baseline.estimate for baseline, other in pairs])
    replicates = np.stack([other.values - baseline.values for baseline, other in pairs])
    first = baselines[0]
    return {
        name: combine_seeds(
            deltas[:, index],
            replicates[:, :, index],
            first.n_images,
            first.n_holding[index] >= MIN_IMAGES,
            confidence,
        )
        for index, name in enumerate(METRICS)
    }


def combine_seeds(
    deltas: np.ndarray,
    replicates: np.ndarray,
    n_images: int,
    is_defined: bool = True,
    confidence: float = 0.95,
) -> Interval:
    """Return the mean difference over n seeds with an interval over images and seeds.

    Seeds and images are crossed: a difference is the effect of the method, plus one of the images that all
    seeds share, one of the seed, and one of seed and images together. With s² the variance of the seeds'
    differences on the data, and V the variance over resamples, the squared standard error is

        se² = V_images + s² / n,    V_images = V(mean over seeds) − V_interaction / n.

    V_interaction is the variance between seeds of what a resample does to their differences. s² contains it
    already, so it is taken out of V(mean over seeds). The interval is delta ± t · se, where t is the mean of
    the t quantiles of n_images − 1 and n − 1 degrees of freedom, weighted by V_images and s² / n (Cochran
    and Cox, Experimental Designs, 1957, section 4.14). docs/measures.md has the coverage.

    Args:
        deltas: float64 (n,), the seeds' differences on the data.
        replicates: float64 (n, B), the same on each resample.
        n_images: Number of images in the data.
        is_defined: Whether the images suffice for an interval.
        confidence: Coverage, in (0, 1).
    """
    n_seeds, delta, nan = len(deltas), float(deltas.mean()), float("nan")
    replicates = replicates[:, ~np.isnan(replicates).any(axis=0)]  # no annotation of a size in a resample
    images, spread = nan, float(deltas.var(ddof=1)) if n_seeds > 1 else nan
    if is_defined and replicates.shape[1] > 1:
        images = float(replicates.mean(axis=0).var(ddof=1))
    parts = [(images, n_images - 1)]
    if n_seeds > 1 and images >= 0:
        centred = replicates - replicates.mean(axis=1, keepdims=True)
        images = max(0.0, images - float(centred.var(axis=0, ddof=1).mean()) / n_seeds)
        parts = [(images, n_images - 1), (spread / n_seeds, n_seeds - 1)]
    half = half_width(parts, 1 - confidence)
    return Interval(
        delta=delta,
        ci_low=delta - half,
        ci_high=delta + half,
        p_value=_p_value(delta, parts) if n_seeds > 1 else nan,
        se_images=float(np.sqrt(images)),
        se_seeds=float(np.sqrt(spread / n_seeds)) if images >= 0 else nan,
        sd_seeds=float(np.sqrt(spread)),
        n_images=n_images,
        n_seeds=n_seeds,
    )


def half_width(parts: list[tuple[float, int]], p_value: float) -> float:
    """Return t · se from pairs of a variance and its degrees of freedom; t is their weighted mean."""
    total = sum(part for part, _ in parts)
    quantiles = sum(float(stdtrit(freedom, 1 - p_value / 2)) * part for part, freedom in parts if part)
    return quantiles / sqrt(total) if total else 0.0


def seeds_needed(found: Interval, gain: float = 1.0, power: float = 0.8, most: int = 1000) -> int | None:
    """Return how many seeds a true gain takes to be seen: a 95% interval above 0 with a given probability.

    The smallest n whose standard error of n seeds, times the sum of the t quantiles of 0.975 and of `power`,
    is at most the gain. The spread of seeds and the error of the images are those that were measured; a
    spread of few seeds is itself uncertain (three: by half to six times).

    Args:
        found: From `combine_seeds`, of two seeds or more.
        gain: True gain, in points.
        power: Probability to see it, in (0.5, 1).
        most: Largest number that is tried.

    Returns:
        At least 2; None where the spread of seeds is unknown, or no number up to `most` suffices, since the
        images alone are too few.

    >>> seeds_needed(Interval(0.4, -0.2, 1.0, 0.2, 0.2, 0.25, 0.57, 5000, 5))
    6
    """

    def suffice(n: int) -> bool:  # if n seeds do, so do more
        parts = [(found.se_images**2, found.n_images - 1), (found.sd_seeds**2 / n, n - 1)]
        return half_width(parts, 0.05) + half_width(parts, 2 * (1 - power)) <= gain

    return bisect_left(range(most + 1), True, lo=2, key=suffice) if suffice(most) else None


def _p_value(delta: float, parts: list[tuple[float, int]]) -> float:
    """Return the p at which the interval of coverage 1 − p ends at 0."""
    if np.isnan([delta, *(part for part, _ in parts)]).any():
        return float("nan")
    if delta == 0:
        return 1.0
    if half_width(parts, SMALLEST_P) <= abs(delta):
        return 0.0 if half_width(parts, 0.5) == 0 else SMALLEST_P
    return float(brentq(lambda p: half_width(parts, p) - abs(delta), SMALLEST_P, 1.0))


def check_comparable(baselines: Sequence[Replicates], others: Sequence[Replicates]) -> None:
    """Refuse runs that cannot be compared seed by seed.

    Raises:
        ReplicatesError: Unequal numbers of runs, none, or runs of different images or resamples.
    """
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
