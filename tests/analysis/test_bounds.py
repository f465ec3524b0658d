import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from synthetic_coco import make_dataset, make_detections, write

from corrloss.analysis.ap import average_precision
from corrloss.analysis.bounds import bound_after_nms, reassign_scores
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
    dealt = reassign_scores(scores, ious, groups, order)
    assert dealt.dtype == scores.dtype
    for group in np.unique(groups):
        chosen = groups == group
        assert sorted(dealt[chosen]) == sorted(scores[chosen])
        # Sorted by IoU, scores never step the wrong way between two different IoUs.
        for i in np.flatnonzero(chosen):
            above = chosen & (ious > ious[i])
            assert (dealt[above] >= dealt[i]).all() if order == "best" else (dealt[above] <= dealt[i]).all()


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
