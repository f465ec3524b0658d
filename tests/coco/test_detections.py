import json

import numpy as np
import pytest
from any_value import VALUE, small_dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask
from synthetic_coco import make_dataset, make_detections, with_masks, write

from corrloss.coco import DetectionsError, load_detections, load_ground_truth


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
def test_a_file_that_only_the_slow_reader_parses_gives_the_same(dataset, truth, tmp_path, iou_type):
    """A lone surrogate in a key that is not read: msgspec refuses it, json does not."""
    entries = make_detections(1, dataset)
    entries = with_masks(entries, dataset) if iou_type == "segm" else entries
    fast = load_detections(write(tmp_path / "d.json", entries), truth, iou_type)
    entries[3]["note"] = "\ud800"
    slow = load_detections(write(tmp_path / "d.json", entries), truth, iou_type)
    for name in ("image_id", "category_id", "score"):
        assert getattr(fast, name).tolist() == getattr(slow, name).tolist()
    assert (fast.bbox == slow.bbox).all() if iou_type == "bbox" else fast.segmentation == slow.segmentation


def test_an_empty_list_is_a_run_that_detects_nothing(truth, tmp_path):
    found = load_detections(write(tmp_path / "d.json", []), truth)
    assert len(found) == 0
    assert found.bbox.shape == (0, 4)


@pytest.mark.parametrize("content", ["", "  \n"])
def test_a_file_without_content_is_an_interrupted_run(truth, tmp_path, content):
    path = tmp_path / "d.json"
    path.write_text(content)
    with pytest.raises(DetectionsError, match=r"d\.json.*the file is empty.*Make it again"):
        load_detections(path, truth)


def test_missing_and_truncated_files_are_named(truth, dataset, tmp_path):
    with pytest.raises(DetectionsError, match=r"nowhere\.json: cannot read this JSON file"):
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
        ({"image_id": 10**6}, "image_id 1000000 is not one of the 6 images of"),
        ({"image_id": 10**20}, "from -2.63 to 2.63 - 1"),
        ({"image_id": 1.0}, "'image_id' to be an integer.*found 1.0"),
        ({"image_id": True}, "'image_id' to be an integer.*found True"),
        ({"category_id": 999}, "category_id 999 is not one of the 5 categories of"),
        ({"category_id": 1.5}, "'category_id' to be an integer.*found 1.5"),
        ({"score": float("nan")}, "'score' to be a number in .0, 1.*found nan"),
        ({"score": float("inf")}, "'score' to be a number in .0, 1.*found inf"),
        ({"score": 1.25}, "'score' to be a number in .0, 1.*found 1.25"),
        ({"score": -0.1}, "'score' to be a number in .0, 1.*found -0.1"),
        ({"score": "0.5"}, "'score' to be a number.*found '0.5'"),
        ({"score": None}, "'score' to be a number.*found None"),
        ({"score": 10**400}, "'score' to be a number.*more than 50 digits"),
        ({"bbox": [1, 2, -3, 4]}, "width and height not negative, found"),
        ({"bbox": [-1, 2, 3, -4e-3]}, "width and height not negative, found"),
        ({"bbox": [1, 2, float("nan"), 4]}, "four numbers .*finite.*found .*(nan|inf)"),
        ({"bbox": [1, 2, float("-inf"), 4]}, "four numbers .*finite.*found .*(nan|inf)"),
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
    assert f"d.json: detection[7] (image {entries[7]['image_id']})" in str(error.value)


@pytest.mark.parametrize("key", ["image_id", "category_id", "score", "bbox"])
def test_a_missing_key_is_named(dataset, truth, tmp_path, key):
    entries = make_detections(1, dataset)
    del entries[3][key]
    with pytest.raises(DetectionsError, match=rf"detection\[3\].*expected '{key}'.*it is missing"):
        load_detections(write(tmp_path / "d.json", entries), truth)


def test_an_entry_that_is_no_object_is_named(dataset, truth, tmp_path):
    entries = [*make_detections(1, dataset)[:2], [1, 2]]
    with pytest.raises(DetectionsError, match=r"detection\[2\] .*expected an object, found \[1, 2\]"):
        load_detections(write(tmp_path / "d.json", entries), truth)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (None, "compressed RLE"),
        ({"size": [480, 640], "counts": [1, 2]}, "compressed RLE"),
        ({"size": [10, 10], "counts": "52"}, r"RLE of the image's size \[480, 640\], found size \[10, 10\]"),
        ({"size": [480, 640], "counts": "52"}, "covers the image's 307200 pixels, found one of 7"),
        ({"size": [480, 640], "counts": "5R"}, "cannot be decoded"),
        ({"size": [480, 640], "counts": "é"}, "cannot be decoded"),
        ({"size": [480, 640], "counts": ""}, "cannot be decoded"),
    ],
)
def test_a_malformed_mask_is_named(dataset, truth, tmp_path, mask, message):
    entries = with_masks(make_detections(1, dataset)[:5], dataset)
    entries[4]["segmentation"] = mask
    with pytest.raises(DetectionsError, match=message) as error:
        load_detections(write(tmp_path / "d.json", entries), truth, "segm")
    assert "detection[4]" in str(error.value)


def test_an_unknown_iou_type_lists_the_choices(truth, tmp_path):
    with pytest.raises(ValueError, match="bbox, segm"):
        load_detections(tmp_path / "d.json", truth, "keypoints")


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


def test_all_faults_are_counted_and_five_are_named(dataset, truth, tmp_path):
    entries = make_detections(1, dataset)
    for entry in entries[1:10]:
        entry["score"] = 2
    with pytest.raises(DetectionsError, match=r"and 4 more\n9 such in") as error:
        load_detections(write(tmp_path / "d.json", entries), truth)
    assert str(error.value).count("detection[") == 5
