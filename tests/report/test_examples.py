from pathlib import Path

import numpy as np
import pytest

from corrloss.coco import Detections
from corrloss.report.examples import photographs, pictures


@pytest.fixture(scope="module")
def scene(project):
    """A test image with at least two objects, its photograph, and the ids and boxes of its objects."""
    data = project.data()["mini_coco"]
    truth = data.ground_truth
    for photograph in photographs("mini_coco", data):
        rows = np.flatnonzero((truth.image_id == photograph.image_id) & ~truth.is_crowd)
        if len(rows) > 1:
            return photograph, truth, rows
    raise AssertionError("no image has two objects")


def detections(truth, rows, scores):
    columns = {"image_id": truth.image_id[rows], "category_id": truth.category_id[rows]}
    return Detections(
        Path("detections.bbox.json"), "bbox", **columns, bbox=truth.bbox[rows], score=np.array(scores)
    )


def test_boxes_whose_rank_differs_between_the_runs_are_marked(scene):
    photograph, truth, rows = scene
    rows = rows[:2]
    without, with_loss = (detections(truth, rows, scores) for scores in ([0.9, 0.5], [0.4, 0.8]))
    first, second = pictures(photograph, truth, {"without": without, "with": with_loss})
    for picture in (first, second):
        found = [box for box in picture.boxes if box.kind != "object"]
        assert [box.kind for box in found] == ["changed"] * 2
        assert "#1" in found[0].label and found[0].label.endswith("in the other run #2")
    assert first.boxes[-2].x == second.boxes[-1].x  # the object that was first is now second


def test_equal_orders_mark_nothing(scene):
    photograph, truth, rows = scene
    pair = {
        name: detections(truth, rows[:2], scores) for name, scores in (("a", [0.9, 0.5]), ("b", [0.3, 0.2]))
    }
    for picture in pictures(photograph, truth, pair):
        assert {box.kind for box in picture.boxes} == {"object", "found"}


def test_an_object_that_the_other_run_misses_is_marked(scene):
    photograph, truth, rows = scene
    pair = {"a": detections(truth, rows[:2], [0.9, 0.5]), "b": detections(truth, rows[:1], [0.9])}
    first, _ = pictures(photograph, truth, pair)
    assert [box.kind for box in first.boxes[-2:]] == ["found", "changed"]
    assert first.boxes[-1].label.endswith("not found")


def test_boxes_are_in_the_units_of_the_photograph(scene):
    photograph, truth, rows = scene
    (picture,) = pictures(photograph, truth, {"a": detections(truth, rows[:1], [0.9])})
    box = picture.boxes[-1]
    drawn = (box.x, box.y, box.width, box.height)
    assert drawn == pytest.approx(truth.bbox[rows[0]] * photograph.scale, abs=0.06)
    assert max(photograph.width, photograph.height) == 320
