import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask
from synthetic_coco import make_dataset, make_detections, with_masks, write

from corrloss.analysis import coco
from corrloss.coco.check import check_coco
from corrloss.coco.reading import (
    DetectionsError,
    GroundTruthError,
    load_detections,
    load_ground_truth,
)


@pytest.fixture(scope="module")
def dataset():
    return make_dataset(0, images=6, masks=True)


@pytest.fixture
def truth(dataset, tmp_path):
    return load_ground_truth(write(tmp_path / "annotations.json", dataset))


def test_columns_hold_what_the_files_hold(dataset, truth, tmp_path):
    entries = make_detections(1, dataset)
    found = load_detections(write(tmp_path / "d.json", entries), truth)
    assert found.bbox.tolist() == [e["bbox"] for e in entries]
    assert found.score.tolist() == [e["score"] for e in entries]
    assert found.image_id.tolist() == [e["image_id"] for e in entries]
    assert truth.bbox.tolist() == [a["bbox"] for a in dataset["annotations"]]
    assert truth.is_crowd.tolist() == [bool(a["iscrowd"]) for a in dataset["annotations"]]
    assert truth.image_ids.tolist() == sorted(i["id"] for i in dataset["images"])


@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
def test_both_ways_to_read_give_the_same(dataset, truth, tmp_path, iou_type, monkeypatch):
    entries = make_detections(1, dataset)
    path = write(tmp_path / "d.json", with_masks(entries, dataset) if iou_type == "segm" else entries)
    columns, masks = coco._columns_of_objects(path, path.read_bytes(), iou_type)
    monkeypatch.setattr(coco, "_columns_of_objects", None)  # not needed for a good file
    found = load_detections(path, truth, iou_type)
    for name, column in columns.items():
        assert getattr(found, name).tolist() == column.tolist()
    assert [m["counts"] for m in masks or []] == [m["counts"] for m in found.segmentation or []]


def test_an_empty_list_is_a_run_that_detects_nothing(truth, tmp_path):
    found = load_detections(write(tmp_path / "d.json", []), truth)
    assert len(found) == 0
    assert found.bbox.shape == (0, 4)


@pytest.mark.parametrize("content", ["", "  \n"])
def test_a_file_without_content_is_an_interrupted_run(truth, tmp_path, content):
    path = tmp_path / "d.json"
    path.write_text(content)
    with pytest.raises(DetectionsError, match=r"d\.json.*empty.*run again"):
        load_detections(path, truth)


def test_missing_and_truncated_files_are_named(truth, dataset, tmp_path):
    with pytest.raises(DetectionsError, match=r"nowhere\.json: cannot read"):
        load_detections(tmp_path / "nowhere.json", truth)
    path = tmp_path / "d.json"
    path.write_text(json.dumps(make_detections(1, dataset))[:-40])
    with pytest.raises(DetectionsError, match=r"d\.json.*not valid JSON.*truncated"):
        load_detections(path, truth)
    with pytest.raises(DetectionsError, match="a JSON list"):
        load_detections(write(path, dataset), truth)


@pytest.mark.parametrize("content", ["[{", "{}", "[1]", "null", "[null]"])
def test_a_file_that_is_no_list_of_detections_is_named(truth, tmp_path, content):
    path = tmp_path / "d.json"
    path.write_text(content)
    with pytest.raises(DetectionsError, match=r"d\.json"):
        load_detections(path, truth)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_id": 10**6}, "image_id 1000000 is no image"),
        ({"image_id": 10**20}, "64 bits"),
        ({"image_id": 1.0}, "'image_id' is 1.0; it must be an integer"),
        ({"image_id": True}, "'image_id' is True; it must be an integer"),
        ({"category_id": 999}, "category_id 999 is no category"),
        ({"category_id": 1.5}, "'category_id' is 1.5; it must be an integer"),
        ({"score": float("nan")}, "score nan is not finite"),
        ({"score": float("inf")}, "score inf is not finite"),
        ({"score": 1.25}, r"score 1.25 is outside \[0, 1\]"),
        ({"score": -0.1}, "outside"),
        ({"score": "0.5"}, "'score' is '0.5'; it must be a number"),
        ({"score": None}, "'score' is None"),
        ({"score": 10**400}, "64 bits|must be"),
        ({"bbox": [1, 2, -3, 4]}, "negative size"),
        ({"bbox": [-1, 2, 3, -4e-3]}, "negative size"),
        ({"bbox": [1, 2, float("nan"), 4]}, "bbox .* is not finite"),
        ({"bbox": [1, 2, float("-inf"), 4]}, "bbox .* is not finite"),
        ({"bbox": [1, 2, 3, 4, 5]}, "list of four numbers"),
        ({"bbox": [1, 2, 3, True]}, "list of four numbers"),
        ({"bbox": [1, 2, 3]}, "list of four numbers"),
        ({"bbox": None}, "list of four numbers"),
    ],
)
def test_a_bad_entry_is_named(dataset, truth, tmp_path, change, message):
    entries = make_detections(1, dataset)
    entries[7] |= change
    with pytest.raises(DetectionsError, match=message) as error:
        load_detections(write(tmp_path / "d.json", entries), truth)
    if "64 bits" not in str(error.value):
        assert f"d.json: detection[7] (image {entries[7]['image_id']})" in str(error.value)


@pytest.mark.parametrize("key", ["image_id", "category_id", "score", "bbox"])
def test_a_missing_key_is_named(dataset, truth, tmp_path, key):
    entries = make_detections(1, dataset)
    del entries[3][key]
    with pytest.raises(DetectionsError, match=rf"detection\[3\].*no '{key}'"):
        load_detections(write(tmp_path / "d.json", entries), truth)


def test_an_entry_that_is_no_object_is_named(dataset, truth, tmp_path):
    entries = [*make_detections(1, dataset)[:2], [1, 2]]
    with pytest.raises(DetectionsError, match=r"detection\[2\] is a list"):
        load_detections(write(tmp_path / "d.json", entries), truth)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (None, "compressed RLE"),
        ({"size": [480, 640], "counts": [1, 2]}, "compressed RLE"),
        ({"size": [10, 10], "counts": "52"}, r"mask is \[10, 10\] pixels"),
        ({"size": [480, 640], "counts": "52"}, "does not cover the image's 307200 pixels"),
        ({"size": [480, 640], "counts": "5R"}, "does not cover"),
        ({"size": [480, 640], "counts": "é"}, "does not cover"),
        ({"size": [480, 640], "counts": ""}, "does not cover"),
    ],
)
def test_a_malformed_mask_is_named(dataset, truth, tmp_path, mask, message):
    entries = with_masks(make_detections(1, dataset)[:5], dataset)
    entries[4]["segmentation"] = mask
    with pytest.raises(DetectionsError, match=message) as error:
        load_detections(write(tmp_path / "d.json", entries), truth, "segm")
    assert "detection[4]" in str(error.value)


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda d: d.pop("categories"), "no list 'categories'"),
        (lambda d: d["annotations"][2].pop("area"), r"annotations\[2\] has no 'area'"),
        (lambda d: d["annotations"][2].update(id=0), r"annotations\[2\] \(id 0\).*number from 1"),
        (lambda d: d["annotations"][2].update(id=d["annotations"][1]["id"]), "twice"),
        (lambda d: d["annotations"][2].update(image_id=10**7), "not in images"),
        (lambda d: d["annotations"][2].update(category_id=10**7), "not in categories"),
        (lambda d: d["annotations"][2].update(bbox=[0, 0, -1, 1]), "negative size"),
        (lambda d: d["annotations"][2].update(area=float("nan")), "area"),
        (lambda d: d["annotations"][2].update(category_id=True), r"annotations\[2\]: 'category_id' is True"),
        (lambda d: d["annotations"][2].update(bbox=[0, 0, True, 1]), r"annotations\[2\]: 'bbox' is"),
        (lambda d: d["images"][2].update(file_name="../../etc/passwd"), r"images\[2\].*points out of"),
    ],
)
def test_a_broken_annotation_file_is_named(tmp_path, break_it, message):
    dataset = make_dataset(0, images=6)
    break_it(dataset)
    with pytest.raises(GroundTruthError, match=message) as error:
        load_ground_truth(write(tmp_path / "annotations.json", dataset))
    assert "annotations.json" in str(error.value)


def test_an_unknown_iou_type_lists_the_choices(truth, tmp_path):
    with pytest.raises(ValueError, match="bbox, segm"):
        load_detections(tmp_path / "d.json", truth, "keypoints")


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)
# Values that are nearly right are what a reader trips over.
NUMBERS = st.sampled_from([0, 1, 2, -1, 0.5, 1e9, 2**63, float("nan"), float("inf"), True, None, "1"])
VALUE = ANY | NUMBERS | st.lists(NUMBERS, min_size=4, max_size=4)
KEYS = ("id", "image_id", "category_id", "bbox", "area", "iscrowd", "width", "height", "file_name", "name")


def small_dataset():
    return {
        "images": [{"id": i, "file_name": f"{i}.png", "width": 9, "height": 9} for i in (1, 2)],
        "categories": [{"id": 1, "name": "circle"}, {"id": 3, "name": "star"}],
        "annotations": [
            {"id": i, "image_id": i, "category_id": 3, "bbox": [1, 1, 3, 3], "area": 9, "iscrowd": 0}
            for i in (1, 2)
        ],
    }


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.sampled_from(["images", "categories", "annotations"]), st.sampled_from(KEYS), VALUE)
def test_any_value_in_annotations_is_read_or_refused(tmp_path_factory, section, key, value):
    """And what the check of a data set lets pass can be evaluated."""
    dataset = small_dataset()
    dataset[section][1][key] = value
    path = write(tmp_path_factory.getbasetemp() / "annotations.json", dataset)
    in_order = check_coco(path.parent, path.name, "none", images="none").ok
    try:
        truth = load_ground_truth(path)
    except GroundTruthError as error:
        assert str(path) in str(error) and not in_order
    else:
        assert len(truth) == 2 and np.isfinite(truth.bbox).all()


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.sampled_from(["image_id", "category_id", "score", "bbox", "extra"]), VALUE)
def test_any_value_in_detections_is_read_or_refused(tmp_path_factory, key, value):
    folder = tmp_path_factory.getbasetemp()
    truth = load_ground_truth(write(folder / "annotations.json", small_dataset()))
    entries = [{"image_id": i, "category_id": 3, "score": 0.5, "bbox": [1, 1, 3, 3]} for i in (1, 2)]
    entries[1][key] = value
    path = write(folder / "detections.json", entries)
    try:
        found = load_detections(path, truth)
    except DetectionsError as error:
        assert str(path) in str(error)
    else:
        assert len(found) == 2 and np.isfinite(found.bbox).all() and (found.bbox[:, 2:] >= 0).all()
        assert ((found.score >= 0) & (found.score <= 1)).all()


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.text(max_size=12) | st.text(st.characters(min_codepoint=48, max_codepoint=111), max_size=12))
def test_any_string_for_a_mask_is_read_or_refused(tmp_path_factory, counts):
    folder = tmp_path_factory.getbasetemp()
    truth = load_ground_truth(write(folder / "annotations.json", small_dataset()))
    mask = {"size": [9, 9], "counts": counts}
    path = write(folder / "masks.json", [{"image_id": 1, "category_id": 1, "score": 1, "segmentation": mask}])
    try:
        found = load_detections(path, truth, "segm")
    except DetectionsError as error:
        assert str(path) in str(error)
    else:
        assert coco_mask.decode(found.segmentation[0]).shape == (9, 9)
