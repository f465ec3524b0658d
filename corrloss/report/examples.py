"""Example detections, drawn on the images that they were made of."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from corrloss.coco.reading import Detections, GroundTruth, load_detections
from corrloss.report.results import DataSet
from corrloss.run import RunFolder

SIDE = 256  # pixels of the longer side
EXAMPLES = 4
TRUE, FOUND = "white", "#ff7f0e"


@dataclass(frozen=True)
class Example:
    """An image with boxes.

    Attributes:
        caption: What it shows.
        source: The picture as a data URI.
    """

    caption: str
    source: str


def examples(folder: RunFolder, data: DataSet) -> list[Example]:
    """Draw a run's detections on a few test images, the same ones for every run.

    Of an image with k annotated objects the k highest scores are drawn, so that no threshold decides how
    good a detector looks.

    Args:
        folder: Holds the run's detections.
        data: What the run was tested on; images that are not there are left out.

    Raises:
        DetectionsError: the detections are missing or damaged.
    """
    detections = load_detections(folder.detections(), data.ground_truth)
    files = {image["id"]: str(image["file_name"]) for image in data.ground_truth.document["images"]}
    drawn = []
    for image_id in example_images(data.ground_truth):
        path = data.images / files[image_id]
        if path.is_file():
            drawn.append(Example(files[image_id], _draw(path, image_id, data.ground_truth, detections)))
    return drawn


def example_images(ground_truth: GroundTruth, count: int = EXAMPLES) -> list[int]:
    """Ids of up to `count` images with objects, spread evenly over the data set."""
    with_objects = np.unique(ground_truth.image_id[~ground_truth.is_crowd])
    chosen = np.linspace(0, len(with_objects) - 1, min(count, len(with_objects))).round().astype(int)
    return with_objects[chosen].tolist()


def _draw(path: Path, image_id: int, ground_truth: GroundTruth, detections: Detections) -> str:
    with Image.open(path) as opened:
        image = opened.convert("RGB")
    scale = SIDE / max(image.size)
    image = image.resize([max(1, round(side * scale)) for side in image.size])
    pen = ImageDraw.Draw(image)
    true = np.flatnonzero((ground_truth.image_id == image_id) & ~ground_truth.is_crowd)
    for row in true:
        pen.rectangle(_corners(ground_truth.bbox[row] * scale), outline=TRUE, width=1)
    found = np.flatnonzero(detections.image_id == image_id)
    names = dict(zip(ground_truth.category_ids.tolist(), ground_truth.category_names, strict=True))
    shown = found[np.argsort(-detections.score[found], kind="stable")][: len(true)]
    for row in shown:
        pen.rectangle(_corners(detections.bbox[row] * scale), outline=FOUND, width=2)
    for row in shown:  # after all boxes, which would cross them out
        left, top, *_ = _corners(detections.bbox[row] * scale)
        label = f"{names[int(detections.category_id[row])]} {detections.score[row]:.2f}"
        _write(pen, left, max(0, top - 12), label, image.width)
    return _data_uri(image)


def _write(pen: ImageDraw.ImageDraw, left: float, top: float, text: str, width: int) -> None:
    font = ImageFont.load_default(size=10)
    left = max(0, min(left, width - pen.textlength(text, font=font)))  # whole, also at the right edge
    pen.rectangle(pen.textbbox((left, top), text, font=font), fill=FOUND)
    pen.text((left, top), text, fill="black", font=font)


def _corners(box: Sequence[float]) -> list[float]:
    x, y, width, height = box
    return [x, y, x + width, y + height]


def _data_uri(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
