"""COCO results files: every detection checked against its ground truth, and all of them as columns."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import chain
from operator import attrgetter
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from corrloss.coco.annotations import GroundTruth, listed, positions
from corrloss.coco.entries import (
    DETECTION,
    IOU_TYPES,
    Detection,
    DetectionsError,
    IouType,
    entry_faults,
    no_garbage_collection,
    parse_json,
    read_utf8,
    rle_fault,
    shown,
)
from corrloss.coco.masks import rle_lengths


@dataclass(frozen=True)
class Detections:
    """The detections of one run as columns; n detections in file order.

    Attributes:
        path: the detections file, for messages.
        iou_type: "bbox" or "segm".
        image_id: int64 (n,).
        category_id: int64 (n,).
        score: float64 (n,), in [0, 1].
        bbox: float64 (n, 4), x, y, width, height in pixels; None for "segm".
        segmentation: n run-length encodings `{"size": [h, w], "counts": str}`; None for "bbox".
    """

    path: Path
    iou_type: IouType
    image_id: np.ndarray
    category_id: np.ndarray
    score: np.ndarray
    bbox: np.ndarray | None = None
    segmentation: list[dict[str, Any]] | None = field(default=None, repr=False)

    def __len__(self) -> int:
        """Return the number of detections."""
        return len(self.score)

    @property
    def shapes(self) -> np.ndarray | list[dict[str, Any]]:
        """The boxes or the masks, according to `iou_type`."""
        return self.bbox if self.iou_type == "bbox" else self.segmentation

    def with_scores(self, score: np.ndarray) -> "Detections":
        """Return the same detections with other scores, float64 (n,), in [0, 1]."""
        return replace(self, score=score)

    def entries(self, image_id: np.ndarray, category_id: np.ndarray) -> list[dict[str, Any]]:
        """Return the detections as new COCO result dicts, with these ids; the tools may add keys."""
        shape = "bbox" if self.iou_type == "bbox" else "segmentation"
        shapes = self.bbox.tolist() if shape == "bbox" else [dict(mask) for mask in self.segmentation]
        rows = zip(image_id.tolist(), category_id.tolist(), shapes, self.score.tolist(), strict=True)
        return [
            {"image_id": image, "category_id": category, shape: value, "score": score}
            for image, category, value, score in rows
        ]


def load_detections(
    path: str | os.PathLike, ground_truth: GroundTruth, iou_type: IouType = "bbox"
) -> Detections:
    """Read and check a COCO results file against the ground truth it belongs to.

    An empty list is a run that detects nothing, a valid file. A file without a byte is a run that was
    interrupted, an error.

    Args:
        path: a JSON list of `{image_id, category_id, score, bbox}` (or `segmentation`, a compressed RLE).
        ground_truth: what `load_ground_truth` gave.
        iou_type: "bbox" or "segm". For "segm" a `bbox` in the file is not read: COCO takes the mask's area.

    Raises:
        DetectionsError: the file is missing, not JSON, or holds a detection that is not valid; the message
            names the first five with index and image, and counts all.
        ValueError: an unknown `iou_type`.
    """
    if iou_type not in IOU_TYPES:
        raise ValueError(f"iou_type is {iou_type!r}; choose one of {', '.join(IOU_TYPES)}.")
    path = Path(path)
    content = read_utf8(path, DetectionsError)
    with no_garbage_collection():
        try:
            entries = msgspec.json.decode(content, type=list[DETECTION[iou_type]])
        except (msgspec.DecodeError, RecursionError):
            entries = None
        found = None if entries is None else _columns(path, entries, iou_type)
        if found is None or not _fits(found, ground_truth):
            plain = parse_json(path, content, DetectionsError)
            _refuse_faults(path, plain, ground_truth, iou_type)
            found = _columns(path, msgspec.convert(plain, list[DETECTION[iou_type]]), iou_type)
    return found


def _columns(path: Path, entries: list[Detection], iou_type: IouType) -> Detections:
    def column(key: str, dtype: type) -> np.ndarray:
        return np.fromiter(map(attrgetter(key), entries), dtype, len(entries))

    shapes: dict[str, Any]
    if iou_type == "segm":
        shapes = {"segmentation": [entry.segmentation for entry in entries]}
    else:
        numbers = chain.from_iterable(map(attrgetter("bbox"), entries))
        shapes = {"bbox": np.fromiter(numbers, np.float64, 4 * len(entries)).reshape(-1, 4)}
    return Detections(
        path=path,
        iou_type=iou_type,
        image_id=column("image_id", np.int64),
        category_id=column("category_id", np.int64),
        score=column("score", np.float64),
        **shapes,
    )


def _fits(found: Detections, ground_truth: GroundTruth) -> bool:
    """Whether all images and categories are known, and all masks cover their image."""
    image = positions(found.image_id, ground_truth.image_ids)
    category = positions(found.category_id, ground_truth.category_ids)
    if (image < 0).any() or (category < 0).any():
        return False
    if found.segmentation is None or len(found) == 0:
        return True
    expected = ground_truth.image_sizes[image]
    sizes = np.array([mask["size"] for mask in found.segmentation])
    if (sizes != expected).any():
        return False
    lengths = rle_lengths([mask["counts"] for mask in found.segmentation])
    return bool((lengths == expected.prod(axis=1)).all())


def _refuse_faults(path: Path, plain: Any, ground_truth: GroundTruth, iou_type: IouType) -> None:
    if not isinstance(plain, list):
        raise DetectionsError(
            f"{path}: expected a JSON list of detections, found {shown(plain)}. Is it an annotation file?"
        )
    faults = list(_faults(plain, ground_truth, iou_type))
    if faults:
        advice = (
            f"{len(faults):,} such in {len(plain):,} detections. Values that are not finite come from a "
            "training that diverged; unknown images or categories from another data set. "
            "Predict this run again."
        )
        raise DetectionsError(listed(path, faults, advice))


def _faults(plain: list, ground_truth: GroundTruth, iou_type: IouType) -> Iterator[str]:
    """What is wrong with each detection that is not valid."""
    sizes = dict(zip(ground_truth.image_ids.tolist(), ground_truth.image_sizes.tolist(), strict=True))
    categories = set(ground_truth.category_ids.tolist())
    for index, entry in enumerate(plain):
        is_object = isinstance(entry, dict)
        image = shown(entry.get("image_id", "unknown")) if is_object else "unknown"
        where = f"detection[{index}] (image {image})"
        faults = [text for _, text in entry_faults(entry, DETECTION[iou_type])]
        if faults:
            yield from (f"{where}: {text}" for text in faults)
            continue
        if entry["image_id"] not in sizes:
            count = f"the {len(sizes):,} images of {ground_truth.path}"
            yield f"{where}: image_id {image} is not one of {count}"
            continue
        if entry["category_id"] not in categories:
            count = f"the {len(categories):,} categories of {ground_truth.path}"
            yield f"{where}: category_id {entry['category_id']} is not one of {count}"
        if iou_type == "segm" and (fault := rle_fault(entry["segmentation"], *sizes[entry["image_id"]])):
            yield f"{where}: {fault}"
