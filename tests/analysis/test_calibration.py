import json

import numpy as np
import pytest
from pycocotools.mask import iou as coco_iou
from scipy import stats
from synthetic_coco import load, make_dataset, make_detections

from corrloss.analysis.ap import average_precision, hotcoco_evaluation
from corrloss.analysis.calibration import (
    CURVE,
    calibrated,
    calibration_curves,
    calibration_errors,
    match_for_calibration,
    reliability,
)


def greedy(truth, found, tau):
    """The slow definition: IoU of each detection's match, 0 for none, by class; no crowds."""
    iou = np.zeros(len(found))
    for image in truth.image_ids:
        for category in truth.category_ids:
            own = np.flatnonzero((found.image_id == image) & (found.category_id == category))
            boxes = truth.bbox[(truth.image_id == image) & (truth.category_id == category)]
            free = set(range(len(boxes)))
            for i in own[np.argsort(-found.score[own], kind="stable")]:
                ious = {j: coco_iou(found.bbox[i : i + 1], boxes[j : j + 1], [0])[0, 0] for j in free}
                best = max(ious, key=ious.get, default=None)
                if best is not None and ious[best] >= tau and ious[best] > 0:
                    iou[i] = ious[best]
                    free.remove(best)
    return iou


def slow_error(scores, targets, n_bins):
    """Küppers et al. and Oksuz et al., bin by bin."""
    edges, total = np.linspace(0, 1, n_bins + 1), 0.0
    for k in range(n_bins):
        own = (scores > edges[k]) & (scores <= edges[k + 1]) | ((k == 0) & (scores == 0))
        if own.any():
            total += own.mean() * abs(scores[own].mean() - targets[own].mean())
    return total


@pytest.fixture
def run(tmp_path):
    dataset = make_dataset(2, images=40, categories=3, crowd=0)
    return load(tmp_path, dataset, make_detections(2, dataset, ties=True))


@pytest.mark.parametrize("least", [0.0, 0.3])
def test_both_errors_are_those_of_the_slow_definitions(run, least):
    truth, found = run
    kept = found.score >= least
    laece = []
    iou = greedy(truth, found, 0)
    for category in truth.category_ids:
        own = kept & (found.category_id == category)
        laece.append(slow_error(found.score[own], iou[own], 25))
    errors = calibration_errors(match_for_calibration(truth, found), truth, least)
    assert errors["LaECE"] == pytest.approx(100 * np.mean(laece), abs=1e-9)
    true = (greedy(truth, found, 0.5) > 0).astype(float)
    assert errors["D_ECE"] == pytest.approx(100 * slow_error(found.score[kept], true[kept], 10), abs=1e-9)


@pytest.mark.parametrize("crowd", [0, 0.2])
def test_d_ece_and_its_bins_are_those_of_hotcoco(tmp_path, crowd):
    """Away from the edges of bins, which belong to the lower bin here and to the upper one there."""
    dataset = make_dataset(3, images=40, categories=3, crowd=crowd)
    truth, found = load(tmp_path, dataset, make_detections(3, dataset))
    theirs = hotcoco_evaluation(truth, found).calibration(n_bins=10, iou_threshold=0.5)
    matches = match_for_calibration(truth, found)
    assert calibration_errors(matches, truth)["D_ECE"] == pytest.approx(100 * theirs["ece"], abs=1e-9)
    for own, other in zip(reliability(matches, truth)["D_ECE"], theirs["bins"], strict=True):
        expected = (other["count"] / theirs["num_detections"], other["avg_confidence"], other["avg_accuracy"])
        assert tuple(own[:3]) == pytest.approx(expected, abs=1e-9)


def test_both_errors_are_those_of_uq_detr(tmp_path):
    """Whose bins span the scores of each class; so here each class has scores of 0 and of 1."""
    uq_detr = pytest.importorskip("uq_detr", reason="pip install uq-detr==0.1.1")
    dataset = make_dataset(1, images=60, categories=5, crowd=0)
    entries = make_detections(1, dataset)
    for category in dataset["categories"]:
        first, second = [e for e in entries if e["category_id"] == category["id"]][:2]
        first["score"], second["score"] = 0.0, 1.0
    truth, found = load(tmp_path, dataset, entries)

    def of_image(columns, image):
        own = columns.image_id == image
        boxes = columns.bbox[own]
        corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
        scores = {"scores": columns.score[own]} if columns is found else {}
        return {"boxes": corners, "labels": columns.category_id[own]} | scores

    detections = [uq_detr.Detections(**of_image(found, image)) for image in truth.image_ids]
    objects = [uq_detr.GroundTruth(**of_image(truth, image)) for image in truth.image_ids]
    laece = uq_detr.laece(detections, objects, tp_criterion="greedy", iou_threshold=1e-9)
    d_ece = uq_detr.dece(detections, objects, tp_criterion="greedy", n_bins=10)
    ours = calibration_errors(match_for_calibration(truth, found), truth)
    theirs = {"LaECE": 100 * laece.score, "D_ECE": 100 * d_ece.score}
    assert ours == pytest.approx(theirs, abs=1e-9)


def test_bins_of_laece_are_means_over_classes_of_the_slow_definition(run):
    truth, found = run
    bins = reliability(match_for_calibration(truth, found), truth)["LaECE"]
    iou, n_classes = greedy(truth, found, 0), len(truth.category_ids)
    for k, (weight, score, target, gap) in enumerate(bins):
        rows = []
        for category in truth.category_ids:
            own = found.category_id == category
            in_bin = own & (np.clip(np.ceil(found.score * 25 - 1e-9), 1, 25) == k + 1)
            share = in_bin.sum() / own.sum() / n_classes
            pair = [found.score[in_bin].mean(), iou[in_bin].mean()] if share else [0, 0]
            rows.append([share, *pair, abs(pair[0] - pair[1])])
        rows = np.array(rows)
        assert weight == pytest.approx(rows[:, 0].sum())
        if weight:
            assert (score, target, gap) == pytest.approx(np.average(rows[:, 1:], axis=0, weights=rows[:, 0]))


def test_curves_are_json_and_agree_with_the_errors(run):
    truth, found = run
    matches = match_for_calibration(truth, found)
    curves = json.loads(json.dumps(calibration_curves(matches, truth), allow_nan=False))
    assert [row[0] for row in curves["over_scores"]] == list(CURVE)
    for score, *errors in curves["over_scores"]:
        expected = list(calibration_errors(matches, truth, score).values())
        assert errors == (pytest.approx(expected, abs=1e-4) if not np.isnan(expected[0]) else [None, None])
    assert {name: len(curves[name]) for name in ("LaECE", "D_ECE")} == {"LaECE": 25, "D_ECE": 10}


def test_detections_on_crowds_and_of_classes_without_annotations_do_not_count(tmp_path):
    dataset = make_dataset(2, images=40, categories=3, crowd=0.4)
    entries = make_detections(2, dataset, ties=True)
    gone = dataset["categories"][0]["id"]
    dataset["annotations"] = [a for a in dataset["annotations"] if a["category_id"] != gone]
    truth, found = load(tmp_path, dataset, entries)
    errors = calibration_errors(match_for_calibration(truth, found), truth)
    _, fewer = load(tmp_path, dataset, [e for e in entries if e["category_id"] != gone])
    assert calibration_errors(match_for_calibration(truth, fewer), truth) == pytest.approx(errors)
    crowd = next(a for a in dataset["annotations"] if a["iscrowd"])
    place = {name: crowd[name] for name in ("image_id", "category_id")}
    dataset["annotations"] = [
        a for a in dataset["annotations"] if a is crowd or not place.items() <= a.items()
    ]
    inside = place | {"bbox": crowd["bbox"], "score": 0.05}  # no other annotation of its class is there
    truth, found = load(tmp_path, dataset, entries)
    _, more = load(tmp_path, dataset, [*entries, inside])
    without, with_it = (calibration_errors(match_for_calibration(truth, d), truth) for d in (found, more))
    assert with_it == pytest.approx(without)


def test_isotonic_regression_mends_calibration_and_leaves_the_order(run):
    truth, found = run
    matches = match_for_calibration(truth, found)
    mended = calibrated(truth, found, matches)
    before = calibration_errors(matches, truth)
    after = calibration_errors(match_for_calibration(truth, mended), truth)
    assert after["LaECE"] < 0.8 * before["LaECE"]
    even = np.isin(found.image_id, truth.image_ids[::2])
    for category in truth.category_ids:
        for half in (even, ~even):
            own = half & (found.category_id == category)
            assert stats.spearmanr(found.score[own], mended.score[own]).statistic == pytest.approx(1)
            assert len(np.unique(found.score[own])) == len(np.unique(mended.score[own]))
    change = average_precision(truth, mended)["AP"] - average_precision(truth, found)["AP"]
    assert abs(change) < 2


def test_no_image_is_calibrated_by_itself(run):
    truth, found = run
    even = np.isin(found.image_id, truth.image_ids[::2])
    other = found.with_scores(np.where(even, np.float32(0.5), found.score))
    scores = calibrated(truth, other, match_for_calibration(truth, other)).score
    n = len(truth.category_ids)
    assert len(np.unique(scores[~even].round(4))) <= n  # fitted at one score of each class
    assert len(np.unique(scores[even])) <= n  # one score of each class is mapped


def test_nothing_detected_has_no_error(tmp_path):
    truth, found = load(tmp_path, make_dataset(0, images=8), [])
    errors = calibration_errors(match_for_calibration(truth, found), truth)
    assert np.isnan([errors["LaECE"], errors["D_ECE"]]).all()
    assert len(calibrated(truth, found, match_for_calibration(truth, found))) == 0
