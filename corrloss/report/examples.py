"""Example detections: the boxes of a run and of its baseline over the same test images."""

from __future__ import annotations

import base64
import io
from typing import NamedTuple

import numpy as np
from PIL import Image
from pycocotools.mask import iou as box_iou

from corrloss.coco import Detections, GroundTruth
from corrloss.report.results import DataSet

SIDE = 320  # of the longer side, in units of the drawing; larger files are embedded with as many pixels
EXAMPLES = 4
SAME_OBJECT = 0.5  # IoU from which a detection belongs to an object
NOWHERE = np.iinfo(np.int64).max


class Photograph(NamedTuple):
    """A test image, embedded in the page once and drawn by reference."""

    id: str  # unique on the page
    name: str  # of the file
    image_id: int
    source: str  # the picture as a data URI
    width: float  # in units of the drawing; the longer side is `SIDE`
    height: float
    scale: float  # units of the drawing per pixel of the file


class Box(NamedTuple):
    """A box on a photograph, in units of the drawing."""

    kind: str  # `object`: annotated; `found`: a detection; `changed`: one whose rank differs between the runs
    x: float
    y: float
    width: float
    height: float
    label: str  # rank, class and score of a detection


class Picture(NamedTuple):
    """The boxes of one run on one photograph."""

    title: str
    photograph: Photograph
    boxes: list[Box]


def photographs(name: str, data: DataSet, count: int = EXAMPLES) -> list[Photograph]:
    """At most ``count`` test images with objects, spread evenly over the data set called ``name``.

    Those that exist on this machine.
    """
    files = dict(zip(data.ground_truth.image_ids.tolist(), data.ground_truth.file_names, strict=True))
    with_objects = np.unique(data.ground_truth.image_id[~data.ground_truth.is_crowd])
    chosen = np.linspace(0, len(with_objects) - 1, min(count, len(with_objects))).round().astype(int)
    found = []
    for image_id in with_objects[chosen].tolist():
        path = data.images / files[image_id]
        if path.is_file():
            with Image.open(path) as opened:
                image = opened.convert("RGB")
            scale = SIDE / max(image.size)
            sides = [round(side * scale, 1) for side in image.size]
            buffer = io.BytesIO()
            image.thumbnail((SIDE, SIDE))  # never larger than the file
            image.save(buffer, "JPEG", quality=80)
            source = f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
            identity = f"image-{name}-{image_id}"
            found.append(Photograph(identity, files[image_id], image_id, source, *sides, scale))
    return found


def pictures(photograph: Photograph, ground_truth: GroundTruth, runs: dict[str, Detections]) -> list[Picture]:
    """The detections of one run, or of a run and its baseline, on one photograph; ``runs`` are by title.

    Of an image with k annotated objects the k highest scores are drawn, so that no threshold decides how
    good a detector looks. Where there are two runs, a detection is marked if it is the best-scored one of
    its object and its rank in the image differs between the runs.
    """
    objects = np.flatnonzero((ground_truth.image_id == photograph.image_id) & ~ground_truth.is_crowd)
    image_id = photograph.image_id
    rankings = [_Ranking(found, image_id, ground_truth, objects) for found in runs.values()]
    drawn = []
    true = [_box("object", ground_truth.bbox[row], photograph.scale, "") for row in objects]
    for title, ranking, other in zip(runs, rankings, [*rankings[1:], rankings[0]], strict=True):
        found = [_detection(ranking, other, rank, photograph.scale) for rank in range(ranking.shown)]
        drawn.append(Picture(title, photograph, true + found))
    return drawn


class _Ranking:
    """The detections of one image by falling score, with the annotated object that each belongs to.

    Attributes:
        boxes: (n, 4), x, y, width, height.
        scores: (n,).
        names: Class of each.
        object: (n,), index into the image's objects of the same class with IoU of at least `SAME_OBJECT`,
            the one of highest IoU; -1 for none.
        best: Rank of each object's best-scored detection, 0 for the first; `NOWHERE` for none.
        shown: How many are drawn.
    """

    def __init__(self, detections: Detections, image_id: int, truth: GroundTruth, objects: np.ndarray):
        rows = np.flatnonzero(detections.image_id == image_id)
        rows = rows[np.argsort(-detections.score[rows], kind="stable")]
        names = dict(zip(truth.category_ids.tolist(), truth.category_names, strict=True))
        self.boxes, self.scores = detections.bbox[rows].astype(float), detections.score[rows]
        self.names = [names[int(category)] for category in detections.category_id[rows]]
        self.object = _nearest(self.boxes, truth.bbox[objects].astype(float))
        same_class = detections.category_id[rows] == truth.category_id[objects][self.object]
        self.object = np.where(same_class, self.object, -1)
        self.best = np.full(len(objects), NOWHERE)
        ranks = np.flatnonzero(self.object >= 0)
        np.minimum.at(self.best, self.object[ranks], ranks)
        self.shown = min(len(rows), len(objects))


def _nearest(boxes: np.ndarray, objects: np.ndarray) -> np.ndarray:
    """Index of the object of highest IoU for each box, -1 below `SAME_OBJECT`."""
    if not len(boxes):
        return np.zeros(0, int)
    overlap = np.asarray(box_iou(boxes, objects, np.zeros(len(objects), np.uint8)))
    return np.where(overlap.max(axis=1) >= SAME_OBJECT, overlap.argmax(axis=1), -1)


def _detection(ranking: _Ranking, other: _Ranking, rank: int, scale: float) -> Box:
    """The detection of a rank; of a run without another one ``other`` is the same ranking."""
    label = f"#{rank + 1} {ranking.names[rank]} {ranking.scores[rank]:.2f}"
    owner = ranking.object[rank]
    if owner < 0 or ranking.best[owner] != rank or other.best[owner] == rank:
        return _box("found", ranking.boxes[rank], scale, label)
    there = other.best[owner]
    label += ", in the other run " + ("not found" if there == NOWHERE else f"#{there + 1}")
    return _box("changed", ranking.boxes[rank], scale, label)


def _box(kind: str, bbox: np.ndarray, scale: float, label: str) -> Box:
    return Box(kind, *(round(float(value) * scale, 1) for value in bbox), label)
