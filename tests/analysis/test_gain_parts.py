import numpy as np
import pytest
from synthetic_coco import load, make_dataset, make_detections, write

from corrloss.analysis.ap import average_precision
from corrloss.analysis.gain_parts import PARTS, gain_parts, in_order_of
from corrloss.analysis.matching import box_iou
from corrloss.coco import load_detections


@pytest.fixture
def pair(tmp_path):
    """Two models of one data set: other boxes, other scores."""
    dataset = make_dataset(4, images=30, categories=3)
    truth, one = load(tmp_path, dataset, make_detections(5, dataset, correlation=0.2, ties=True))
    entries = make_detections(6, dataset, correlation=0.8, noise=0.1)
    return truth, one, load_detections(write(tmp_path / "other.json", entries), truth)


def slow_order(one, other):
    """The definition, box by box."""
    partner = {}
    free = set(range(len(other)))
    for i in np.argsort(-one.score, kind="stable"):
        ious = {
            j: box_iou(one.bbox[i : i + 1], other.bbox[j : j + 1], np.array([False]))[0]
            for j in free
            if (other.image_id[j], other.category_id[j]) == (one.image_id[i], one.category_id[i])
        }
        best = max(ious, key=ious.get, default=None)
        if best is not None and ious[best] >= 0.5:
            partner[int(i)] = best
            free.remove(best)
    score = one.score.copy()
    for category in set(one.category_id.tolist()):
        rows = [i for i in partner if one.category_id[i] == category]
        by_partner = sorted(rows, key=lambda i: -other.score[partner[i]])
        score[by_partner] = sorted(one.score[rows], reverse=True)
    return score, set(partner)


def test_scores_are_those_of_the_slow_definition(pair):
    truth, one, other = pair
    found, rows = in_order_of(one, other, truth)
    score, expected = slow_order(one, other)
    assert set(rows.tolist()) == expected and 100 < len(rows) < len(one)
    assert found.score == pytest.approx(score)
    assert found.bbox is one.bbox and sorted(found.score) == sorted(one.score)


def test_of_a_model_with_itself_both_parts_are_its_ap(pair):
    truth, _, other = pair
    ap = average_precision(truth, other)["AP"]
    assert gain_parts(truth, other, other) == pytest.approx({"order_AP": ap, "boxes_AP": ap, "matched": 100})


def test_where_only_scores_differ_the_order_gives_the_whole_gain(pair):
    truth, one, _ = pair
    rng = np.random.default_rng(0)
    shuffled = one.score.copy()
    for category in truth.category_ids:
        own = np.flatnonzero(one.category_id == category)
        shuffled[own] = rng.permutation(shuffled[own])
    worse = one.with_scores(shuffled)
    parts = gain_parts(truth, worse, one)
    aps = {name: average_precision(truth, found)["AP"] for name, found in (("one", one), ("worse", worse))}
    assert parts["order_AP"] == pytest.approx(aps["one"], abs=1.5)  # up to how close boxes are paired
    assert parts["boxes_AP"] == pytest.approx(aps["worse"], abs=1.5)
    assert aps["one"] > aps["worse"] + 5


def test_both_backends_agree_and_nothing_detected_is_no_error(pair, tmp_path):
    truth, one, other = pair
    fast, slow = (gain_parts(truth, one, other, backend) for backend in ("hotcoco", "pycocotools"))
    assert fast == pytest.approx(slow) and tuple(fast) == PARTS
    nothing = load_detections(write(tmp_path / "nothing.json", []), truth)
    parts = gain_parts(truth, one, nothing)
    assert parts["order_AP"] == average_precision(truth, one)["AP"] and parts["boxes_AP"] == 0
    assert np.isnan(parts["matched"])
