import hashlib
import json
import math
import zipfile

import numpy as np
import pytest
from pycocotools import mask as rle

from corrloss.coco import DataSetError, DetectionsError
from corrloss.coco.published import COCO_CATEGORIES
from corrloss.coco.submission import pack_test_dev

STEM = "detections_test-dev2017_sparse-rcnn_results"


def _mask(height, width):
    mask = np.zeros((height, width), np.uint8, order="F")
    mask[5:20, 10:40] = 1
    packed = rle.encode(mask)
    return {"size": packed["size"], "counts": packed["counts"].decode()}


@pytest.fixture
def info(tmp_path):
    path = tmp_path / "image_info.json"
    images = [{"id": i, "file_name": f"{i:012d}.jpg", "width": 64, "height": 48} for i in (1, 16, 19)]
    categories = [{"id": i, "name": name} for i, name in COCO_CATEGORIES.items()]
    path.write_text(json.dumps({"images": images, "categories": categories}))
    return path


@pytest.fixture
def pack(tmp_path, info):
    """Pack these detections, with other options if given."""

    def pack(detections, **options):
        path = tmp_path / "detections.json"
        path.write_text(detections if isinstance(detections, str) else json.dumps(detections))
        options = {"algorithm": "sparse_rcnn", "published_images": 3} | options
        return pack_test_dev(path, info, tmp_path / "out", **options)

    return pack


def _detection(**changes):
    return {"image_id": 16, "category_id": 90, "bbox": [1.5, 2.25, 30.125, 4], "score": 0.75} | changes


def _content(path):
    with zipfile.ZipFile(path) as packed:
        (name,) = packed.namelist()
        return name, json.loads(packed.read(name))


def test_names_and_content_are_what_the_server_wants(pack):
    detections = [_detection(segmentation=_mask(48, 64), extra="no"), _detection(image_id=1, score=0)]
    path = pack(detections)
    assert path.name == f"{STEM}.zip"
    name, content = _content(path)
    assert name == f"{STEM}.json"
    assert content == [_detection(), _detection(image_id=1, score=0)]


def test_masks(pack):
    detection = _detection(segmentation=_mask(48, 64))
    _, content = _content(pack([detection], iou_type="segm"))
    assert content == [{key: v for key, v in detection.items() if key != "bbox"}]
    assert rle.area(content[0]["segmentation"]) == 15 * 30


def test_packing_twice_gives_the_same_bytes(pack):
    first = hashlib.sha256(pack([_detection()]).read_bytes())
    assert hashlib.sha256(pack([_detection()]).read_bytes()).digest() == first.digest()


BAD = {
    "nothing detected": ([], "found an empty list"),
    "an annotation file": ({"images": []}, "expected a JSON list of detections"),
    "cut off": ('[{"image_id": 16', "truncated"),
    "not JSON": ("<html>", "not valid JSON"),
    "an image of another split": ([_detection(image_id=139)], "image_id 139 is not one of the 3 images"),
    "a class index for an id": ([_detection(category_id=0)], "category_id 0 is not one of the 80 categories"),
    "an id with a gap": ([_detection(category_id=12)], "category_id 12 is not one of the 80 categories"),
    "a score in percent": ([_detection(score=75.0)], r"detection\[0\] .*'score'.*found 75.0"),
    "a score of NaN": ([_detection(score=math.nan)], "'score'.*found nan"),
    "a box of NaN": ([_detection(bbox=[1, math.nan, 3, 4])], "'bbox' to be"),
    "corners for a box": ([_detection(bbox=[30, 40, -10, 5])], "'bbox' to be"),
    "no box": ([{"image_id": 16, "category_id": 1, "score": 0.5}], "'bbox'.*it is missing"),
    "a list of lists": ([[16, 1, 0.5]], "expected an object, found .16"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_detections_are_refused(pack, tmp_path, name):
    detections, message = BAD[name]
    with pytest.raises(DetectionsError, match=message):
        pack(detections)
    assert not (tmp_path / "out").exists()


BAD_MASKS = {
    "transposed": (_mask(64, 48), "RLE of the image's size"),
    "polygons": ([[1, 1, 9, 9, 1, 9]], "'segmentation' to be a compressed RLE"),
    "not compressed": ({"size": [48, 64], "counts": [48 * 64]}, "'segmentation' to be a compressed RLE"),
    "cut off": (_mask(48, 64) | {"counts": _mask(48, 64)["counts"][:-3]}, "RLE"),
}


@pytest.mark.parametrize("name", BAD_MASKS)
def test_bad_masks_are_refused(pack, name):
    segmentation, message = BAD_MASKS[name]
    with pytest.raises(DetectionsError, match=message):
        pack([_detection(segmentation=segmentation)], iou_type="segm")


def test_all_are_counted_and_five_are_named(pack):
    detections = [_detection(), *[_detection(score=2)] * 9]
    with pytest.raises(DetectionsError, match=r"detection\[1\][\s\S]*9 such in 10 detections") as error:
        pack(detections)
    assert "and 4 more" in str(error.value) and str(error.value).count("detection[") == 5


def test_the_info_file_of_all_test_images_is_not_taken_for_test_dev(pack):
    with pytest.raises(
        DataSetError, match=r"lists 3 images, test-dev has 20,288: use image_info_test-dev2017"
    ):
        pack([_detection()], published_images=20_288)


def test_a_missing_or_wrong_info_file(pack, info):
    info.write_text("[1, 2]")
    with pytest.raises(DataSetError, match="is a JSON object, found"):
        pack([_detection()])
    info.unlink()
    with pytest.raises(DataSetError, match="No such file"):
        pack([_detection()])


@pytest.mark.parametrize("algorithm", ["", "a b", "../evil", "a/b", "-x", "é"])
def test_hostile_names_are_refused(pack, algorithm):
    with pytest.raises(ValueError, match="letters, digits and hyphens"):
        pack([_detection()], algorithm=algorithm)


def test_an_unknown_type_is_refused(pack):
    with pytest.raises(ValueError, match="choose one of bbox, segm"):
        pack([_detection()], iou_type="keypoints")
