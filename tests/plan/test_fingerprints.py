"""Files that say what a data set is, and when that changed."""

import os
import time

import pytest

from corrloss.plan import fingerprints
from corrloss.plan.fingerprints import UNKNOWN, update_fingerprints

REAL = {
    "folder": "real",
    "train": {"ann_file": "train.json", "img": "train/"},
    "test": {"ann_file": "test.json", "img": "test/"},
}
MADE = {**REAL, "folder": "made", "make": {"type": "mini_coco", "train_images": 4, "seed": 0}}


@pytest.fixture
def note(tmp_path):
    """Notes the identities of a data set; returns text and time of each file."""

    def note_all(settings):
        update_fingerprints(settings, tmp_path, tmp_path / "out", "shapes", tmp_path / "cache")
        files = {part: tmp_path / "out" / f"shapes.{part}.identity" for part in ("train", "test")}
        return {part: (file.read_text().strip(), file.stat().st_mtime) for part, file in files.items()}

    return note_all


@pytest.fixture
def write(tmp_path):
    def write_annotations(part, text):
        path = tmp_path / "real" / f"{part}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return path

    return write_annotations


def test_to_learn_what_a_data_set_is_is_no_change(note, write):
    before = note(REAL)
    assert before["train"] == before["test"] == (UNKNOWN, 0)
    write("train", "{}")
    write("test", "[]")
    after = note(REAL)
    assert len(after["train"][0]) == 64 and after["train"][0] != after["test"][0]
    assert after["train"][1] == after["test"][1] == 0


def test_a_change_of_one_part_gives_its_file_a_new_time_and_the_other_none(note, write):
    for part in ("train", "test"):
        write(part, "{}")
    before = note(REAL)
    write("test", '{"changed": 1}')
    after = note(REAL)
    assert after["train"] == before["train"]
    assert after["test"][0] != before["test"][0] and after["test"][1] > time.time() - 60


def test_a_touch_or_a_copy_changes_nothing(note, write):
    paths = [write(part, "{}") for part in ("train", "test")]
    before = note(REAL)
    for path in paths:
        os.utime(path)
    assert note(REAL) == before


def test_data_that_is_gone_for_a_while_is_not_another(note, write):
    paths = [write(part, "{}") for part in ("train", "test")]
    before = note(REAL)
    for path in paths:
        path.unlink()
    assert note(REAL) == before


def test_made_data_are_what_their_arguments_and_generator_are(note, monkeypatch):
    before = note(MADE)
    assert before["train"][1] == 0  # known before it is made
    assert note({**MADE, "make": {**MADE["make"], "train_images": 5}})["train"][1] > 0
    assert note(MADE)["train"][0] == before["train"][0]
    monkeypatch.setattr(fingerprints, "digest_of", lambda modules: "another generator")
    assert note(MADE)["train"][0] != before["train"][0]


@pytest.mark.parametrize(
    ("convert", "modules"),
    [({}, ["mini_cityscapes"]), ({"convert": {"train": "train"}}, ["mini_cityscapes", "cityscapes"])],
)
def test_only_the_code_that_makes_a_data_set_decides_it(note, monkeypatch, convert, modules):
    asked = []
    monkeypatch.setattr(
        fingerprints, "digest_of", lambda paths: asked.append([path.stem for path in paths]) or "digest"
    )
    note({**MADE, **convert, "make": {"type": "mini_cityscapes"}})
    assert asked == [modules] * 2
