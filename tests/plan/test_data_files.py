from pathlib import Path

from corrloss.plan.data_files import annotation_file, annotations_by_rules, made_files, raw_annotations

PARTS = {"train": {"ann_file": "a/train.json"}, "test": {"ann_file": "a/val.json"}}
REAL = {"folder": "real", **PARTS}
MADE = {"folder": "made", "make": {"type": "mini_coco"}, **PARTS}
SCENES = {"folder": "scenes", "convert": {"train": "train", "test": "val"}, **PARTS}
ROOT = Path("data")


def test_annotations_are_in_the_folder_of_the_data_set():
    assert annotation_file(REAL, "test", ROOT) == Path("data/real/a/val.json")


def test_rules_make_synthetic_and_converted_annotations_only():
    assert made_files(REAL, ROOT) == annotations_by_rules(REAL, ROOT) == []
    files = [Path("data/made/a/train.json"), Path("data/made/a/val.json")]
    assert made_files(MADE, ROOT) == annotations_by_rules(MADE, ROOT) == files
    assert made_files(SCENES, ROOT) == []
    assert annotations_by_rules(SCENES, ROOT) == [ROOT / "scenes/a/train.json", ROOT / "scenes/a/val.json"]


def test_the_generator_of_scenes_writes_the_raw_layout():
    made = {**SCENES, "make": {"type": "mini_cityscapes"}}
    assert made_files(made, ROOT) == [Path("data/scenes/mini_cityscapes.json")]
    assert raw_annotations(made, "test", ROOT) == Path("data/scenes/gtFine/val")
    assert raw_annotations(MADE, "test", ROOT) is None
