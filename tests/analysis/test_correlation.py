import numpy as np
import pytest
from scipy import stats
from synthetic_coco import make_dataset, make_detections, write

from corrloss.analysis.correlation import (
    alignment,
    correlate,
    load_positives,
    rho_cls,
    rho_img,
    true_positives,
)
from corrloss.analysis.matching import match
from corrloss.coco import DetectionsError, load_detections, load_ground_truth


def lin(x, y):
    """Lin's concordance coefficient, straight from its definition with unbiased moments."""
    covariance = np.cov(x, y)
    return 2 * covariance[0, 1] / (covariance[0, 0] + covariance[1, 1] + (x.mean() - y.mean()) ** 2)


@pytest.mark.parametrize("digits", [1, 8])
def test_coefficients_are_those_of_scipy_averaged_over_groups(digits):
    rng = np.random.default_rng(0)
    groups = rng.permutation(np.repeat([3, 7, 8, 20], [2, 5, 40, 300]))
    ious = np.round(rng.uniform(0.5, 1, len(groups)), digits)
    scores = np.round(np.clip(ious + rng.normal(0, 0.2, len(groups)), 0, 1), digits)
    # With one digit the pair of group 3 may be constant; make it vary, so all four groups count.
    scores[groups == 3], ious[groups == 3] = [0.2, 0.4], [0.9, 0.6]
    result = correlate(scores, ious, groups, n_possible=4)
    expected = {
        "spearman": lambda x, y: stats.spearmanr(x, y).statistic,
        "pearson": lambda x, y: stats.pearsonr(x, y).statistic,
        "kendall": lambda x, y: stats.kendalltau(x, y).statistic,
        "concordance": lin,
    }
    for name, function in expected.items():
        values = [function(scores[groups == g], ious[groups == g]) for g in np.unique(groups)]
        assert getattr(result, name) == pytest.approx(100 * np.mean(values), abs=1e-9), name
    assert (result.n_groups, result.n_left_out) == (4, 0)


def test_undefined_groups_are_left_out_and_counted():
    scores = np.array([0.1, 0.9, 0.5, 0.3, 0.3, 0.2, 0.4])
    ious = np.array([0.6, 0.7, 0.8, 0.6, 0.9, 0.7, 0.7])
    groups = np.array([0, 0, 1, 2, 2, 3, 3])  # defined; alone; one score; one IoU
    result = correlate(scores, ious, groups, n_possible=6)
    assert result.spearman == result.pearson == result.kendall == pytest.approx(100)
    assert (result.n_groups, result.n_left_out) == (1, 5)


def test_no_group_at_all_is_nan_not_zero():
    result = correlate(np.array([]), np.array([]), np.array([], dtype=int), n_possible=3)
    assert np.isnan([result.spearman, result.pearson, result.kendall, result.concordance]).all()
    assert (result.n_groups, result.n_left_out) == (0, 3)


@pytest.fixture
def run(tmp_path):
    dataset = make_dataset(0, crowd=0.1)
    truth = load_ground_truth(write(tmp_path / "annotations.json", dataset))
    path = write(tmp_path / "detections.json", make_detections(1, dataset))
    found = load_detections(path, truth)
    return truth, found, match(truth, found, areas=("all",))


def positives_of(tmp_path, truth, **change):
    """Write positives as the predict stage does: every annotation with a few candidates."""
    rng = np.random.default_rng(2)
    chosen = np.repeat(np.flatnonzero(~truth.is_crowd), 4)
    iou = rng.uniform(0.3, 1, len(chosen)).astype(np.float32)
    arrays = {
        "image_id": truth.image_id[chosen],
        "category_id": truth.category_id[chosen],
        "annotation_id": truth.annotation_id[chosen],
        "score": np.clip(iou + rng.normal(0, 0.3, len(iou)), 0, 1).astype(np.float32),
        "iou": iou,
        "min_iou": np.float32(0.3),
    } | change
    np.savez(tmp_path / "positives.npz", **{k: v for k, v in arrays.items() if v is not None})
    return tmp_path / "positives.npz"


def test_rho_img_is_the_mean_spearman_over_images(tmp_path, run):
    truth = run[0]
    positives = load_positives(positives_of(tmp_path, truth), truth)
    for threshold in (0.3, 0.5, 0.7):
        values = []
        for image in truth.image_ids:
            chosen = (positives.image_id == image) & (positives.iou >= threshold)
            if chosen.sum() > 1:
                values.append(stats.spearmanr(positives.score[chosen], positives.iou[chosen]).statistic)
        result = rho_img(positives, truth, threshold)
        assert result.spearman == pytest.approx(100 * np.mean(values), abs=1e-9)
        with_objects = len(np.unique(truth.image_id[~truth.is_crowd]))
        assert (result.n_groups, result.n_left_out) == (len(values), with_objects - len(values))


def test_the_ten_best_scored_positives_of_each_object_are_a_second_definition(tmp_path, run):
    truth = run[0]
    positives = load_positives(positives_of(tmp_path, truth), truth)
    values, n_positives = [], 0
    for image in truth.image_ids:
        scores, ious = [], []
        for annotation in truth.annotation_id[truth.image_id == image]:
            own = np.flatnonzero((positives.annotation_id == annotation) & (positives.iou >= 0.3))
            best = own[np.argsort(-positives.score[own], kind="stable")][:3]
            scores, ious = [*scores, *positives.score[best]], [*ious, *positives.iou[best]]
        n_positives += len(scores)
        if len(scores) > 1:
            values.append(stats.spearmanr(scores, ious).statistic)
    result = rho_img(positives, truth, 0.3, top=3)
    assert result.spearman == pytest.approx(100 * np.mean(values), abs=1e-9)
    assert result.n_positives == n_positives < rho_img(positives, truth, 0.3).n_positives


def test_alignment_within_objects_is_that_of_a_loop_over_objects(tmp_path, run):
    truth = run[0]
    rng = np.random.default_rng(5)
    chosen = np.repeat(np.flatnonzero(~truth.is_crowd), rng.integers(0, 70, (~truth.is_crowd).sum()))
    iou = rng.uniform(0.3, 1, len(chosen)).astype(np.float32)
    names = ("image_id", "category_id", "annotation_id")
    columns = {name: getattr(truth, name)[chosen] for name in names}
    score = np.clip(iou + rng.normal(0, 0.3, len(iou)), 0, 1).round(2).astype(np.float32)
    positives = load_positives(positives_of(tmp_path, truth, **columns, iou=iou, score=score), truth)
    pcc, ious, hits = [], [], []
    for annotation in truth.annotation_id:
        own = np.flatnonzero((positives.annotation_id == annotation) & (iou >= 0.5))
        own = own[np.argsort(-score[own], kind="stable")]
        if len(own):
            ious.append(iou[own[:10]].mean(dtype=float))
        if len(own) > 1:
            hits.append(iou[own[0]] == iou[own].max())
        if len(set(score[own[:50]])) > 1:
            pcc.append(stats.pearsonr(score[own[:50]].astype(float), iou[own[:50]].astype(float)).statistic)
    expected = {"object_PCC": pcc, "object_IoU": ious, "best_box": hits}
    assert alignment(positives) == pytest.approx({name: 100 * np.mean(v) for name, v in expected.items()})


def test_alignment_without_a_positive_is_nan(tmp_path, run):
    names = ("image_id", "category_id", "annotation_id")
    nothing = {name: np.array([], dtype=int) for name in names} | {"iou": np.array([]), "score": np.array([])}
    positives = load_positives(positives_of(tmp_path, run[0], **nothing), run[0])
    assert np.isnan(list(alignment(positives).values())).all()


def test_rho_img_refuses_a_threshold_below_what_is_stored(tmp_path, run):
    positives = load_positives(positives_of(tmp_path, run[0]), run[0])
    with pytest.raises(ValueError, match="at or above"):
        rho_img(positives, run[0], threshold=0.2)


def test_rho_cls_is_the_mean_spearman_over_classes(run):
    truth, found, matches = run
    rows, iou = true_positives(matches, 0.5)
    category = found.category_id[matches.detection[rows]]
    score = found.score[matches.detection[rows]]
    values = [
        stats.spearmanr(score[category == c], iou[category == c]).statistic
        for c in truth.category_ids
        if (category == c).sum() > 1
    ]
    result = rho_cls(matches, truth)
    assert result.spearman == pytest.approx(100 * np.mean(values), abs=1e-9)
    assert result.n_groups == len(values)


def test_true_positives_exclude_crowds_and_say_what_was_matched(run):
    truth, _, matches = run
    rows, iou = true_positives(matches, 0.75)
    annotation = matches.pairs.annotation[matches.pair[0, 5, rows]]
    assert not truth.is_crowd[annotation].any()
    assert (iou >= 0.75).all()
    assert len(np.unique(annotation)) == len(annotation)
    with pytest.raises(ValueError, match=r"0\.42 .* was not matched"):
        true_positives(matches, 0.42)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"iou": None}, "no array iou"),
        ({"min_iou": None}, "no array min_iou"),
        ({"score": np.zeros(3, np.float32)}, "different shapes"),
        ({"image_id": 10**6}, r"positive\[5\] .*image_id 1000000 is not in the ground truth"),
        ({"category_id": 999}, "category_id 999"),
        ({"annotation_id": 10**6}, "annotation_id"),
        ({"score": np.nan}, "score nan is outside"),
        ({"iou": 0.1}, "iou 0.1.* is outside"),
    ],
)
def test_broken_positives_are_named(tmp_path, run, change, message):
    path = positives_of(tmp_path, run[0])
    (name, value), arrays = *change.items(), dict(np.load(path))
    if value is None or isinstance(value, np.ndarray):
        path = positives_of(tmp_path, run[0], **change)
    else:
        arrays[name][5] = value
        np.savez(path, **arrays)
    with pytest.raises(DetectionsError, match=message) as error:
        load_positives(path, run[0])
    assert "positives.npz" in str(error.value)


@pytest.mark.parametrize("content", [None, b"", b"PK\x03\x04 truncated"])
def test_a_missing_or_truncated_positives_file_is_named(tmp_path, run, content):
    path = tmp_path / "positives.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DetectionsError, match=r"positives\.npz: cannot read"):
        load_positives(path, run[0])
