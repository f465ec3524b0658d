"""The mean gain over several detectors, with an interval over images, seeds and detectors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from corrloss.analysis.differences import MIN_IMAGES, check_comparable, combine_seeds
from corrloss.analysis.replicates import METRICS, Replicates

#: Detectors from which on their mean gain has an interval. With two, t is 12.7.
MIN_DETECTORS = 3


@dataclass(frozen=True)
class Pooled:
    """A mean difference over detectors with its uncertainty, in points; NaN where a value is undefined.

    Attributes:
        delta: Mean over detectors, which count alike, of the mean over seeds of the difference on the data.
        ci_low: Lower end of the confidence interval.
        ci_high: Upper end.
        p_value: Two-sided, of no difference.
        se_images: Standard error of `delta` from what the images do to all detectors alike.
        se_detectors: Standard error of `delta` from the choice of detectors and seeds, `sd_detectors` / √n.
        sd_detectors: Standard deviation of the difference of one detector, a mean over its seeds.
        n_images: Number of images in the data.
        n_detectors: Number of detectors.
        n_rose: Number of detectors whose difference is above 0.
    """

    delta: float
    ci_low: float
    ci_high: float
    p_value: float
    se_images: float
    se_detectors: float
    sd_detectors: float
    n_images: int
    n_detectors: int
    n_rose: int


def pooled_difference(
    detectors: Mapping[str, tuple[Sequence[Replicates], Sequence[Replicates]]], confidence: float = 0.95
) -> dict[str, Pooled]:
    """Return the mean difference over detectors, others minus baselines, of each of `METRICS`.

    A mixed model: the gain of a detector is the mean gain of all detectors, plus an effect of the detector,
    of the images, of the seeds, and of their combinations, all random but the mean. So the interval is about
    detectors like these, not about these alone. Detectors count alike, and the variance between their means
    contains that of their seeds, so one seed of each suffices, and their numbers may differ. The interval is
    that of `combine_seeds`, with detectors in the place of seeds.

    Args:
        detectors: Baselines and the runs with the loss of each detector, one run a seed, in the same order.
        confidence: Coverage of the interval, in (0, 1).

    Returns:
        A mean for each of `METRICS`. It has no interval with fewer than `MIN_DETECTORS` detectors, or where
        fewer than `MIN_IMAGES` images hold annotations of that size.

    Raises:
        ReplicatesError: Unequal numbers of runs of a detector, none, or runs of different images or
            resamples.
    """
    for baselines, others in detectors.values():
        check_comparable(baselines, others)
    runs = [run for pair in detectors.values() for side in pair for run in side]
    check_comparable(runs, runs)
    deltas, replicates = (
        np.stack(
            [
                np.mean([getattr(run, name) for run in others], axis=0)
                - np.mean([getattr(run, name) for run in baselines], axis=0)
                for baselines, others in detectors.values()
            ]
        )
        for name in ("estimate", "values")
    )
    first, enough = runs[0], len(detectors) >= MIN_DETECTORS
    defined = enough & (first.n_holding >= MIN_IMAGES)
    return {
        name: _pooled(deltas[:, i], replicates[:, :, i], first.n_images, bool(defined[i]), confidence)
        for i, name in enumerate(METRICS)
    }


def _pooled(
    deltas: np.ndarray, replicates: np.ndarray, n_images: int, is_defined: bool, confidence: float
) -> Pooled:
    """Return the mean of float64 (d,) with its interval, from replicates float64 (d, B)."""
    found = combine_seeds(deltas, replicates, n_images, is_defined, confidence)
    return Pooled(
        delta=found.delta,
        ci_low=found.ci_low,
        ci_high=found.ci_high,
        p_value=found.p_value,
        se_images=found.se_images,
        se_detectors=found.se_seeds,
        sd_detectors=found.sd_seeds,
        n_images=n_images,
        n_detectors=len(deltas),
        n_rose=int((deltas > 0).sum()),
    )
