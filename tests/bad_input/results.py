"""Results with something wrong: what is done to a file of a finished project, and what must be said of it.

`CASES` has an area for each kind of file: the command that reads it, and its cases by name. A case is what is
done to the file, and a part of the message, which must name the file besides.
"""

import json
import math
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

RUN = "mini_coco/retinanet/none/seed0"
FOLDER = f"results/mini/runs/{RUN}"
TRUTH = "data/mini_coco/annotations/instances_val.json"
EVALUATE = f"evaluate {RUN} --root ."
COLLECT = "collect --root ."
TABLE = "table weight --root ."
REPORT = "report --root ."

NAN, INFINITY = math.nan, math.inf


class Area(NamedTuple):
    """Bad files of one kind.

    Attributes:
        title: What they are, for people.
        command: Arguments of `corrloss`, which must refuse each.
        file: Below the project's root.
        cases: By name: what is done to the file, and what the message says besides the file's name.
    """

    title: str
    command: str
    file: str
    cases: dict[str, tuple[Callable[[Path], object], str]]


def whole(content: str | bytes):
    """The file holds this instead."""
    return lambda path: path.write_bytes(content if isinstance(content, bytes) else content.encode())


def cut(path: Path) -> None:
    """The last fifth is missing."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 4 // 5])


def parsed(change: Callable):
    """The JSON in the file is changed in place."""

    def harm(path: Path) -> None:
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))

    return harm


def entry(**changes):
    """The third detection says something else; a value of `None` stays as JSON's null."""
    return parsed(lambda detections: detections[2].update(changes))


def without(key: str):
    """The third detection lacks a key."""
    return parsed(lambda detections: detections[2].pop(key))


def annotation(**changes):
    """The third annotation says something else."""
    return parsed(lambda document: document["annotations"][2].update(changes))


def arrays(change: Callable):
    """The arrays in the file are changed in place."""

    def harm(path: Path) -> None:
        with np.load(path) as archive:
            content = dict(archive)
        change(content)
        np.savez(path, **content)

    return harm


def value(name: str, new: float):
    """The third value of an array is another one."""

    def change(content: dict) -> None:
        content[name] = content[name].copy()
        content[name][2] = new

    return arrays(change)


def text(old: str, new: str):
    """The first occurrence of a text is replaced."""

    def harm(path: Path) -> None:
        content = path.read_text()
        assert old in content
        path.write_text(content.replace(old, new, 1))

    return harm


class Bomb:
    """What a pickle can do: call anything when it is read."""

    def __reduce__(self):
        return Path.touch, (Path("pwned"),)


def pickled(path: Path) -> None:
    """A pickle in the place of the file."""
    path.write_bytes(pickle.dumps(Bomb()))


def pickled_array(name: str):
    """A pickle in the place of an array."""
    return arrays(lambda content: content.update({name: np.array([Bomb()], dtype=object)}))


def masks(change: Callable):
    """Masks beside the boxes, of the right size; the third is changed."""

    def harm(path: Path) -> None:
        sizes = {image["id"]: image for image in json.loads(Path(TRUTH).read_text())["images"]}
        boxes = json.loads(path.with_name("detections.bbox.json").read_text())
        detections = []
        for box in boxes:
            image = sizes[box["image_id"]]
            size = [image["height"], image["width"]]
            detections.append(box | {"segmentation": {"size": size, "counts": packed(size[0] * size[1])}})
        change(detections[2])
        path.write_text(json.dumps(detections))

    return harm


def packed(run: int) -> str:
    """One run of pixels outside of the object, in COCO's compression."""
    digits = ""
    while True:
        digit, run = run & 31, run >> 5
        more = run > 0 or digit & 16
        digits += chr(48 + digit + 32 * bool(more))
        if not more:
            return digits


def mask(**changes):
    """The third mask says something else."""
    return masks(lambda detection: detection["segmentation"].update(changes))


TRUTH_CASES = {
    "empty": (whole(""), "is empty"),
    "cut off": (cut, "truncated"),
    "a list of detections": (whole("[]"), "is a JSON object"),
    "no categories": (parsed(lambda d: d.pop("categories")), "no list 'categories'"),
    "an annotation without an area": (
        parsed(lambda d: d["annotations"][2].pop("area")),
        "expected 'area'",
    ),
    "an annotation with an id of 2^63": (annotation(id=2**63), "from -2^63 to 2^63 - 1"),
    "two annotations with one id": (
        parsed(lambda d: d["annotations"][2].update(id=d["annotations"][1]["id"])),
        "twice",
    ),
    "two images with one id": (parsed(lambda d: d["images"][2].update(id=d["images"][1]["id"])), "twice"),
    "an annotation of no image": (annotation(image_id=10**7), "not in images"),
    "an annotation of no category": (annotation(category_id=10**7), "not in categories"),
    "a box with NaN": (annotation(bbox=[1, NAN, 3, 4]), "'bbox' to be a list of four numbers"),
    "a negative width": (annotation(bbox=[1, 2, -3, 4]), "width and height not negative, found"),
    "a box of three numbers": (annotation(bbox=[1, 2, 3]), "found [1, 2, 3]"),
    "an area of NaN": (annotation(area=NAN), "'area'"),
    "a file name that climbs out": (
        parsed(lambda d: d["images"][2].update(file_name="../../../etc/passwd")),
        "points out of it",
    ),
}

DETECTION_CASES = {
    "missing": (Path.unlink, "cannot read"),
    "empty": (whole(""), "is empty"),
    "cut off": (cut, "truncated"),
    "binary": (whole(bytes(range(256))), "not valid JSON"),
    "an annotation file": (whole('{"images": []}'), "a JSON list"),
    "an entry that is a list": (parsed(lambda d: d.append([1, 2])), "expected an object, found [1, 2]"),
    "no score": (without("score"), "detection[2]"),
    "no box": (without("bbox"), "expected 'bbox'"),
    "an unknown image": (entry(image_id=10**6), "image_id 1000000 is not one of"),
    "an unknown category": (entry(category_id=999), "category_id 999 is not one of"),
    "a category of 1.5": (entry(category_id=1.5), "'category_id' to be an integer"),
    "a score of NaN": (entry(score=NAN), "'score' to be a number in [0, 1]"),
    "an infinite score": (entry(score=INFINITY), "'score' to be a number in [0, 1]"),
    "a score in percent": (entry(score=75.0), "found 75.0"),
    "a score below 0": (entry(score=-0.1), "found -0.1"),
    "a score in words": (entry(score="high"), "found 'high'"),
    "a score of null": (entry(score=None), "found None"),
    "a negative width": (entry(bbox=[1, 2, -3, 4]), "width and height not negative, found"),
    "a box with NaN": (entry(bbox=[1, 2, NAN, 4]), "four numbers"),
    "a box of three numbers": (entry(bbox=[1, 2, 3]), "list of four numbers"),
}

MASK_CASES = {
    "no mask": (masks(lambda detection: detection.pop("segmentation")), "compressed RLE"),
    "polygons": (masks(lambda d: d.update(segmentation=[[1, 1, 9, 9, 1, 9]])), "compressed RLE"),
    "not compressed": (mask(counts=[5, 4]), "compressed RLE"),
    "of another size": (mask(size=[10, 10]), "found size [10, 10]"),
    "too short": (mask(counts="52"), "an RLE that covers"),
    "cut off": (mask(counts="5R"), "cannot be decoded"),
    "strange letters": (mask(counts="Ünfug"), "cannot be decoded"),
}

POSITIVE_CASES = {
    "empty": (whole(""), "cannot read"),
    "cut off": (cut, "cannot read"),
    "a pickle": (pickled, "cannot read"),
    "an array that is a pickle": (pickled_array("iou"), "cannot read"),
    "no IoUs": (arrays(lambda content: content.pop("iou")), "no array iou"),
    "arrays of two lengths": (arrays(lambda c: c.update(score=c["score"][1:])), "different shapes"),
    "an unknown image": (value("image_id", 10**6), "image_id 1000000"),
    "a score of NaN": (value("score", NAN), "score nan is outside"),
    "an IoU below what is kept": (value("iou", 0.1), "is outside"),
}

REPLICATE_CASES = {
    "empty": (whole(""), "expected bootstrap replicates"),
    "cut off": (cut, "expected bootstrap replicates"),
    "a pickle": (pickled, "expected bootstrap replicates"),
    "an array that is a pickle": (pickled_array("values"), "expected bootstrap replicates"),
    "no values": (arrays(lambda content: content.pop("values")), "expected bootstrap replicates"),
}

RECORD_CASES = {
    "empty": (whole(""), "damaged record"),
    "cut off": (cut, "damaged record"),
    "a list": (whole("[]"), "damaged record"),
    "binary": (whole(bytes(range(128, 256))), "damaged record"),
    "of another run": (
        parsed(lambda record: record.update(run="a/b/none/seed0")),
        "is of run a/b/none/seed0",
    ),
    "no metrics": (parsed(lambda record: record.pop("metrics")), "metrics"),
    "an AP of NaN": (parsed(lambda record: record["metrics"].update(AP=NAN)), "metrics.AP is nan"),
    "an AP in words": (parsed(lambda record: record["metrics"].update(AP="31")), "metrics.AP is '31'"),
    "an AP of 500 digits": (
        lambda path: path.write_text(re.sub(r'"AP": [0-9.]+', f'"AP": {"9" * 500}', path.read_text())),
        "metrics.AP is 999",
    ),
    "an integer of 5,000 digits": (whole(f'{{"run": {"9" * 5000}}}'), "damaged record"),
    "50,000 brackets": (whole("[" * 50_000), "damaged record"),
    "a formula for the name of a metric": (
        parsed(lambda record: record["metrics"].update({"=1+1": 1})),
        "expected names of letters, digits, `_` and `.`, got '=1+1'",
    ),
    "an environment in words": (parsed(lambda record: record.update(environment="x")), "damaged record"),
    "an environment of many levels": (
        parsed(lambda record: record.update(environment={"train": {"a": {"b": {"c": {}}}}})),
        "damaged record",
    ),
    "a hash that is a number": (parsed(lambda record: record.update(identity=3)), "damaged record"),
}

RUNS_CASES = {
    "empty": (whole(""), "line 1: no column run"),
    "cut off": (cut, "line "),
    "a column that is missing": (text("coefficient", "coef"), "line 1: no column coefficient"),
    "a duplicate column": (text(",AP50,", ",AP,"), "line 1: duplicate column AP; keep one"),
    "a weight in words": (
        text(",spearman,0.1,", ",spearman,much,"),
        "weight: expected a finite number, found 'much'",
    ),
    "a duplicate run": (
        text("mini_coco/retinanet/spearman_w0.1/seed0", RUN),
        f"duplicate run {RUN}; keep one",
    ),
}

CURVE_CASES = {
    "empty": (whole(""), "not readable as a report"),
    "cut off": (cut, "not readable as a report"),
    "no curve": (parsed(lambda report: report.pop("curve")), "curve"),
    "a loss in words": (parsed(lambda report: report["curve"][0].update(loss="high")), "high"),
}

TRAINING_CASES = {
    "empty": (whole(""), "not readable as a report"),
    "cut off": (cut, "not readable as a report"),
    "a list": (whole("[]"), "not readable as a report"),
    "no seconds": (parsed(lambda report: report.pop("train_seconds")), "no train_seconds"),
}

PREDICTION_CASES = {
    "missing": (Path.unlink, "not readable as a report"),
    "cut off": (cut, "not readable as a report"),
    "no seconds": (parsed(lambda report: report.pop("predict_seconds")), "no predict_seconds"),
}

MADE_TABLE_CASES = {
    "empty": (whole(""), "line 1: no column"),
    "cut off": (cut, "line "),
}

AREAS = (
    Area("Annotations of the test images, on evaluation", EVALUATE, TRUTH, TRUTH_CASES),
    Area("Detections: boxes", EVALUATE, f"{FOLDER}/detections.bbox.json", DETECTION_CASES),
    Area("Detections: masks", EVALUATE, f"{FOLDER}/detections.segm.json", MASK_CASES),
    Area("Positives before post-processing", EVALUATE, f"{FOLDER}/positives.npz", POSITIVE_CASES),
    Area("Reports of trainings", EVALUATE, f"{FOLDER}/training.json", TRAINING_CASES),
    Area("Reports of predictions", EVALUATE, f"{FOLDER}/prediction.json", PREDICTION_CASES),
    Area("Bootstrap replicates", TABLE, f"{FOLDER}/bootstrap.bbox.npz", REPLICATE_CASES),
    Area("Records", COLLECT, f"{FOLDER}/record.json", RECORD_CASES),
    Area("`runs.csv`", TABLE, "results/mini/runs.csv", RUNS_CASES),
    Area("Loss curves, for the report", REPORT, f"{FOLDER}/training.json", CURVE_CASES),
    Area("Tables, for the report", REPORT, "results/mini/tables/weight.csv", MADE_TABLE_CASES),
)
