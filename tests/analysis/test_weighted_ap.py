import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_coco import load, make_dataset, make_detections, with_copies, with_masks

from corrloss.analysis.ap import average_precision
from corrloss.analysis.matching import match
from corrloss.analysis.replicates import resample
from corrloss.analysis.tide import optimal_lrp
from corrloss.analysis.weighted_ap import METRICS, weighted_ap


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
        expected = average_precision(*copies, iou_type, backend) | optimal_lrp(match(*copies), copies[0])
        np.testing.assert_allclose(value, [expected[m] for m in METRICS], rtol=0, atol=1e-9)


def test_recall_points_that_lie_on_a_true_positive_are_those_of_coco(tmp_path):
    # 100 annotations: every true positive lies on a recall point, up to the last bit of a float.
    dataset = make_dataset(0, images=20, categories=1, crowd=0)
    dataset["annotations"] = dataset["annotations"][:100]
    assert len(dataset["annotations"]) == 100
    truth, found = load(tmp_path, dataset, make_detections(0, dataset, recall=0.9, ties=True))
    value = weighted_ap(match(truth, found), truth, np.ones((1, 20), dtype=np.int32))[0]
    expected = average_precision(truth, found, backend="pycocotools")
    expected |= optimal_lrp(match(truth, found), truth)
    np.testing.assert_allclose(value, [expected[m] for m in METRICS], rtol=0, atol=1e-9)


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
    expected = average_precision(*copies, "bbox", "pycocotools") | optimal_lrp(match(*copies), copies[0])
    np.testing.assert_allclose(value, [expected[m] for m in METRICS], rtol=0, atol=1e-9)


def test_weighted_ap_refuses_partial_matches_and_foreign_weights(tmp_path):
    truth, found = load(tmp_path, make_dataset(0, images=8), make_detections(1, make_dataset(0, images=8)))
    with pytest.raises(ValueError, match="all of COCO's thresholds"):
        weighted_ap(match(truth, found, [0.5]), truth, np.ones((1, 8), dtype=int))
    with pytest.raises(ValueError, match=r"\(1, 9\) for 8 images"):
        weighted_ap(match(truth, found), truth, np.ones((1, 9), dtype=int))
