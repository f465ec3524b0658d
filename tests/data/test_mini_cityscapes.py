import hashlib
import json
from collections import Counter

import numpy as np
import pytest
from cityscapesscripts.helpers.annotation import Annotation
from cityscapesscripts.preparation.json2instanceImg import createInstanceImage
from cityscapesscripts.preparation.json2labelImg import createLabelImage
from PIL import Image

from corrloss.coco.published import CITYSCAPES_CATEGORIES
from corrloss.data.mini_cityscapes import make_mini_cityscapes

SMALL = {"train_images": 4, "val_images": 2}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mini_cityscapes") / "set"
    make_mini_cityscapes(folder, train_images=60, val_images=20)
    return folder


def _pixels(path):
    with Image.open(path) as image:
        return np.asarray(image)


def test_the_same_pixels_and_polygons_on_every_machine(tmp_path):
    make_mini_cityscapes(tmp_path / "set", train_images=12, val_images=6)
    digest = hashlib.sha256()
    for path in sorted((tmp_path / "set").rglob("*_*.*")):
        content = _pixels(path).tobytes() if path.suffix == ".png" else path.read_bytes()
        digest.update(content)
    # A change here means that VERSION must be raised and that old figures no longer compare.
    assert digest.hexdigest() == "d5cc1b68151ce6a40fd4df204a5d023e022e4dc49eff3b908d616c68515af271"


def test_the_layout_is_that_of_cityscapes(root):
    for split, count, cities in (("train", 60, 2), ("val", 20, 1)):
        photos = sorted((root / "leftImg8bit" / split).glob("*/*_leftImg8bit.png"))
        assert len(photos) == count and len({photo.parent for photo in photos}) == cities
        for photo in photos:
            city, frame = photo.parent.name, photo.name.removesuffix("_leftImg8bit.png")
            assert frame.startswith(f"{city}_") and frame.endswith("_000019")
            truth = root / "gtFine" / split / city / frame
            assert _pixels(photo).shape == (128, 256, 3)
            assert _pixels(f"{truth}_gtFine_instanceIds.png").dtype == np.uint16
            assert _pixels(f"{truth}_gtFine_labelIds.png").dtype == np.uint8


def test_the_id_images_are_what_the_official_scripts_draw_from_the_polygons(root):
    for path in (root / "gtFine").rglob("*_polygons.json"):
        annotation = Annotation()
        annotation.fromJsonFile(str(path))
        stem = str(path).removesuffix("_polygons.json")
        assert (
            _pixels(f"{stem}_instanceIds.png") == np.asarray(createInstanceImage(annotation, "ids"))
        ).all()
        assert (_pixels(f"{stem}_labelIds.png") == np.asarray(createLabelImage(annotation, "ids"))).all()


def test_every_instance_has_one_colour_in_the_photo(root):
    for photo in (root / "leftImg8bit" / "val").glob("*/*.png"):
        ids = _pixels(
            str(photo).replace("leftImg8bit", "gtFine").replace("_gtFine.png", "_gtFine_instanceIds.png")
        )
        pixels = _pixels(photo).astype(int)
        for number in np.unique(ids[ids >= 1000]):
            assert np.ptp(pixels[ids == number], axis=0).max() <= 16


def test_it_has_all_eight_classes_groups_hidden_and_empty_images(root):
    labels, instances, hidden, groups, empty = Counter(), 0, 0, 0, 0
    for path in (root / "gtFine").rglob("*_polygons.json"):
        things = [o["label"] for o in json.loads(path.read_text())["objects"]]
        ids = _pixels(str(path).replace("polygons.json", "instanceIds.png"))
        single = [thing for thing in things if thing in CITYSCAPES_CATEGORIES.values()]
        labels.update(single)
        seen = len(np.unique(ids[ids >= 1000]))
        instances += seen
        hidden += len(single) - seen
        groups += sum(thing.endswith("group") for thing in things)
        empty += not single
    assert labels.keys() == set(CITYSCAPES_CATEGORIES.values())
    assert min(labels.values()) >= 10 and instances > 200
    assert hidden > 0 and groups > 5 and empty > 0


def test_a_second_call_writes_nothing_and_damage_is_repaired(tmp_path):
    folder = tmp_path / "set"
    make_mini_cityscapes(folder, **SMALL)
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*.*")}
    make_mini_cityscapes(folder, **SMALL)
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*.*")} == before
    victims = sorted(before)
    victims[1].unlink()
    victims[-1].write_bytes(victims[-1].read_bytes()[:-20])
    make_mini_cityscapes(folder, **SMALL)
    assert {path: path.read_bytes() for path in folder.rglob("*.*")} == {p: c for p, (c, _) in before.items()}
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_the_real_cityscapes_is_never_overwritten(tmp_path):
    real = tmp_path / "leftImg8bit" / "train" / "aachen" / "aachen_000000_000019_leftImg8bit.png"
    real.parent.mkdir(parents=True)
    real.write_bytes(b"real")
    with pytest.raises(FileExistsError, match="aachen_000000_000019"):
        make_mini_cityscapes(tmp_path, **SMALL)
    assert real.read_bytes() == b"real"


@pytest.mark.parametrize("bad", [{"train_images": 0}, {"val_images": -1}, {"seed": -1}])
def test_counts_and_seed_out_of_range(tmp_path, bad):
    with pytest.raises(ValueError, match="train_images >= 1"):
        make_mini_cityscapes(tmp_path / "set", **SMALL | bad)
