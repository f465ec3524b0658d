"""Bad data sets, each with what `check_coco` must report.

``pytest -v tests/coco/test_check.py`` lists every case with the kinds of findings that are expected.
"""

import json
import re
import shutil
from pathlib import Path

import pytest
from bad_input.data_sets import (
    BAD_ANNOTATIONS,
    BAD_FILES,
    BOX,
    FILE,
    NAN,
    SEGMENTATION,
    drop,
    edit,
    first_image,
    first_object,
    put,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from corrloss.coco import DataSetError
from corrloss.coco.check import Needs, check_coco
from corrloss.coco.findings import ERRORS, WARNINGS
from corrloss.coco.published import CITYSCAPES_CATEGORIES, COCO_CATEGORIES, PUBLISHED, Published
from corrloss.data.mini_coco import make_mini_coco

SHAPES = {1: "circle", 2: "square", 4: "triangle", 7: "star"}


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    folder = tmp_path_factory.mktemp("check") / "set"
    make_mini_coco(folder, train_images=12, val_images=1)
    return folder


@pytest.fixture
def root(good, tmp_path):
    return Path(shutil.copytree(good, tmp_path / "set"))


def _ids(cases):
    return [f"{name} -> {', '.join(expected)}" for name, (_, expected) in cases.items()]


def _found(report):
    return {kind: findings.count for kind, findings in (report.errors | report.warnings).items()}


def _check(root, **options):
    return check_coco(root, FILE, "train", **options)


@pytest.mark.parametrize("name", BAD_ANNOTATIONS, ids=_ids(BAD_ANNOTATIONS))
def test_bad_annotations(root, name):
    change, expected = BAD_ANNOTATIONS[name]
    edit(root, change)
    report = _check(root, images="none")
    assert {kind: count for kind, count in _found(report).items() if kind in expected} == expected
    # An entry that cannot be used leaves others without a partner; nothing else follows.
    assert set(_found(report)) - set(expected) <= {"image_unknown", "category_unknown", "annotation_id"}
    assert report.ok == (expected.keys() <= WARNINGS.keys())
    assert all(findings.examples for findings in (report.errors | report.warnings).values())


@pytest.mark.parametrize("name", BAD_FILES, ids=_ids(BAD_FILES))
def test_bad_files(root, name):
    harm, expected = BAD_FILES[name]
    harm(root)
    report = _check(root)
    assert _found(report) == expected
    assert report.ok == (expected.keys() <= WARNINGS.keys())


TRIED_BELOW = {"count", "mask_missing", "classes", "nothing_to_train", "image_not_trained_on"}


def test_every_kind_of_finding_is_tried():
    tried = {kind for _, expected in [*BAD_ANNOTATIONS.values(), *BAD_FILES.values()] for kind in expected}
    assert tried | TRIED_BELOW == ERRORS.keys() | WARNINGS.keys()


def test_the_documentation_lists_every_kind_as_it_is():
    page = (Path(__file__).parents[2] / "docs" / "data.md").read_text()
    assert all(f"| `{kind}` | {meaning} |" in page for kind, meaning in (ERRORS | WARNINGS).items())


def test_masks_can_be_asked_for(root):
    edit(root, drop("annotations", SEGMENTATION))
    assert _check(root).ok
    assert _found(_check(root, needs=Needs(masks=True))) == {"mask_missing": 1}


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (("circle", "square", "star", "triangle"), "the order differs"),
        (
            ("Circle", "square", "triangle", "star"),
            r"\['Circle'\] have no category, \['circle'\]",
        ),
        (("circle", "square", "triangle"), r"\[\] have no category, \['star'\] have no class"),
        (("circle", "square", "triangle", "star", "heart"), r"\['heart'\] have no category"),
    ],
)
def test_categories_that_are_not_the_classes_are_refused_with_all_names(good, classes, message):
    report = _check(good, needs=Needs(classes=classes), images="none")
    assert _found(report) == {"classes": 1}
    text = report.text()
    assert re.search(message, text)
    assert all(repr(name) in text for name in {*classes, *SHAPES.values()})


def test_images_that_mmdet_does_not_train_on_are_counted(good):
    """Its `filter_cfg`: images without an annotation, or with a side below `min_size` pixels."""
    images = json.loads((good / FILE).read_text())["images"]
    small = sum(min(image["width"], image["height"]) < 112 for image in images)
    found = _found(_check(good, needs=Needs(training=True, min_size=0), images="none"))
    assert found == {"image_not_trained_on": 1}  # one has no object
    found = _found(_check(good, needs=Needs(training=True, min_size=112), images="none"))
    assert found["image_not_trained_on"] in (small, small + 1) and small > 0
    assert "nothing_to_train" in _found(_check(good, needs=Needs(training=True, min_size=999), images="none"))


def test_crowds_alone_are_nothing_to_train_on(root):
    edit(root, lambda d: [a.update(iscrowd=1) for a in d["annotations"]] and None)
    assert "nothing_to_train" in _found(_check(root, needs=Needs(training=True), images="none"))


def test_ids_from_zero_and_empty_segmentations_are_those_of_labelling_tools(root):
    edit(root, lambda d: [a.update(id=a["id"] - 1, segmentation=[]) for a in d["annotations"]] and None)
    assert _check(root).ok
    count = len(json.loads((root / FILE).read_text())["annotations"])
    assert _found(_check(root, needs=Needs(masks=True))) == {"mask_missing": count}


def test_a_linked_folder_is_followed_and_a_loop_ends(root, tmp_path):
    (root / "train").rename(tmp_path / "elsewhere")
    (root / "train").mkdir()
    (root / "train" / "sub").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "loop").symlink_to(root / "train")
    edit(root, lambda d: [i.update(file_name=f"sub/{i['file_name']}") for i in d["images"]] and None)
    assert _check(root).ok


def test_a_colon_in_a_name_and_fields_of_other_types_are_harmless(root):
    first_image(root).rename(root / "train" / "2024-05-01T12:00:00.png")
    edit(root, put("images", "file_name", "2024-05-01T12:00:00.png"))
    edit(root, lambda d: d.update(info={"year": "2024"}, licenses="none"))
    assert _found(_check(root)) == {}


def test_a_good_set_is_in_order(good, capfd):
    report = _check(good, needs=Needs(masks=True, classes=tuple(SHAPES.values())))
    assert report.ok and not report.warnings
    assert report.counts["images"] == report.counts["images_decoded"] == 12
    document = json.loads((good / FILE).read_text())
    assert report.counts["annotations"] == len(document["annotations"])
    assert report.counts["crowds"] == sum(a["iscrowd"] for a in document["annotations"])
    report.raise_if_bad()
    assert "in order" in report.text()
    assert capfd.readouterr() == ("", "")


def test_everything_is_reported_at_once(root):
    first_image(root).unlink()
    edit(root, put("annotations", BOX, [1, NAN, 5, 5]))
    edit(root, lambda d: [a.update(area=-1) for a in d["annotations"]] and None)
    report = _check(root, max_examples=3)
    count = report.counts["annotations"]
    assert _found(report) == {"box_invalid": 1, "area_invalid": count, "image_missing": 1}
    assert len(report.errors["area_invalid"].examples) == 3
    with pytest.raises(DataSetError) as error:
        report.raise_if_bad()
    text = str(error.value)
    assert str(root / FILE) in text and f"and {count - 3} more" in text and "000000000001.png" in text


def test_examples_name_the_file_and_the_entry(root):
    document = json.loads((root / FILE).read_text())
    annotation, image = first_object(document)
    edit(root, put("annotations", BOX, [1, NAN, 5, 5]))
    example = _check(root).errors["box_invalid"].examples[0]
    assert f"(id {annotation['id']}, image {image['id']}" in example and "annotations[" in example


def test_a_sample_decodes_few_but_misses_no_file(root):
    names = sorted(path.name for path in (root / "train").iterdir())
    (root / "train" / names[3]).unlink()
    report = _check(root, images="sample", sample=4)
    assert _found(report) == {"image_missing": 1}
    assert report.counts["images_decoded"] == 4


def test_published_figures(good):
    document = json.loads((good / FILE).read_text())
    right = Published(12, len(document["annotations"]), SHAPES)
    assert _check(good, expected=right).ok
    wrong = Published(13, len(document["annotations"]) + 1, SHAPES | {2: "circle", 5: "heart"})
    assert _found(_check(good, expected=wrong)) == {"count": 4}


def test_a_file_of_another_year_is_refused(good):
    report = _check(good, expected="coco_2017_val", images="none")
    assert "published are 5,000" in report.text() and "another year" in report.text()


def test_test_images_need_no_annotations(tmp_path):
    categories = [{"id": i, "name": n} for i, n in COCO_CATEGORIES.items()]
    images = [{"id": i, "file_name": f"{i}.jpg", "width": 8, "height": 8} for i in range(1, 20_289)]
    (tmp_path / "info.json").write_text(json.dumps({"images": images, "categories": categories}))
    assert check_coco(tmp_path, "info.json", "test2017", expected="coco_2017_test_dev", images="none").ok


def test_published_categories_are_those_of_the_official_tools():
    labels = pytest.importorskip("cityscapesscripts.helpers.labels").labels
    evaluated = {label.id: label.name for label in labels if label.hasInstances and not label.ignoreInEval}
    assert evaluated == CITYSCAPES_CATEGORIES
    assert len(COCO_CATEGORIES) == len(set(COCO_CATEGORIES.values())) == 80
    assert set(range(1, 91)) - COCO_CATEGORIES.keys() == {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}
    assert PUBLISHED["coco_2017_train"].categories is COCO_CATEGORIES


@pytest.mark.parametrize("option", [{"images": "some"}, {"expected": "coco_2014"}])
def test_an_unknown_choice_is_refused_with_the_choices(good, option):
    with pytest.raises(ValueError, match="choose one of"):
        _check(good, **option)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(["images", "annotations", "categories"]),
    st.sampled_from(["id", "image_id", "category_id", "bbox", "area", "iscrowd", "segmentation", "width"]),
    _json,
)
def test_no_value_anywhere_makes_the_check_fail(tmp_path_factory, section, key, value):
    """Whatever is in a field, the answer is a report, never a traceback."""
    document = {
        "images": [{"id": 1, "file_name": "1.png", "width": 9, "height": 9}],
        "categories": [{"id": 1, "name": "circle"}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 3, 3], "area": 9, "iscrowd": 0}
        ],
    }
    document[section][0][key] = value
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_text(json.dumps(document))
    assert isinstance(check_coco(path.parent, path.name, "none", images="none").text(), str)
