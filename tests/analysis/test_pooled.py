import numpy as np
import pytest
from scipy import stats

from corrloss.analysis.differences import combine_seeds, seeds_needed
from corrloss.analysis.pooled import pooled_difference
from corrloss.analysis.replicates import METRICS, Replicates, ReplicatesError
from corrloss.analysis.simulation import pooled_coverage, simulate


def run_of(estimate, values, images="a"):
    """Return replicates whose metrics are all one."""
    n = len(METRICS)
    values = np.repeat(np.asarray(values, dtype=float)[:, None], n, axis=1)
    return Replicates(np.full(n, float(estimate)), values, 50, 0, images, np.full(n, 50))


def pair(*gains, noise=0.0, images="a"):
    """Return baselines and other runs of a detector, one a seed, whose resamples differ by some noise."""
    zero = np.zeros(400) if np.ndim(noise) == 0 else 0 * noise
    baselines = [run_of(40 + i, 40 + i + zero, images) for i in range(len(gains))]
    others = [run_of(40 + i + g, 40 + i + g + zero + noise, images) for i, g in enumerate(gains)]
    return baselines, others


def test_without_an_error_of_images_detectors_are_a_t_test_of_their_means():
    found = pooled_difference({"a": pair(1.0), "b": pair(0.5, 1.5, 2.5), "c": pair(-0.2, 0.0), "d": pair(2)})
    means = [1.0, 1.5, -0.1, 2.0]
    expected = stats.ttest_1samp(means, 0)
    gain = found["AP"]
    assert gain.delta == pytest.approx(np.mean(means))
    assert gain.p_value == pytest.approx(expected.pvalue)
    assert (gain.ci_low, gain.ci_high) == pytest.approx(tuple(expected.confidence_interval()))
    assert (gain.se_images, gain.se_detectors) == pytest.approx((0, stats.sem(means)))
    assert (gain.n_detectors, gain.n_rose, gain.n_images) == (4, 3, 50)
    assert gain == found["rho_img"]


def test_what_images_do_to_all_detectors_alike_is_not_averaged_away():
    noise = np.random.default_rng(0).normal(0, 1, 20_000)
    gain = pooled_difference({name: pair(1.0, noise=noise) for name in "abcdefgh"})["AP"]
    assert gain.se_images == pytest.approx(1, rel=0.02) and gain.se_detectors == 0
    own = {
        name: pair(1.0, noise=np.random.default_rng(i).normal(0, 1, 20_000))
        for i, name in enumerate("abcdefgh")
    }
    assert pooled_difference(own)["AP"].se_images < 0.1


def test_two_detectors_have_a_mean_without_an_interval():
    gain = pooled_difference({"a": pair(1.0), "b": pair(2.0)})["AP"]
    assert (gain.delta, gain.n_rose) == (1.5, 2)
    assert np.isnan([gain.ci_low, gain.ci_high, gain.p_value]).all()


def test_runs_that_cannot_be_compared_are_refused():
    with pytest.raises(ReplicatesError, match="hash of the images"):
        pooled_difference({"a": pair(1.0), "b": pair(2.0, images="b"), "c": pair(1.0)})
    baselines, others = pair(1.0, 2.0)
    with pytest.raises(ReplicatesError, match="2 baselines and 1"):
        pooled_difference({"a": (baselines, others[:1])})


@pytest.mark.parametrize(("n_detectors", "ratio"), [(3, 1.0), (6, 0.5), (6, 4.0)])
def test_the_interval_holds_the_true_mean_also_with_unequal_seeds(n_detectors, ratio):
    assert 0.93 <= pooled_coverage(n_detectors, ratio, 1000) <= 0.985


@pytest.mark.parametrize("sd", [0.4, 0.8])
def test_a_gain_of_one_is_seen_in_four_of_five_experiments_with_the_seeds_that_it_needs(sd):
    deltas = sd * np.array([-1, 0, 1.0])  # their standard deviation is sd
    images = 0.14 * np.random.default_rng(0).normal(size=2000)
    found = combine_seeds(deltas, deltas[:, None] + images, 5000)
    n_seeds = seeds_needed(found)
    seen = [gain.ci_low > 0 for gain, _ in simulate(1.0, n_seeds, 1000, np.sqrt(sd**2 - 0.02), 0.5)]
    fewer = [gain.ci_low > 0 for gain, _ in simulate(1.0, n_seeds - 1, 1000, np.sqrt(sd**2 - 0.02), 0.5)]
    assert np.mean(fewer) < 0.83 and np.mean(seen) > 0.77


def test_seeds_that_never_suffice_or_are_unknown():
    deltas = np.array([1.0, 1.1, 1.2])
    images = np.random.default_rng(0).normal(size=2000)
    assert seeds_needed(combine_seeds(deltas, deltas[:, None] + images, 50)) is None  # the images are too few
    assert seeds_needed(combine_seeds(deltas[:1], deltas[:1, None] + 0 * images, 50)) is None
