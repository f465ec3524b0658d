import numpy as np
import pytest
from synthetic_coco import make_dataset, make_detections, with_masks, write

from corrloss.analysis.ap import METRICS, OF_MANY_DETECTIONS, average_precision, with_many_detections
from corrloss.analysis.tide import tide_errors
from corrloss.coco import load_detections, load_ground_truth


def load(tmp_path, dataset, entries, iou_type="bbox"):
    truth = load_ground_truth(write(tmp_path / "annotations.json", dataset))
    return truth, load_detections(write(tmp_path / "detections.json", entries), truth, iou_type)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
def test_both_backends_give_the_same_twelve_numbers(tmp_path, seed, iou_type, capfd):
    dataset = make_dataset(seed, crowd=0.15, masks=iou_type == "segm")
    entries = make_detections(seed + 100, dataset, ties=seed % 2 == 1)
    if iou_type == "segm":
        entries = with_masks(entries, dataset)
    truth, found = load(tmp_path, dataset, entries, iou_type)
    reference = average_precision(truth, found, iou_type, "pycocotools")
    fast = average_precision(truth, found, iou_type, "hotcoco")
    assert tuple(reference) == tuple(fast) == METRICS
    assert 5 < reference["AP"] < 95
    np.testing.assert_allclose(list(fast.values()), list(reference.values()), rtol=0, atol=1e-9)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("backend", ["pycocotools", "hotcoco"])
def test_perfect_detections_have_100_points(tmp_path, backend):
    dataset = make_dataset(0, crowd=0)
    entries = [
        {"image_id": a["image_id"], "category_id": a["category_id"], "bbox": a["bbox"], "score": 0.9}
        for a in dataset["annotations"]
    ]
    result = average_precision(*load(tmp_path, dataset, entries), backend=backend)
    assert result["AP"] == pytest.approx(100)
    assert result["AP_S"] == pytest.approx(100)


@pytest.mark.parametrize("backend", ["pycocotools", "hotcoco"])
def test_a_size_without_ground_truth_is_nan(tmp_path, backend):
    dataset = make_dataset(0, crowd=0)
    dataset["annotations"] = [a for a in dataset["annotations"] if a["area"] > 32**2]
    result = average_precision(*load(tmp_path, dataset, make_detections(1, dataset)), backend=backend)
    assert [name for name in METRICS if np.isnan(result[name])] == ["AP_S", "AR_S"]


@pytest.mark.parametrize("backend", ["pycocotools", "hotcoco"])
@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
def test_no_detection_is_zero_where_there_is_something_to_find(tmp_path, backend, iou_type):
    dataset = make_dataset(0, masks=True)
    truth, nothing = load(tmp_path, dataset, [], iou_type)
    assert average_precision(truth, nothing, iou_type, backend) == dict.fromkeys(METRICS, 0.0)
    dataset["annotations"] = [a for a in dataset["annotations"] if a["area"] > 32**2]
    result = average_precision(*load(tmp_path, dataset, [], iou_type), iou_type, backend)
    assert result["AP"] == 0
    assert np.isnan(result["AP_S"])


def test_unknown_choices_are_listed(tmp_path):
    truth, found = load(tmp_path, make_dataset(0, images=3), [])
    with pytest.raises(ValueError, match="hotcoco, pycocotools"):
        average_precision(truth, found, backend="fast")
    with pytest.raises(ValueError, match="holds 'bbox' detections"):
        average_precision(truth, found, "segm")


def test_boxes_may_reach_out_of_their_image(tmp_path):
    dataset = make_dataset(0, crowd=0.15)
    entries = make_detections(0, dataset)
    entries[3]["bbox"][:2] = [-3.5, -1e-7]
    truth, found = load(tmp_path, dataset, entries)
    assert found.bbox[3, :2].tolist() == [-3.5, -1e-7]
    expected = average_precision(truth, found, backend="pycocotools")
    assert average_precision(truth, found, backend="hotcoco") == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
@pytest.mark.parametrize("first", [-7, 0, 2**53, 2**63 - 10_000])
def test_ids_of_any_size_and_foreign_fields_change_no_figure(tmp_path, iou_type, first):
    """float64 holds integers up to 2^53; annotation 0 is "no match" to pycocotools."""
    dataset = make_dataset(2, images=12, masks=True)
    entries = make_detections(3, dataset)
    entries = with_masks(entries, dataset) if iou_type == "segm" else entries
    before = figures(tmp_path, dataset, entries, iou_type)
    for k, annotation in enumerate(dataset["annotations"]):
        annotation |= {
            "id": first + k,
            "image_id": annotation["image_id"] + first,
            "category_id": annotation["category_id"] + first,
        }
    for entry in entries:
        entry |= {"image_id": entry["image_id"] + first, "category_id": entry["category_id"] + first}
    for part in ("images", "categories"):
        for entry in dataset[part]:
            entry["id"] += first
    dataset |= {"info": {"year": "2024", "version": 1.0}, "licenses": "CC BY", "extra": [None]}
    dataset["images"][0] |= {"license": "unknown", "date_captured": 2024, "coco_url": None}
    np.testing.assert_equal(figures(tmp_path, dataset, entries, iou_type), before)


def figures(folder, dataset, entries, iou_type):
    truth = load_ground_truth(write(folder / "annotations.json", dataset))
    found = load_detections(write(folder / "detections.json", entries), truth, iou_type)
    fast, slow = (average_precision(truth, found, iou_type, b) for b in ("hotcoco", "pycocotools"))
    assert fast == pytest.approx(slow, nan_ok=True) and fast["AP"] > 10
    return list(fast.values()), list(slow.values()), list(tide_errors(truth, found).values())


def mmdet_points(truth, found):
    """What mmdet's CocoMetric prints: pycocotools with its limits of 100, 300 and 1,000 detections."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    annotations = COCO(str(truth.path))
    evaluation = COCOeval(annotations, annotations.loadRes(str(found.path)), "bbox")
    evaluation.params.maxDets = [100, 300, 1000]
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return dict(zip(METRICS[:6], 100 * evaluation.stats[:6], strict=True))


@pytest.mark.parametrize("backend", ["pycocotools", "hotcoco"])
def test_with_300_detections_an_image_the_figures_of_mmdet_differ_from_those_of_coco(tmp_path, backend):
    dataset = make_dataset(0, images=20, categories=2, objects=30)
    truth, found = load(tmp_path, dataset, make_detections(1, dataset, background=280, correlation=0.3))
    assert 250 < len(found) / 20 < 350
    coco = average_precision(truth, found, backend=backend)
    many, mmdet = with_many_detections(truth, found, backend, coco), mmdet_points(truth, found)
    assert coco["AP"] == pytest.approx(mmdet.pop("AP"))
    assert [many[f"{name}_1000"] for name in OF_MANY_DETECTIONS] == pytest.approx(list(mmdet.values()))
    assert many["AP50_1000"] > coco["AP50"] + 0.1


def test_where_no_class_of_an_image_has_more_than_100_both_are_the_same(tmp_path, monkeypatch):
    dataset = make_dataset(0)
    truth, found = load(tmp_path, dataset, make_detections(1, dataset))
    coco = average_precision(truth, found)
    monkeypatch.setattr("corrloss.analysis.ap.average_precision", None)  # not computed a second time
    many = with_many_detections(truth, found, "hotcoco", coco)
    assert many == {f"{name}_1000": coco[name] for name in OF_MANY_DETECTIONS}
