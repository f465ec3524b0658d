import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from synthetic_coco import make_dataset, make_detections, with_masks, write

from corrloss.analysis.ap import average_precision
from corrloss.analysis.differences import paired_difference
from corrloss.analysis.matching import match
from corrloss.analysis.replicates import Replicates, ReplicatesError, bootstrap_ap, resample
from corrloss.analysis.weighted_ap import METRICS, weighted_ap
from corrloss.coco import load_detections, load_ground_truth


def load(folder, dataset, entries, iou_type="bbox"):
    truth = load_ground_truth(write(folder / "annotations.json", dataset))
    return truth, load_detections(write(folder / "detections.json", entries), truth, iou_type)


def with_copies(dataset, entries, weights):
    """Return a data set in which each image stands as often as its weight says, copies side by side."""
    images, annotations, detections = [], [], []
    for image in dataset["images"]:
        for copy in range(weights[image["id"]]):
            number = 100 * image["id"] + copy
            images.append(image | {"id": number, "file_name": f"{number}.png"})
            for a in dataset["annotations"]:
                if a["image_id"] == image["id"]:
                    annotations.append(a | {"id": len(annotations) + 1, "image_id": number})
            detections += [e | {"image_id": number} for e in entries if e["image_id"] == image["id"]]
    return dataset | {"images": images, "annotations": annotations}, detections


@pytest.mark.parametrize(
    ("seed", "iou_type"), [(0, "bbox"), (1, "bbox"), (2, "bbox"), (3, "bbox"), (0, "segm"), (1, "segm")]
)
def test_weights_are_the_same_as_physical_copies_of_the_images(tmp_path, seed, iou_type):
    dataset = make_dataset(seed, images=25, crowd=0.15, masks=iou_type == "segm")
    entries = make_detections(seed, dataset, ties=True)
    if seed == 3:  # nearly all scores tie, within and across images
        entries = [e | {"score": round(e["score"], 1)} for e in entries]
    if iou_type == "segm":
        entries = with_masks(entries, dataset)
    truth, found = load(tmp_path, dataset, entries, iou_type)
    weights = resample(25, 6, seed)
    weights[0] = 1
    values = weighted_ap(match(truth, found), truth, weights)
    for row, value in zip(weights, values, strict=True):
        by_id = dict(zip(truth.image_ids.tolist(), row.tolist(), strict=True))
        copies = load(tmp_path, *with_copies(dataset, entries, by_id), iou_type)
        backend = "pycocotools" if seed == 0 else "hotcoco"
        expected = average_precision(*copies, iou_type, backend)
        np.testing.assert_allclose(value, [expected[m] for m in METRICS], rtol=0, atol=1e-9)


def test_recall_points_that_lie_on_a_true_positive_are_those_of_coco(tmp_path):
    # 100 annotations: every true positive lies on a recall point, up to the last bit of a float.
    dataset = make_dataset(0, images=20, categories=1, crowd=0)
    dataset["annotations"] = dataset["annotations"][:100]
    assert len(dataset["annotations"]) == 100
    truth, found = load(tmp_path, dataset, make_detections(0, dataset, recall=0.9, ties=True))
    value = weighted_ap(match(truth, found), truth, np.ones((1, 20), dtype=np.int32))[0]
    expected = average_precision(truth, found, backend="pycocotools")
    np.testing.assert_allclose(value, [expected[m] for m in METRICS], rtol=0, atol=1e-9)


def test_a_size_without_annotations_is_nan(tmp_path):
    dataset = make_dataset(0)
    dataset["annotations"] = [a for a in dataset["annotations"] if a["area"] > 32**2]
    run = bootstrap_ap(*load(tmp_path, dataset, make_detections(1, dataset)), n_replicates=5)
    assert np.isnan(run.estimate[3])
    assert np.isnan(run.values[:, 3]).all()
    assert np.isfinite(np.delete(run.values, 3, axis=1)).all()
    interval = paired_difference([run], [run])["AP_S"]
    assert np.isnan([interval.delta, interval.ci_low, interval.p_value, interval.se_images]).all()


def test_a_run_that_detects_nothing_has_zeros(tmp_path):
    run = bootstrap_ap(*load(tmp_path, make_dataset(0), []), n_replicates=5)
    np.testing.assert_array_equal(run.values, 0)
    np.testing.assert_array_equal(run.estimate, 0)


def test_replicates_survive_the_file_and_a_broken_file_is_named(tmp_path):
    truth, found = load(tmp_path, make_dataset(0, images=8), make_detections(1, make_dataset(0, images=8)))
    run = bootstrap_ap(truth, found, n_replicates=5, seed=3)
    run.save(tmp_path / "bootstrap.npz")
    again = Replicates.load(tmp_path / "bootstrap.npz")
    np.testing.assert_array_equal(again.values, run.values)
    assert (again.n_images, again.seed) == (8, 3)
    (tmp_path / "bootstrap.npz").write_bytes(b"PK\x03\x04")
    with pytest.raises(ReplicatesError, match=r"bootstrap\.npz: expected bootstrap replicates"):
        Replicates.load(tmp_path / "bootstrap.npz")


def run_of(estimate, values, n_images=50, seed=0):
    """Return replicates whose six metrics are one."""
    return Replicates(np.full(6, estimate), np.repeat(np.asarray(values)[:, None], 6, axis=1), n_images, seed)


def test_a_run_against_itself_has_no_difference():
    run = run_of(40.0, np.random.default_rng(0).normal(40, 1, 200))
    interval = paired_difference([run], [run])["AP"]
    assert (interval.delta, interval.ci_low, interval.ci_high, interval.p_value) == (0, 0, 0, 1)


def test_one_seed_has_the_error_of_the_images_alone():
    noise = np.random.default_rng(0).normal(0, 1, 2000)
    interval = paired_difference([run_of(40.0, 40 + 0 * noise)], [run_of(43.0, 43 + noise)])["AP"]
    error = noise.std(ddof=1)
    assert (interval.delta, interval.se_images) == (3, pytest.approx(error))
    assert np.isnan(interval.se_seeds)
    assert (interval.n_images, interval.n_seeds) == (50, 1)
    assert (interval.ci_low, interval.ci_high) == pytest.approx(stats.t.interval(0.95, 49, 3, error))
    assert interval.p_value == pytest.approx(2 * stats.t.sf(3 / error, 49))


def test_seeds_add_their_own_error():
    noise = np.random.default_rng(0).normal(0, 0.3, 20_000)
    deltas = np.array([1.0, 2.0, 1.5, 1.2, 1.8])
    baselines, others = [run_of(40.0, 40 + 0 * noise)] * 5, [run_of(40 + d, 40 + d + noise) for d in deltas]
    interval = paired_difference(baselines, others)["AP"]
    assert interval.delta == pytest.approx(1.5)
    assert interval.se_images == pytest.approx(noise.std(ddof=1))
    assert interval.se_seeds == pytest.approx(stats.sem(deltas))
    # Wider than a normal interval of both errors, narrower than one that had four degrees of freedom in all.
    error = np.hypot(interval.se_images, interval.se_seeds)
    assert 1.96 * error < interval.ci_high - interval.delta < stats.t.ppf(0.975, 4) * error


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
    assert there.ci_low <= there.delta <= there.ci_high and 0 <= there.p_value <= 1
    assert there.delta == pytest.approx(np.mean([b.estimate[0] - a.estimate[0] for a, b in pairs]), abs=1e-9)
    turned = (-back.delta, -back.ci_high, -back.ci_low, back.p_value)
    assert turned == pytest.approx((there.delta, there.ci_low, there.ci_high, there.p_value), abs=1e-6)
    random.shuffle(pairs)  # which seed is named first does not matter
    again = paired_difference(*map(list, zip(*pairs, strict=True)))["AP"]
    assert again.ci_low == pytest.approx(there.ci_low, abs=1e-6)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.integers(0, 2**31), st.lists(st.integers(0, 3), min_size=6, max_size=6).filter(any))
def test_any_multiplicities_are_physical_copies(tmp_path_factory, seed, weights):
    folder = tmp_path_factory.getbasetemp()
    dataset = make_dataset(seed, images=6, objects=3, crowd=0.2)
    entries = [e | {"score": round(e["score"], 1)} for e in make_detections(seed, dataset, background=3)]
    truth, found = load(folder, dataset, entries)
    value = weighted_ap(match(truth, found), truth, np.array([weights], dtype=np.int32))[0]
    by_id = dict(zip(truth.image_ids.tolist(), weights, strict=True))
    copies = load(folder, *with_copies(dataset, entries, by_id))
    expected = average_precision(*copies, "bbox", "pycocotools")
    np.testing.assert_allclose(value, [expected[m] for m in METRICS], rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("others", "message"),
    [
        ([], "1 baselines and 0"),
        ([run_of(1.0, [1.0], 51)], "one data set"),
        ([run_of(1.0, [1.0], 50, 7)], "alike"),
    ],
)
def test_runs_that_cannot_be_compared_are_refused(others, message):
    with pytest.raises(ReplicatesError, match=message):
        paired_difference([run_of(1.0, [1.0])], others)


def test_weighted_ap_refuses_partial_matches_and_foreign_weights(tmp_path):
    truth, found = load(tmp_path, make_dataset(0, images=8), make_detections(1, make_dataset(0, images=8)))
    with pytest.raises(ValueError, match="all of COCO's thresholds"):
        weighted_ap(match(truth, found, [0.5]), truth, np.ones((1, 8), dtype=int))
    with pytest.raises(ValueError, match=r"\(1, 9\) for 8 images"):
        weighted_ap(match(truth, found), truth, np.ones((1, 9), dtype=int))


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
    intervals = [
        paired_difference([Replicates(x[0], x[1:], SAMPLE, 0)], [Replicates(y[0], y[1:], SAMPLE, 0)])["AP"]
        for x, y in zip(a, b, strict=True)
    ]
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
