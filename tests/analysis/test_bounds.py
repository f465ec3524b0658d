import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools.mask import iou as coco_iou
from synthetic_coco import load, make_dataset, make_detections, write

from corrloss.analysis.ap import average_precision
from corrloss.analysis.bounds import (
    bound_after_nms,
    order_failures,
    reassign_scores,
    with_ious_as_scores,
)
from corrloss.analysis.correlation import rho_cls
from corrloss.analysis.matching import match
from corrloss.coco import load_detections, load_ground_truth


@settings(deadline=None, max_examples=50)
@given(st.data(), st.integers(1, 30), st.sampled_from(["best", "worst"]))
def test_each_group_keeps_its_scores_and_has_them_in_order(data, n, order):
    unit = st.floats(0, 1, width=32)
    scores = data.draw(hnp.arrays(np.float32, n, elements=unit))
    ious = data.draw(hnp.arrays(np.float64, n, elements=unit))
    groups = data.draw(hnp.arrays(np.int64, n, elements=st.integers(0, 4)))
    found = reassign_scores(scores, ious, groups, order)
    assert found.dtype == scores.dtype
    for group in np.unique(groups):
        chosen = groups == group
        assert sorted(found[chosen]) == sorted(scores[chosen])
        # Sorted by IoU, scores never step the wrong way between two different IoUs.
        for i in np.flatnonzero(chosen):
            above = chosen & (ious > ious[i])
            assert (found[above] >= found[i]).all() if order == "best" else (found[above] <= found[i]).all()


def test_redeal_refuses_what_it_cannot_deal():
    with pytest.raises(ValueError, match="best, worst"):
        reassign_scores(np.zeros(1), np.zeros(1), np.zeros(1, int), "middling")
    with pytest.raises(ValueError, match="2 scores, 1 IoUs"):
        reassign_scores(np.zeros(2), np.zeros(1), np.zeros(2, int), "best")


@pytest.mark.parametrize("seed", range(3))
def test_the_order_moves_rho_and_ap_between_its_bounds(tmp_path, seed):
    dataset = make_dataset(seed, crowd=0.1)
    truth = load_ground_truth(write(tmp_path / "annotations.json", dataset))
    path = write(tmp_path / "detections.json", make_detections(seed, dataset, duplicates=0))
    actual = load_detections(path, truth)
    matches = match(truth, actual, [0.5], ("all",))
    best, worst = (bound_after_nms(actual, matches, order) for order in ("best", "worst"))
    for bound in (best, worst):
        np.testing.assert_array_equal(np.sort(bound.score), np.sort(actual.score))
        np.testing.assert_array_equal(bound.bbox, actual.bbox)
    rho = [rho_cls(match(truth, d, [0.5], ("all",)), truth).spearman for d in (worst, actual, best)]
    assert rho[0] < -90 < rho[1] < 90 < rho[2]
    ap = [average_precision(truth, d)["AP"] for d in (worst, actual, best)]
    assert ap[0] + 1 < ap[1] < ap[2] - 1


def test_the_worst_order_may_beat_the_actual_one_where_there_are_duplicates(tmp_path):
    """The smallest case: in the worst order, a duplicate with a better box takes the first object."""
    objects = [[0, 0, 100, 100], [200, 0, 100, 100]]
    dataset = {
        "images": [{"id": 1, "height": 200, "width": 400, "file_name": "1.png"}],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": [
            {"id": i, "image_id": 1, "category_id": 1, "bbox": box, "area": 1e4, "iscrowd": 0}
            for i, box in enumerate(objects, 1)
        ],
    }
    boxes = {0.9: [0, 0, 100, 92], 0.8: [0, 0, 100, 93], 0.7: [200, 0, 100, 82]}
    entries = [{"image_id": 1, "category_id": 1, "bbox": b, "score": s} for s, b in boxes.items()]
    truth, actual = load(tmp_path, dataset, entries)
    matches = match(truth, actual, [0.5], ("all",))
    orders = {order: bound_after_nms(actual, matches, order) for order in ("best", "worst")}
    ap = {name: average_precision(truth, d, backend="pycocotools")["AP"] for name, d in orders.items()}
    ap["AP"] = average_precision(truth, actual, backend="pycocotools")["AP"]
    assert ap == pytest.approx({"AP": 68.55, "best": 68.55, "worst": 75.05}, abs=0.005)
    measured = {"AP": ap["AP"]} | {f"bound_cls_{order}_AP": ap[order] for order in ("best", "worst")}
    assert order_failures(measured, "cls") == 1
    assert order_failures(measured | {"bound_cls_worst_AP": 60.0}, "cls") == 0


def test_ious_as_scores_are_the_best_iou_with_the_own_class(tmp_path):
    dataset = make_dataset(4, crowd=0.2)
    truth, found = load(tmp_path, dataset, make_detections(4, dataset))
    oracle = with_ious_as_scores(found, match(truth, found, [0.3], ("all",)), truth)
    for i in range(len(found)):
        own = (truth.image_id == found.image_id[i]) & (truth.category_id == found.category_id[i])
        boxes = truth.bbox[own & ~truth.is_crowd]
        ious = coco_iou(found.bbox[i : i + 1], boxes, [0] * len(boxes)) if len(boxes) else np.zeros((1, 1))
        best = ious.max() if ious.max() >= 0.3 else 0.0
        assert oracle.score[i] == pytest.approx(best, abs=1e-6)
    ap = average_precision(truth, found)["AP"]
    assert average_precision(truth, oracle)["AP"] > ap + 5


def test_false_positives_and_other_classes_keep_their_scores(tmp_path):
    dataset = make_dataset(5, crowd=0.1)
    truth = load_ground_truth(write(tmp_path / "annotations.json", dataset))
    found = load_detections(write(tmp_path / "detections.json", make_detections(5, dataset)), truth)
    matches = match(truth, found, [0.5], ("all",))
    best = bound_after_nms(found, matches, "best")
    true = np.zeros(len(found), dtype=bool)
    true[matches.detection[matches.is_true[0, 0]]] = True
    np.testing.assert_array_equal(best.score[~true], found.score[~true])
    for category in truth.category_ids:
        chosen = true & (found.category_id == category)
        assert sorted(best.score[chosen]) == sorted(found.score[chosen])
