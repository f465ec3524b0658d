import numpy as np
import pytest
from synthetic_coco import make_dataset, make_detections, write

from corrloss.analysis.matching import match
from corrloss.analysis.tide import OLRP, TIDE, optimal_lrp, tide_errors
from corrloss.coco import load_detections, load_ground_truth

CAT, DOG = 1, 2


def annotation(number, image, category, box, crowd=0):
    return {
        "id": number,
        "image_id": image,
        "category_id": category,
        "bbox": box,
        "area": box[2] * box[3],
        "iscrowd": crowd,
    }


def detection(image, category, box, score):
    return {"image_id": image, "category_id": category, "bbox": box, "score": score}


def load(tmp_path, annotations, detections):
    dataset = {
        "images": [{"id": i, "height": 100, "width": 100, "file_name": f"{i}.png"} for i in (1, 2)],
        "categories": [{"id": CAT, "name": "cat"}, {"id": DOG, "name": "dog"}],
        "annotations": annotations,
    }
    truth = load_ground_truth(write(tmp_path / "annotations.json", dataset))
    return truth, load_detections(write(tmp_path / "detections.json", detections), truth)


def lrp(tmp_path, annotations, detections):
    truth, found = load(tmp_path, annotations, detections)
    return optimal_lrp(match(truth, found, [0.5], ("all",)), truth)


BOX = [0, 0, 10, 10]
FAR = [50, 50, 10, 10]


def test_a_perfect_detector_has_no_error(tmp_path):
    result = lrp(tmp_path, [annotation(1, 1, CAT, BOX)], [detection(1, CAT, BOX, 0.9)])
    assert result == dict.fromkeys(OLRP, 0.0)


def test_olrp_worked_by_hand(tmp_path):
    annotations = [annotation(1, 1, CAT, BOX), annotation(2, 1, CAT, FAR), annotation(3, 2, CAT, BOX)]
    detections = [
        detection(1, CAT, [0, 0, 10, 8], 0.9),  # IoU 0.8: (0.4 + 2 missed) / 3 = 0.8
        detection(2, CAT, FAR, 0.8),  # false: (0.4 + 1 + 2) / 4 = 0.85
        detection(1, CAT, [50, 50, 10, 9], 0.7),  # IoU 0.9: (0.4 + 0.2 + 1 + 1) / 4 = 0.65, the least
        detection(2, CAT, [80, 80, 5, 5], 0.6),  # false: (0.6 + 2 + 1) / 5 = 0.72
    ]
    result = lrp(tmp_path, annotations, detections)
    assert result["oLRP"] == pytest.approx(65)
    assert result["oLRP_Loc"] == pytest.approx(100 * (0.2 + 0.1) / 2)
    assert result["oLRP_FP"] == pytest.approx(100 / 3)
    assert result["oLRP_FN"] == pytest.approx(100 / 3)


def test_a_class_that_is_not_found_counts_fully_and_one_without_annotations_not_at_all(tmp_path):
    found = lrp(
        tmp_path, [annotation(1, 1, CAT, BOX)], [detection(1, CAT, BOX, 0.9), detection(1, DOG, FAR, 1)]
    )
    assert found["oLRP"] == 0
    half = lrp(
        tmp_path,
        [annotation(1, 1, CAT, BOX), annotation(2, 1, DOG, FAR)],
        [detection(1, CAT, BOX, 0.9), detection(1, DOG, BOX, 0.9)],
    )
    assert half == {"oLRP": 50.0, "oLRP_Loc": 0.0, "oLRP_FP": 0.0, "oLRP_FN": 50.0}


def test_a_detection_of_a_crowd_is_no_error(tmp_path):
    annotations = [annotation(1, 1, CAT, BOX), annotation(2, 1, CAT, [40, 40, 50, 50], crowd=1)]
    detections = [detection(1, CAT, FAR, 0.95), detection(1, CAT, BOX, 0.9)]
    assert lrp(tmp_path, annotations, detections)["oLRP"] == 0


def test_nothing_detected_is_all_missed(tmp_path):
    result = lrp(tmp_path, [annotation(1, 1, CAT, BOX)], [])
    assert (result["oLRP"], result["oLRP_FN"]) == (100, 100)
    assert np.isnan([result["oLRP_Loc"], result["oLRP_FP"]]).all()


def test_olrp_is_the_least_error_over_all_score_thresholds(tmp_path):
    dataset = make_dataset(3, crowd=0.1)
    truth = load_ground_truth(write(tmp_path / "annotations.json", dataset))
    found = load_detections(write(tmp_path / "d.json", make_detections(3, dataset)), truth)
    matches = match(truth, found, [0.5], ("all",))
    errors = []
    for index, category in enumerate(truth.category_ids):
        n_annotations = ((truth.category_id == category) & ~truth.is_crowd).sum()
        rows = (matches.category == index) & ~matches.ignored[0, 0]
        least = 1.0
        for score in matches.score[rows]:
            kept = rows & (matches.score >= score)
            pair = matches.pair[0, 0, kept]
            ious = matches.pairs.iou[pair[pair >= 0]]
            missed = n_annotations - len(ious)
            total = ((1 - ious) / 0.5).sum() + (pair < 0).sum() + missed
            least = min(least, total / (kept.sum() + missed))
        errors.append(least)
    assert optimal_lrp(matches, truth)["oLRP"] == pytest.approx(100 * np.mean(errors))


def test_tide_names_each_error(tmp_path):
    annotations = [annotation(1, 1, CAT, BOX), annotation(2, 1, DOG, FAR), annotation(3, 2, CAT, BOX)]
    perfect = [detection(1, CAT, BOX, 0.9), detection(1, DOG, FAR, 0.9), detection(2, CAT, BOX, 0.9)]
    assert tide_errors(*load(tmp_path, annotations, perfect)) == dict.fromkeys(TIDE, 0.0)

    # The dog was called a cat, after both cats: mending the class is half of the two classes' mean.
    wrong = [perfect[0], perfect[2], detection(1, CAT, FAR, 0.8)]
    errors = tide_errors(*load(tmp_path, annotations, wrong))
    assert errors["Cls"] == pytest.approx(50)
    assert [errors[name] for name in ("Loc", "Both", "Dupe", "Bkg", "Miss")] == [0] * 5

    # One of two cats is not found: 51 of the 101 recall points, half of the two classes' mean.
    errors = tide_errors(*load(tmp_path, annotations, perfect[:2]))
    assert errors["Miss"] == errors["FN"] == pytest.approx(100 * (1 - 51 / 101) / 2)

    # It is found with a poor box (IoU 0.3).
    poor = [perfect[0], perfect[1], detection(2, CAT, [0, 0, 10, 3], 0.8)]
    errors = tide_errors(*load(tmp_path, annotations, poor))
    assert errors["Loc"] == pytest.approx(100 * (1 - 51 / 101) / 2)
    assert errors["Cls"] == errors["Bkg"] == 0

    # A false detection on nothing, above the true one: precision 1/2 at the only annotation.
    background = [detection(1, CAT, [80, 80, 5, 5], 0.95), detection(1, CAT, BOX, 0.9)]
    errors = tide_errors(*load(tmp_path, annotations[:1], background))
    assert errors["Bkg"] == errors["FP"] == pytest.approx(50)


def test_where_tide_differs_from_the_authors_own(tmp_path):
    """The cases of docs/measures.md; tidecv 1.0.1 gives Bkg 25, Miss 50 and Bkg 50."""
    annotations = [annotation(1, 1, CAT, BOX), annotation(2, 2, DOG, BOX)]
    perfect = [detection(1, CAT, BOX, 0.9), detection(2, DOG, BOX, 0.9)]
    crowd, partly = (
        annotation(3, 1, CAT, [40, 40, 50, 50], crowd=1),
        detection(1, CAT, [86, 50, 10, 10], 0.95),
    )
    errors = tide_errors(*load(tmp_path, [*annotations, crowd], [*perfect, partly]))
    assert (errors["Loc"], errors["Bkg"]) == (pytest.approx(25), 0)
    errors = tide_errors(*load(tmp_path, annotations, perfect[:1]))
    assert errors["Miss"] == errors["FN"] == 0
    errors = tide_errors(*load(tmp_path, annotations[:1], perfect))
    assert errors == dict.fromkeys(TIDE, 0.0)


def test_tide_of_a_run_that_detects_nothing_has_nothing_to_mend(tmp_path):
    assert tide_errors(*load(tmp_path, [annotation(1, 1, CAT, BOX)], [])) == dict.fromkeys(TIDE, 0.0)
