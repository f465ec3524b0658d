import contextlib
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from synthetic_coco import make_dataset, make_detections, with_masks, write

from corrloss.analysis.matching import AREAS, match
from corrloss.coco import load_detections, load_ground_truth


def evaluate_by_pycocotools(truth, found):
    """Return pycocotools' own per-image results, {(category, area, image): dict}."""
    with contextlib.redirect_stdout(io.StringIO()):
        annotations = COCO(str(truth.path))
        evaluation = COCOeval(annotations, annotations.loadRes(str(found.path)), found.iou_type)
        evaluation.evaluate()
    names = {tuple(limits): name for name, limits in AREAS.items()}
    return {(e["category_id"], names[tuple(e["aRng"])], e["image_id"]): e for e in evaluation.evalImgs if e}


def assert_matched_as_by_pycocotools(truth, found):
    matches = match(truth, found)
    compared = 0
    for (category, area, image), expected in evaluate_by_pycocotools(truth, found).items():
        rows = (truth.category_ids[matches.category] == category) & (truth.image_ids[matches.image] == image)
        index = matches.areas.index(area)
        # pycocotools numbers results from 1 in file order.
        assert (matches.detection[rows] + 1).tolist() == expected["dtIds"]
        pair = matches.pair[index][:, rows]
        ids = np.append(truth.annotation_id[matches.pairs.annotation], 0)  # -1 is none, and 0 to pycocotools
        np.testing.assert_array_equal(ids[pair], expected["dtMatches"])
        np.testing.assert_array_equal(matches.ignored[index][:, rows], expected["dtIgnore"])
        order = [truth.annotation_id.tolist().index(i) for i in expected["gtIds"]]
        np.testing.assert_array_equal(matches.annotation_ignored[index][order], expected["gtIgnore"])
        compared += pair.size
    assert compared == matches.pair.size


@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
@pytest.mark.parametrize("seed", range(3))
def test_every_match_is_that_of_pycocotools(tmp_path, iou_type, seed):
    dataset = make_dataset(seed, crowd=0.15, objects=12, masks=iou_type == "segm")
    # Two annotations of one box: equal IoUs, where the rule of ties shows.
    twins = [a | {"id": a["id"] + 1} for a in dataset["annotations"][::4]]
    dataset["annotations"] += twins
    entries = make_detections(
        seed, dataset, ties=seed == 1, duplicates=0.9, background=40 if seed == 2 else 5
    )
    if iou_type == "segm":
        entries = with_masks(entries, dataset)
    truth = load_ground_truth(write(tmp_path / "annotations.json", dataset))
    found = load_detections(write(tmp_path / "detections.json", entries), truth, iou_type)
    assert_matched_as_by_pycocotools(truth, found)


def test_only_the_best_detections_of_an_image_and_category_are_kept(tmp_path):
    dataset = make_dataset(0, images=2, categories=1)
    truth = load_ground_truth(write(tmp_path / "annotations.json", dataset))
    entries = make_detections(0, dataset, background=150)
    found = load_detections(write(tmp_path / "detections.json", entries), truth)
    matches = match(truth, found)
    assert np.bincount(matches.image).tolist() == [100, 100]
    best = np.sort(found.score[found.image_id == truth.image_ids[0]])[::-1][:100]
    np.testing.assert_array_equal(matches.score[matches.image == 0], best)


def test_nothing_to_match(tmp_path):
    truth = load_ground_truth(write(tmp_path / "annotations.json", make_dataset(0)))
    matches = match(truth, load_detections(write(tmp_path / "detections.json", []), truth))
    assert matches.pair.shape == (4, 10, 0)
    assert matches.is_true.sum() == matches.is_false.sum() == 0


# Few places, sizes, scores and classes, so that boxes coincide and scores and IoUs tie.
BOX = st.tuples(*[st.sampled_from([0, 8, 16, 30])] * 2, *[st.sampled_from([0, 10, 32, 40])] * 2).map(list)
PLACE = {"image_id": st.sampled_from([3, 5]), "category_id": st.sampled_from([1, 4]), "bbox": BOX}
ANNOTATIONS = st.lists(st.fixed_dictionaries(PLACE | {"iscrowd": st.integers(0, 1)}), max_size=8)
DETECTIONS = st.lists(st.fixed_dictionaries(PLACE | {"score": st.sampled_from([0, 0.5, 1])}), max_size=10)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(ANNOTATIONS, DETECTIONS)
def test_any_boxes_are_matched_as_by_pycocotools(tmp_path_factory, annotations, detections):
    folder = tmp_path_factory.getbasetemp()
    images = [{"id": i, "height": 80, "width": 80, "file_name": f"{i}.png"} for i in (5, 3)]
    numbered = [
        a | {"id": number, "area": a["bbox"][2] * a["bbox"][3]} for number, a in enumerate(annotations, 1)
    ]
    categories = [{"id": i, "name": str(i)} for i in (1, 4)]
    dataset = {"images": images, "annotations": numbered, "categories": categories}
    truth = load_ground_truth(write(folder / "annotations.json", dataset))
    found = load_detections(write(folder / "detections.json", detections), truth)
    if not detections:  # which pycocotools does not take
        assert match(truth, found).pair.size == 0
        return
    assert_matched_as_by_pycocotools(truth, found)
