import numpy as np
import pytest
from synthetic_coco import make_dataset, make_detections, with_masks, write

from corrloss.analysis import ap as ap_module
from corrloss.analysis.ap import METRICS, average_precision, average_precision_of_file
from corrloss.analysis.coco import DetectionsError, load_detections, load_ground_truth


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


@pytest.mark.parametrize("backend", ["pycocotools", "hotcoco"])
@pytest.mark.parametrize("seed", range(3))
def test_a_file_has_the_ap_of_its_detections(tmp_path, backend, seed, monkeypatch):
    dataset = make_dataset(seed, crowd=0.15)
    entries = make_detections(seed, dataset, ties=seed == 1)
    entries[3]["bbox"][:2] = [-3.5, -1e-7]  # outside of the image, as boxes may be
    if seed == 2:
        entries = []
    truth, found = load(tmp_path, dataset, entries)
    expected = average_precision(truth, found, backend="pycocotools")
    if backend == "hotcoco":  # no entry becomes a Python object
        monkeypatch.setattr(ap_module, "load_detections", None)
    result = average_precision_of_file(truth, tmp_path / "detections.json", backend)
    assert result == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    "change",
    [
        {"image_id": 10**6},
        {"category_id": 999},
        {"category_id": 1.5},
        {"score": float("nan")},
        {"score": float("inf")},
        {"score": 1.25},
        {"score": -0.1},
        {"score": "0.5"},
        {"score": None},
        {"bbox": [1, 2, -3, 4]},
        {"bbox": [-1, 2, 3, -4e-3]},
        {"bbox": [1, 2, -3, -4]},
        {"bbox": [1, 2, float("nan"), 4]},
        {"bbox": [1, 2, float("-inf"), 4]},
        {"bbox": [1, 2, 3]},
        {"bbox": None},
        "score",
        "bbox",
        "image_id",
        "category_id",
    ],
)
def test_a_bad_entry_is_named_however_the_file_is_read(tmp_path, change):
    dataset = make_dataset(0, images=6)
    entries = make_detections(1, dataset)
    if isinstance(change, dict):
        entries[7] |= change
    else:
        del entries[7][change]
    truth = load_ground_truth(write(tmp_path / "annotations.json", dataset))
    path = write(tmp_path / "detections.json", entries)
    with pytest.raises(DetectionsError, match=r"detections\.json: detection\[7\]"):
        average_precision_of_file(truth, path)


@pytest.mark.parametrize("content", [None, "", "[{", "{}", "[1]"])
def test_a_file_that_is_no_list_of_detections_is_named(tmp_path, content):
    truth = load_ground_truth(write(tmp_path / "annotations.json", make_dataset(0, images=6)))
    path = tmp_path / "detections.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(DetectionsError, match=r"detections\.json"):
        average_precision_of_file(truth, path)
