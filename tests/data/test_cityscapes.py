import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from cityscapesscripts.evaluation.instances2dict import instances2dict
from PIL import Image
from pycocotools.coco import COCO

from corrloss.coco import DataSetError
from corrloss.coco.check import Needs, check_coco
from corrloss.coco.published import CITYSCAPES_CATEGORIES
from corrloss.data.cityscapes import CLASSES, convert_cityscapes, find_frames
from corrloss.data.mini_cityscapes import make_mini_cityscapes


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cityscapes") / "set"
    make_mini_cityscapes(folder, train_images=30, val_images=6)
    return folder


@pytest.fixture
def root(tree, tmp_path):
    return Path(shutil.copytree(tree, tmp_path / "set"))


@pytest.fixture(scope="module")
def converted(tree, tmp_path_factory):
    path = tmp_path_factory.mktemp("converted") / "instances.json"
    convert_cityscapes(tree, "train", path, workers=1)
    return path


def test_classes_are_the_eight_in_their_order():
    assert {label.id: label.name for label in CLASSES} == CITYSCAPES_CATEGORIES
    assert [label.name for label in CLASSES] == list(CITYSCAPES_CATEGORIES.values())


def test_files_that_macos_writes_beside_images_are_not_images(tree, tmp_path):
    root = Path(shutil.copytree(tree, tmp_path / "copied"))
    frames = find_frames(root, "train")
    for path in [*root.rglob("*_leftImg8bit.png"), *root.rglob("*_instanceIds.png")]:
        path.with_name(f"._{path.name}").write_bytes(b"\x00\x05\x16\x07")
    assert find_frames(root, "train") == frames


def test_the_official_tool_counts_the_same_instances(tree, converted):
    """cityscapesscripts' own instances2dict: the same ids, pixel counts and groups in every image."""
    coco = COCO(converted)
    truths = {
        f"{tree}/gtFine/train/{image['file_name'].replace('leftImg8bit', 'gtFine_instanceIds')}": image["id"]
        for image in coco.imgs.values()
    }
    official = instances2dict(list(truths), verbose=False)  # keys: absolute paths
    assert official.keys() == truths.keys() and len(truths) == 30
    for path, found in official.items():
        ours = coco.imgToAnns[truths[path]]
        expected = sorted(
            (label.id, instance["pixelCount"], int(instance["instID"] < 1000))
            for label in CLASSES
            for instance in found[label.name]
        )
        assert sorted((a["category_id"], a["area"], a["iscrowd"]) for a in ours) == expected


def test_masks_and_boxes_are_those_of_the_id_images(tree, converted):
    coco = COCO(converted)
    crowds = 0
    for image_id, image in coco.imgs.items():
        path = tree / "gtFine" / "train" / image["file_name"].replace("leftImg8bit", "gtFine_instanceIds")
        ids = np.asarray(Image.open(path)).astype(int)
        things = np.isin(np.where(ids < 1000, ids, ids // 1000), list(CITYSCAPES_CATEGORIES))
        covered = np.zeros(ids.shape, int)
        for annotation in coco.imgToAnns[image_id]:
            mask = coco.annToMask(annotation).astype(bool)
            covered += mask
            (number,) = np.unique(ids[mask])
            assert (mask == (ids == number)).all()
            assert annotation["iscrowd"] == (number < 1000)
            crowds += annotation["iscrowd"]
            rows, columns = np.nonzero(mask)
            x, y = columns.min(), rows.min()
            assert annotation["bbox"] == [x, y, columns.max() + 1 - x, rows.max() + 1 - y]
        assert (covered == things).all()
    assert crowds > 0


def test_the_result_passes_the_check_of_any_data_set(tree, converted):
    report = check_coco(tree, converted, "leftImg8bit/train", needs=Needs(masks=True))
    assert report.ok and not report.warnings, report.text()
    assert report.counts["images_decoded"] == 30


def test_the_number_of_workers_changes_nothing(tree, converted, tmp_path):
    convert_cityscapes(tree, "train", tmp_path / "two.json", workers=2)
    assert (tmp_path / "two.json").read_bytes() == converted.read_bytes()


def test_the_bar_goes_to_standard_error_alone_and_only_if_wanted(tree, tmp_path, capfd):
    convert_cityscapes(tree, "val", tmp_path / "a.json", workers=1)
    assert capfd.readouterr() == ("", "")
    convert_cityscapes(tree, "val", tmp_path / "a.json", workers=1, progress=True)
    out, err = capfd.readouterr()
    assert out == "" and "6/6" in err


def test_classes_that_are_not_evaluated_are_left_out(root, tmp_path):
    """Caravans and trailers have instances, but no place in the benchmark."""
    path = find_frames(root, "val")[0].instance_ids
    ids = np.array(Image.open(path))
    ids[:] = 23
    ids[10:20, 10:20], ids[30:40, 30:40] = 29000, 26007
    Image.fromarray(ids).save(path)
    convert_cityscapes(root, "val", tmp_path / "a.json", workers=1)
    found = [a for a in json.loads((tmp_path / "a.json").read_text())["annotations"] if a["image_id"] == 1]
    assert [(a["category_id"], a["bbox"]) for a in found] == [(26, [30, 30, 10, 10])]


def _first(root):
    return find_frames(root, "train")[0]


def _shrink(path):
    with Image.open(path) as image:
        image.crop((0, 0, 100, 50)).save(path)


def _colours(path):
    with Image.open(path) as image:
        image.convert("RGB").save(path)


def _fill(value):
    def fill(path):
        Image.fromarray(np.full((128, 256), value, np.uint16)).save(path)

    return fill


BAD = {
    "no gtFine": (lambda root: shutil.rmtree(root / "gtFine"), r"found no .*gtFine/train: unpack"),
    "no images": (lambda root: shutil.rmtree(root / "leftImg8bit"), r"found no .*leftImg8bit/train"),
    "an image missing": (
        lambda root: _first(root).image.unlink(),
        r"1 files are missing: .*_leftImg8bit\.png",
    ),
    "a truth missing": (lambda root: _first(root).instance_ids.unlink(), r"missing: .*_instanceIds\.png"),
    "an id image cut off": (
        lambda root: _first(root).instance_ids.write_bytes(_first(root).instance_ids.read_bytes()[:-80]),
        "cannot read",
    ),
    "text for an id image": (lambda root: _first(root).instance_ids.write_text("hello"), "cannot read"),
    "an id image of another size": (
        lambda root: _shrink(_first(root).instance_ids),
        "expected the size of its image",
    ),
    "an id image in colour": (
        lambda root: _colours(_first(root).instance_ids),
        "expected the size of its image",
    ),
    "an unknown label": (lambda root: _fill(99)(_first(root).instance_ids), "ids of Cityscapes, found 99"),
    "an instance of a road": (lambda root: _fill(7001)(_first(root).instance_ids), "found 7001"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_trees_are_refused_and_leave_no_file(root, tmp_path, name):
    harm, message = BAD[name]
    harm(root)
    with pytest.raises(DataSetError, match=message):
        convert_cityscapes(root, "train", tmp_path / "out.json", workers=1)
    assert not (tmp_path / "out.json").exists()


def test_an_error_in_another_process_is_the_same_error(root, tmp_path):
    _first(root).instance_ids.write_text("hello")
    with pytest.raises(DataSetError, match="cannot read"):
        convert_cityscapes(root, "train", tmp_path / "out.json", workers=2)


def test_five_files_of_many_are_named(root):
    for frame in find_frames(root, "train")[:9]:
        frame.instance_ids.unlink()
    with pytest.raises(DataSetError, match=r"9 files are missing: .* and 4 more"):
        find_frames(root, "train")
