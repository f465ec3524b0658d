"""The identity of data and runs: what changes which stage, and what changes nothing."""

import json
import os
import shutil
from pathlib import Path

import pytest

from corrloss.plan import identity
from corrloss.plan.identity import data_identities, read_identity, run_identity, write_identity

OWN = {"folder": "shapes", "train": {"ann_file": "train.json"}, "test": {"ann_file": "test.json"}}
MADE = OWN | {"make": {"type": "mini_coco", "train_images": 2, "val_images": 1, "seed": 0}}
CONFIG = {
    "model": {"depth": 18},
    "train_dataloader": {"batch_size": 2, "dataset": {"data_root": "here/"}},
    "test_dataloader": {"batch_size": 1, "dataset": {"data_root": "here/"}},
    "bench": {"code": "0123"},
}
STAGES = ("training", "prediction", "evaluation")


@pytest.fixture
def root(tmp_path):
    (tmp_path / "shapes").mkdir()
    (tmp_path / "shapes/train.json").write_text("[1]")
    (tmp_path / "shapes/test.json").write_text("[2]")
    return tmp_path


def of(root, data=OWN):
    return data_identities(data, root, root / "checked.json")


def test_annotations_decide_each_part_even_if_size_and_time_stay(root):
    before, path = of(root), root / "shapes/test.json"
    stat = path.stat()
    path.write_text("[3]")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    after = of(root)
    assert after["train"] == before["train"] and after["test"] != before["test"]


def test_times_and_places_decide_nothing(root, tmp_path_factory):
    before = of(root)
    os.utime(root / "shapes/train.json", (0, 0))
    assert of(root) == before
    assert of(shutil.copytree(root, tmp_path_factory.mktemp("other") / "place")) == before


def test_data_that_are_away_are_those_that_were_checked(root):
    before = of(root)
    sums = {part: identity.sha256(root / f"shapes/{part}.json") for part in ("train", "test")}
    shutil.rmtree(root / "shapes")
    assert of(root) != before
    (root / "checked.json").write_text(json.dumps({"annotations": sums}))
    assert of(root) == before


def test_the_generator_and_its_arguments_decide_made_data(root, monkeypatch):
    before = of(root, MADE)
    assert before != of(root)
    assert of(root, MADE | {"make": MADE["make"] | {"train_images": 3}}) != before
    monkeypatch.setattr(identity, "digest_of", lambda modules: "another generator")
    assert of(root, MADE) != before and of(root, OWN) == of(root)


def test_a_converter_is_part_of_the_generator(monkeypatch):
    asked = []
    monkeypatch.setattr(
        identity, "digest_of", lambda paths: asked.append([path.stem for path in paths]) or "digest"
    )
    identity.generator_identity({"make": {"type": "mini_cityscapes"}, "convert": {"train": "train"}})
    identity.generator_identity({"convert": {"train": "train"}})
    assert asked == [["mini_cityscapes", "cityscapes"], ["cityscapes"]]


@pytest.mark.parametrize(
    ("key", "value", "first"),
    [
        ("model", {"depth": 34}, "training"),
        ("bench", {"code": "4567"}, "training"),
        ("train_dataloader", {"batch_size": 4}, "training"),
        ("test_dataloader", {"batch_size": 2}, "prediction"),
        ("test_dataloader", {"batch_size": 1, "dataset": {"data_root": "elsewhere/"}}, None),
    ],
)
def test_a_setting_changes_its_stage_and_all_later_ones(key, value, first):
    data = {"train": "a", "test": "b"}
    before, after = (run_identity(config, data, "hotcoco") for config in (CONFIG, CONFIG | {key: value}))
    changed = [stage for stage in STAGES if before[stage] != after[stage]]
    assert changed == (list(STAGES[STAGES.index(first) :]) if first else [])


def test_data_code_and_tool_change_their_stage(monkeypatch):
    def changed(data, ap="hotcoco"):
        after = run_identity(CONFIG, data, ap)
        return [stage for stage in STAGES if before[stage] != after[stage]]

    before = run_identity(CONFIG, {"train": "a", "test": "b"}, "hotcoco")
    assert changed({"train": "x", "test": "b"}) == list(STAGES)
    assert changed({"train": "a", "test": "x"}) == ["prediction", "evaluation"]
    assert changed({"train": "a", "test": "b"}, "pycocotools") == ["evaluation"]
    monkeypatch.setattr(identity, "code_of_stage", lambda stage: f"other {stage}")
    assert changed({"train": "a", "test": "b"}) == ["prediction", "evaluation"]


@pytest.mark.parametrize("content", [None, "", "[1]", "{}", '{"identity": "a"', "[" * 100_000])
def test_a_report_without_an_identity_has_none(tmp_path, content):
    if content is not None:
        (tmp_path / "report.json").write_text(content)
    assert read_identity(tmp_path / "report.json") is None


@pytest.mark.parametrize("change", [lambda file: file.write_text("2"), Path.unlink])
def test_a_report_is_of_the_files_that_it_was_written_for(tmp_path, change):
    report, made = tmp_path / "table.json", tmp_path / "table.csv"
    made.write_text("1")
    write_identity(report, "a", [made])
    assert read_identity(report) == "a"
    change(made)
    assert read_identity(report) is None


@pytest.mark.parametrize("made", ["[1]", '{"../..": "0"}', '{"a\\u0000b": "0"}', '{"": 0}', "null"])
def test_a_report_that_names_no_files_has_no_identity(tmp_path, made):
    (tmp_path / "report.json").write_text(f'{{"identity": "a", "made": {made}}}')
    assert read_identity(tmp_path / "report.json") is None


@pytest.mark.parametrize("stage", identity.CODE)
def test_the_code_of_a_stage_is_found(stage):
    assert len(identity.code_of_stage(stage)) == 12
