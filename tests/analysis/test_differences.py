import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from synthetic_coco import make_dataset, make_detections, write

from corrloss.analysis.differences import half_width, holm, paired_difference
from corrloss.analysis.matching import match
from corrloss.analysis.replicates import METRICS, Replicates, ReplicatesError
from corrloss.analysis.weighted_ap import weighted_ap
from corrloss.coco import load_detections, load_ground_truth


def run_of(estimate, values, n_images=50, seed=0, images="a", n_holding=50):
    """Return replicates whose metrics are all one."""
    n = len(METRICS)
    values = np.repeat(np.asarray(values)[:, None], n, axis=1)
    return Replicates(np.full(n, estimate), values, n_images, seed, images, np.full(n, n_holding))


def test_a_run_against_itself_has_no_difference():
    run = run_of(40.0, np.random.default_rng(0).normal(40, 1, 200))
    interval = paired_difference([run] * 2, [run] * 2)["AP"]
    assert (interval.delta, interval.ci_low, interval.ci_high, interval.p_value) == (0, 0, 0, 1)


def test_one_seed_has_the_error_of_the_images_alone():
    noise = np.random.default_rng(0).normal(0, 1, 2000)
    interval = paired_difference([run_of(40.0, 40 + 0 * noise)], [run_of(43.0, 43 + noise)])["AP"]
    error = noise.std(ddof=1)
    assert (interval.delta, interval.se_images) == (3, pytest.approx(error))
    assert np.isnan([interval.se_seeds, interval.sd_seeds]).all()
    assert (interval.n_images, interval.n_seeds) == (50, 1)
    assert (interval.ci_low, interval.ci_high) == pytest.approx(stats.t.interval(0.95, 49, 3, error))
    assert np.isnan(interval.p_value)  # one pair of trained models says nothing of the method


def test_seeds_add_their_own_error():
    noise = np.random.default_rng(0).normal(0, 0.3, 20_000)
    deltas = np.array([1.0, 2.0, 1.5, 1.2, 1.8])
    baselines, others = [run_of(40.0, 40 + 0 * noise)] * 5, [run_of(40 + d, 40 + d + noise) for d in deltas]
    interval = paired_difference(baselines, others)["AP"]
    assert interval.delta == pytest.approx(1.5)
    assert interval.se_images == pytest.approx(noise.std(ddof=1))
    assert interval.se_seeds == pytest.approx(stats.sem(deltas))
    assert interval.sd_seeds == pytest.approx(deltas.std(ddof=1))
    # Wider than a normal interval of both errors, narrower than one that had four degrees of freedom in all.
    error = np.hypot(interval.se_images, interval.se_seeds)
    assert 1.96 * error < interval.ci_high - interval.delta < stats.t.ppf(0.975, 4) * error


def test_what_images_do_to_single_seeds_is_counted_once():
    """Five seeds without any spread of their own: what the images do to each is in both variances."""
    shared, noise = (
        np.random.default_rng(0).normal(0, 1, 20_000),
        np.random.default_rng(1).normal(0, 1, (5, 20_000)),
    )
    deltas = stats.norm.ppf((np.arange(5) + 0.5) / 5)
    deltas /= deltas.std(ddof=1)  # the variance of the noise
    baselines = [run_of(40.0, np.full(20_000, 40.0))] * 5
    others = [run_of(40 + d, 40 + d + shared + own) for d, own in zip(deltas, noise, strict=True)]
    interval = paired_difference(baselines, others)["AP"]
    assert interval.se_images == pytest.approx(1, rel=0.02)
    assert interval.se_seeds == pytest.approx(np.sqrt(1 / 5))
    t = np.average([stats.t.ppf(0.975, 49), stats.t.ppf(0.975, 4)], weights=[1, 1 / 5])
    assert interval.ci_high - interval.delta == pytest.approx(t * np.sqrt(1 + 1 / 5), rel=0.02)


def test_the_p_value_is_where_the_interval_ends_at_zero():
    noise = np.random.default_rng(0).normal(0, 0.3, (3, 2000))
    baselines = [run_of(40.0, np.full(2000, 40.0))] * 3
    others = [run_of(40 + d, 40 + d + own) for d, own in zip((0.2, 1.9, 1.1), noise, strict=True)]
    p_value = paired_difference(baselines, others)["AP"].p_value
    assert 0.01 < p_value < 0.5
    assert paired_difference(baselines, others, 1 - p_value)["AP"].ci_low == pytest.approx(0, abs=1e-6)


def test_fewer_than_ten_images_of_a_size_give_no_interval():
    """All annotations in one image: every resample has the same AP, and the interval would be one point."""
    pair = [run_of(40.0, np.full(100, 40.0), n_holding=9)], [run_of(49.5, np.full(100, 49.5), n_holding=9)]
    interval = paired_difference(*pair)["AP"]
    assert interval.delta == 9.5
    assert np.isnan([interval.ci_low, interval.ci_high, interval.p_value, interval.se_images]).all()
    two = paired_difference(pair[0] * 2, pair[1] * 2)["AP"]
    assert np.isnan([two.ci_low, two.p_value, two.se_images, two.se_seeds]).all() and two.sd_seeds == 0


def test_without_an_error_of_images_seeds_are_a_t_test():
    a, b = np.array([40.0, 41.0, 40.5]), np.array([41.5, 41.8, 41.9])
    runs = [[run_of(x, np.full(100, x)) for x in values] for values in (a, b)]
    interval = paired_difference(*runs)["AP"]
    expected = stats.ttest_rel(b, a)
    assert interval.p_value == pytest.approx(expected.pvalue)
    assert (interval.ci_low, interval.ci_high) == pytest.approx(tuple(expected.confidence_interval()))


POINTS = st.floats(0, 100, width=16)
RUN = st.tuples(POINTS, st.lists(POINTS, min_size=12, max_size=12)).map(lambda run: run_of(*run))
SEEDS = st.lists(st.tuples(RUN, RUN), min_size=1, max_size=4)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(SEEDS, st.randoms(use_true_random=False))
def test_an_interval_holds_its_delta_and_turns_over_with_the_runs(pairs, random):
    baselines, others = map(list, zip(*pairs, strict=True))
    there, back = paired_difference(baselines, others)["AP"], paired_difference(others, baselines)["AP"]
    assert there.ci_low <= there.delta <= there.ci_high
    assert np.isnan(there.p_value) if len(pairs) == 1 else 0 <= there.p_value <= 1
    assert there.delta == pytest.approx(np.mean([b.estimate[0] - a.estimate[0] for a, b in pairs]), abs=1e-9)
    turned = (-back.delta, -back.ci_high, -back.ci_low, back.p_value)
    known = (there.delta, there.ci_low, there.ci_high, there.p_value)
    assert turned == pytest.approx(known, abs=1e-6, nan_ok=True)
    random.shuffle(pairs)  # which seed is named first does not matter
    again = paired_difference(*map(list, zip(*pairs, strict=True)))["AP"]
    assert again.ci_low == pytest.approx(there.ci_low, abs=1e-6)


@pytest.mark.parametrize(
    ("others", "message"),
    [
        ([], "1 baselines and 0"),
        ([run_of(1.0, [1.0], 51)], "found different"),
        ([run_of(1.0, [1.0], 50, 7)], "alike"),
        ([run_of(1.0, [1.0], images="b")], "hash of the images"),
    ],
)
def test_runs_that_cannot_be_compared_are_refused(others, message):
    with pytest.raises(ReplicatesError, match=message):
        paired_difference([run_of(1.0, [1.0])], others)


POPULATION, SAMPLE = 60, 400


@pytest.fixture(scope="module")
def population(tmp_path_factory):
    """Two detectors on a population of images, as functions of weights: their true difference is known.

    Samples are larger than the population: they are draws from the distribution of images that it is.
    """
    folder = tmp_path_factory.mktemp("population")
    dataset = make_dataset(11, images=POPULATION, categories=2, objects=4)
    truth = load_ground_truth(write(folder / "annotations.json", dataset))
    detectors = []
    # The same misses and boxes; the scores of the second follow the IoUs more closely.
    for correlation in (0.3, 0.5):
        entries = make_detections(12, dataset, correlation=correlation, duplicates=0.2, background=2)
        found = load_detections(write(folder / f"{correlation}.json", entries), truth)
        detectors.append(match(truth, found))
    return lambda weights: [weighted_ap(matches, truth, weights) for matches in detectors]


def sampled(values):
    values = np.pad(values, [(0, 0), (0, len(METRICS) - values.shape[1])])  # ρ is not simulated
    return Replicates(values[0], values[1:], SAMPLE, 0, "sample", np.full(len(METRICS), SAMPLE))


def simulate(population, n_samples, n_replicates=50, multiplicities=True, seed=0):
    """Bootstrap many samples of images; return coverage of the 95% interval of ΔAP and standard errors.

    A resample of a sample is again a vector of weights on the population, so one call evaluates them all.
    """
    rng = np.random.default_rng(seed)
    weights = np.empty((n_samples, 1 + n_replicates, POPULATION), dtype=np.int32)
    for sample in weights:
        drawn = rng.integers(POPULATION, size=SAMPLE)
        times = rng.multinomial(SAMPLE, np.full(SAMPLE, 1 / SAMPLE), size=n_replicates)
        if not multiplicities:
            times = np.minimum(times, 1)
        of_population = drawn[:, None] == np.arange(POPULATION)
        sample[0], sample[1:] = of_population.sum(axis=0), times @ of_population
    weights = weights.reshape(-1, POPULATION)
    everyone = np.ones((1, POPULATION), dtype=np.int32)
    a, b = population(np.concatenate([everyone, weights]))
    true_delta = (b - a)[0, 0]
    a, b = (values[1:].reshape(n_samples, 1 + n_replicates, -1) for values in (a, b))
    intervals = [paired_difference([sampled(x)], [sampled(y)])["AP"] for x, y in zip(a, b, strict=True)]
    coverage = np.mean([i.ci_low <= true_delta <= i.ci_high for i in intervals])
    expected_error = np.mean([i.se_images for i in intervals])
    return coverage, expected_error, np.std([i.delta for i in intervals], ddof=1)


def test_intervals_cover_the_true_difference_95_times_of_100(population):
    coverage, expected_error, actual_error = simulate(population, n_samples=250)
    assert 0.93 <= coverage <= 0.97
    assert expected_error == pytest.approx(actual_error, rel=0.12)


def test_dropping_multiplicities_makes_intervals_too_narrow(population):
    """The flaw of resampling with each image at most once: the spread shrinks by about a quarter."""
    coverage, expected_error, actual_error = simulate(population, n_samples=250, multiplicities=False)
    assert coverage < 0.93
    assert 0.6 < expected_error / actual_error < 0.85


@pytest.mark.slow
def test_intervals_cover_the_true_difference_in_a_large_simulation(population):
    coverage, _, _ = simulate(population, n_samples=1500, n_replicates=150, seed=1)
    assert 0.93 <= coverage <= 0.97


N_IMAGES, RESAMPLES = 100, 200


def coverage_over_seeds(ratio, n_seeds, interaction, n_experiments, seed=0):
    """Return how often the interval holds the true gain, 0, in simulated experiments.

    The gain of a seed is an effect of the seed plus the mean over images of an effect of the image, shared by
    all seeds, and one of image and seed together, whose share of the image variance is `interaction`. `ratio`
    is the standard deviation of the seed's effect over the error of the images in one seed's gain, 1.
    """
    rng = np.random.default_rng(seed)
    held = 0
    weights = rng.multinomial(N_IMAGES, np.full(N_IMAGES, 1 / N_IMAGES), RESAMPLES) / N_IMAGES
    baselines = [run_of(0.0, np.zeros(RESAMPLES), N_IMAGES)] * n_seeds
    for _ in range(n_experiments):
        images = np.sqrt(N_IMAGES * (1 - interaction)) * rng.normal(size=N_IMAGES)
        gains = images + np.sqrt(N_IMAGES * interaction) * rng.normal(size=(n_seeds, N_IMAGES))
        gains += ratio * rng.normal(size=(n_seeds, 1))
        others = [run_of(gain.mean(), weights @ gain, N_IMAGES) for gain in gains]
        interval = paired_difference(baselines, others)["AP"]
        held += interval.ci_low <= 0 <= interval.ci_high
    return held / n_experiments


RATIOS, INTERACTIONS = [0.5, 1, 2, 4], [0.0, 0.5, 1.0]


@pytest.mark.parametrize(
    ("n_seeds", "lowest", "highest"), [(2, 0.939, 0.979), (3, 0.95, 0.972), (5, 0.95, 0.965)]
)
def test_the_exact_coverage_over_seeds(n_seeds, lowest, highest):
    """By quadrature over s², which is chi-squared, with the variances of the images known."""
    probability = (np.arange(2000) + 0.5) / 2000
    chi_squared = stats.chi2.ppf(probability, n_seeds - 1) / (n_seeds - 1)
    found = []
    for ratio, interaction in itertools.product(RATIOS, INTERACTIONS):
        images, seeds = 1 - interaction, ratio**2 + interaction
        error = np.sqrt(images + seeds / n_seeds)
        widths = [
            half_width([(images, 10**6), (s / n_seeds, n_seeds - 1)], 0.05) for s in seeds * chi_squared
        ]
        found.append(np.mean(2 * stats.norm.cdf(np.array(widths) / error) - 1))
    assert lowest - 1e-3 <= min(found) and max(found) <= highest


@pytest.mark.parametrize(("ratio", "n_seeds"), [(0.5, 5), (1, 3), (2, 5), (4, 3)])
def test_intervals_over_seeds_cover_the_true_gain(ratio, n_seeds):
    assert 0.92 <= coverage_over_seeds(ratio, n_seeds, 0.5, 500) <= 0.99


@pytest.mark.slow
@pytest.mark.parametrize("n_seeds", [3, 5])
@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize("interaction", INTERACTIONS)
def test_intervals_over_seeds_cover_the_true_gain_in_a_large_simulation(ratio, n_seeds, interaction):
    coverage = coverage_over_seeds(ratio, n_seeds, interaction, 3000, seed=1)
    # 93 to 97%, for three seeds to 97.2%, and two and a half standard errors of the simulation.
    highest, error = {3: 0.972, 5: 0.97}[n_seeds], 2.5 * np.sqrt(0.95 * 0.05 / 3000)
    assert 0.93 - error <= coverage <= highest + error


def test_holm_is_the_slow_definition():
    p_values = [0.04, 0.001, 0.03, 0.5, 0.012]
    ranked = sorted(p_values)
    expected = [
        max(min(1, (5 - rank) * ranked[rank]) for rank in range(ranked.index(p) + 1)) for p in p_values
    ]
    assert holm(p_values) == pytest.approx(expected)
    assert holm([]) == [] and np.isnan(holm([float("nan")])).all()
