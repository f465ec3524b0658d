"""COCO annotation and result files as checked columns.

Everything in `corrloss.analysis` starts from the two types of this module, so a bad file is refused here,
once, with its name and the entry, and never becomes a number.
"""

import contextlib
import gc
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain
from operator import attrgetter
from pathlib import Path
from typing import Any, Literal, TypedDict

import msgspec
import numpy as np

from corrloss.coco.masks import rle_lengths
from corrloss.errors import CorrLossError
from corrloss.files import escapes_root

IouType = Literal["bbox", "segm"]
IOU_TYPES = ("bbox", "segm")


class GroundTruthError(CorrLossError):
    """A COCO annotation file is missing, broken or inconsistent; the message says where and what to do."""


class DetectionsError(CorrLossError):
    """A detections file is missing, broken or of another data set; the message says where and what to do."""


@dataclass(frozen=True)
class GroundTruth:
    """A COCO annotation file as columns; n annotations in file order.

    Attributes:
        path: the annotation file.
        image_ids: int64 (n_images,), ascending.
        image_sizes: int64 (n_images, 2), height and width in pixels, in the order of `image_ids`.
        category_ids: int64 (n_categories,), ascending.
        category_names: names in the order of `category_ids`.
        annotation_id: int64 (n,), unique, at least 1.
        image_id: int64 (n,).
        category_id: int64 (n,).
        bbox: float64 (n, 4), x, y, width, height in pixels.
        area: float64 (n,), square pixels, as the file states it (of the mask, where there is one).
        is_crowd: bool (n,).
        document: the parsed file, for COCO tools that want it; not to be changed.
    """

    path: Path
    image_ids: np.ndarray
    image_sizes: np.ndarray
    category_ids: np.ndarray
    category_names: tuple[str, ...]
    annotation_id: np.ndarray
    image_id: np.ndarray
    category_id: np.ndarray
    bbox: np.ndarray
    area: np.ndarray
    is_crowd: np.ndarray
    document: dict[str, Any] = field(repr=False)

    def __len__(self) -> int:
        """Return the number of annotations, crowds included."""
        return len(self.annotation_id)

    @cached_property
    def has_masks(self) -> bool:
        """Whether every annotation carries a segmentation."""
        return all(annotation.get("segmentation") for annotation in self.document["annotations"])

    @cached_property
    def in_hotcoco(self) -> Any:
        """The annotations as a `hotcoco.COCO`, read once."""
        import hotcoco

        return hotcoco.COCO(str(self.path))


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
        """The boxes or the masks, whichever `iou_type` says."""
        return self.bbox if self.iou_type == "bbox" else self.segmentation

    def with_scores(self, score: np.ndarray) -> "Detections":
        """Return the same detections with other scores, float64 (n,), in [0, 1]."""
        return replace(self, score=score)


def load_ground_truth(path: str | os.PathLike) -> GroundTruth:
    """Read and check a COCO annotation file.

    Args:
        path: a JSON file with `images`, `annotations` and `categories`.

    Raises:
        GroundTruthError: the file is missing, empty or no JSON; a key is missing; an id is doubled, unknown
            or below 1 (pycocotools takes a match with annotation 0 for no match); a box or area is not finite
            or is negative.
    """
    with _no_garbage_collection():
        return _ground_truth(Path(path))


def _ground_truth(path: Path) -> GroundTruth:
    what = "annotation file"
    document = _parse(path, _read(path, GroundTruthError, what), GroundTruthError, what)
    if not isinstance(document, dict):
        raise GroundTruthError(f"{path}: a COCO annotation file is a JSON object, this is {_kind(document)}.")
    for key in ("images", "annotations", "categories"):
        if not isinstance(document.get(key), list):
            raise GroundTruthError(
                f"{path}: no list '{key}'. Give a COCO annotation file, not a results file."
            )
    images = _columns(document["images"], {"id": "i", "height": "i", "width": "i"}, path, "images")
    _check_file_names(path, document["images"])
    categories = _columns(document["categories"], {"id": "i"}, path, "categories")
    annotations = _columns(
        document["annotations"],
        {"id": "i", "image_id": "i", "category_id": "i", "bbox": "box", "area": "f"},
        path,
        "annotations",
    )
    _check_annotations(path, images["id"], categories["id"], annotations)
    image_order, category_order = np.argsort(images["id"]), np.argsort(categories["id"])
    return GroundTruth(
        path=path,
        image_ids=images["id"][image_order],
        image_sizes=np.stack([images["height"], images["width"]], axis=1)[image_order],
        category_ids=categories["id"][category_order],
        category_names=tuple(str(document["categories"][i].get("name", "")) for i in category_order),
        annotation_id=annotations["id"],
        image_id=annotations["image_id"],
        category_id=annotations["category_id"],
        bbox=annotations["bbox"],
        area=annotations["area"],
        is_crowd=np.array([bool(a.get("iscrowd", 0)) for a in document["annotations"]], dtype=bool),
        document=document,
    )


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
        DetectionsError: naming the file, the entry's index and its image: missing, empty or truncated file,
            missing key, unknown image or category, score outside [0, 1] or not finite, box not finite or of
            negative size, malformed RLE.
        ValueError: an unknown `iou_type`.
    """
    if iou_type not in IOU_TYPES:
        raise ValueError(f"iou_type is {iou_type!r}; choose one of {', '.join(IOU_TYPES)}.")
    path = Path(path)
    with _no_garbage_collection():
        columns, segmentation = _detection_columns(path, iou_type)
    _check_detections(path, ground_truth, columns)
    if segmentation is not None:
        _check_masks(path, ground_truth, columns["image_id"], segmentation)
    return Detections(
        path=path,
        iou_type=iou_type,
        image_id=columns["image_id"],
        category_id=columns["category_id"],
        score=columns["score"],
        bbox=columns.get("bbox"),
        segmentation=segmentation,
    )


@contextlib.contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Keep the collector from looking through half a million new dicts again and again: half of the time."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


class _Entry(msgspec.Struct, gc=False):
    """A detection in a results file, as far as it is read."""

    image_id: int
    category_id: int
    score: float


class _Box(_Entry, gc=False):
    bbox: tuple[float, float, float, float]


class _Rle(TypedDict):
    size: tuple[int, int]
    counts: str


class _Mask(_Entry, gc=False):
    segmentation: _Rle


_ENTRY = {"bbox": _Box, "segm": _Mask}


def _detection_columns(path: Path, iou_type: IouType) -> tuple[dict[str, np.ndarray], list[dict] | None]:
    """Columns and, for "segm", masks. Only a file that has not the form of one is read as plain objects."""
    content = _read(path, DetectionsError, "detections file")
    try:
        entries = msgspec.json.decode(content, type=list[_ENTRY[iou_type]])
        columns = {
            "image_id": _gather(entries, "image_id", np.int64),
            "category_id": _gather(entries, "category_id", np.int64),
            "score": _gather(entries, "score", np.float64),
        }
    except (msgspec.DecodeError, OverflowError):
        return _columns_of_objects(path, content, iou_type)
    if iou_type == "segm":
        return columns, [entry.segmentation for entry in entries]
    numbers = chain.from_iterable(map(attrgetter("bbox"), entries))
    columns["bbox"] = np.fromiter(numbers, np.float64, 4 * len(entries)).reshape(-1, 4)
    return columns, None


def _gather(entries: list[_Entry], key: str, dtype: type) -> np.ndarray:
    return np.fromiter(map(attrgetter(key), entries), dtype, len(entries))


def _columns_of_objects(path: Path, content: bytes, iou_type: IouType):
    """As `_detection_columns`, several times as slow, and whatever does not fit is named."""
    entries = _parse(path, content, DetectionsError, "detections file")
    if not isinstance(entries, list):
        raise DetectionsError(
            f"{path}: a detections file is a JSON list of detections, this is {_kind(entries)}. "
            "Is it an annotation file? Otherwise predict this run again."
        )
    kinds = {"image_id": "i", "category_id": "i", "score": "f"}
    if iou_type == "bbox":
        kinds["bbox"] = "box"
    columns = _columns(entries, kinds, path, None)
    return columns, _column_of_masks(path, entries) if iou_type == "segm" else None


def positions(values: np.ndarray, sorted_ids: np.ndarray) -> np.ndarray:
    """Return the index of each value in `sorted_ids`, -1 where it is not in it; int64, shape of `values`."""
    if len(sorted_ids) == 0:
        return np.full(len(values), -1)
    found = np.minimum(np.searchsorted(sorted_ids, values), len(sorted_ids) - 1)
    return np.where(sorted_ids[found] == values, found, -1)


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a string", type(None): "null"}
    return names.get(type(value), f"a {type(value).__name__}")


def _read(path: Path, error: type[ValueError], what: str) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as problem:
        raise error(f"{path}: cannot read this {what} ({problem.strerror}). Make it first.") from problem
    if not content.strip():
        raise error(f"{path}: this {what} is empty; its writer was interrupted. Delete it and run again.")
    return content


def _parse(path: Path, content: bytes, error: type[ValueError], what: str) -> Any:
    with contextlib.suppress(msgspec.DecodeError):  # twice as fast, but no NaN, which is named further on
        return msgspec.json.decode(content)
    try:
        return json.loads(content)
    except ValueError as problem:
        raise error(
            f"{path}: this {what} is not valid JSON ({problem}); it may be truncated. "
            "Delete it and run again."
        ) from problem


_KIND_NAMES = {"i": "an integer", "f": "a number", "box": "a list of four numbers [x, y, width, height]"}


def _columns(
    entries: list[dict], kinds: dict[str, str], path: Path, section: str | None
) -> dict[str, np.ndarray]:
    """Turn a list of objects into one array per key, or name the first entry that does not fit."""
    try:
        return {key: _column(entries, key, kind) for key, kind in kinds.items()}
    except (KeyError, TypeError, ValueError, OverflowError):
        # Only now is each entry looked at by itself: good files pay nothing for good messages.
        raise _first_misfit(entries, kinds, path, section) from None


def _column(entries: list[dict], key: str, kind: str) -> np.ndarray:
    if not entries:
        return np.zeros((0, 4) if kind == "box" else 0, dtype=np.int64 if kind == "i" else np.float64)
    values = [entry[key] for entry in entries]
    if bool in set(map(type, chain.from_iterable(values) if kind == "box" else values)):
        raise TypeError(key)  # among numbers NumPy takes true for 1
    column = np.array(values)
    allowed = "i" if kind == "i" else "if"
    if column.dtype.kind not in allowed or column.shape[1:] != ((4,) if kind == "box" else ()):
        raise TypeError(key)
    return column.astype(np.int64 if kind == "i" else np.float64, copy=False)


def _first_misfit(entries: list[dict], kinds: dict[str, str], path: Path, section: str | None) -> ValueError:
    error = DetectionsError if section is None else GroundTruthError
    for index, entry in enumerate(entries):
        where = f"{path}: {section or 'detection'}[{index}]"
        if not isinstance(entry, dict):
            return error(f"{where} is {_kind(entry)}, not an object. Make the file anew.")
        if section is None:
            where += f" (image {entry.get('image_id', 'unknown')})"
        for key, kind in kinds.items():
            if key not in entry:
                return error(f"{where} has no '{key}'. Make the file anew.")
            if not _fits(entry[key], kind):
                return error(f"{where}: '{key}' is {entry[key]!r}; it must be {_KIND_NAMES[kind]}.")
    return error(f"{path}: the values of {', '.join(kinds)} do not fit into numbers of 64 bits.")


def _fits(value: Any, kind: str) -> bool:
    if kind == "box":
        return isinstance(value, list) and len(value) == 4 and all(_fits(v, "f") for v in value)
    if isinstance(value, bool):
        return False
    return isinstance(value, int if kind == "i" else (int, float))


def _check_file_names(path: Path, images: list[dict]) -> None:
    for index, image in enumerate(images):
        name = str(image.get("file_name", ""))
        if escapes_root(name):
            raise GroundTruthError(
                f"{path}: images[{index}] (id {image['id']}): 'file_name' {name!r} points out of the folder."
            )


def _check_annotations(
    path: Path, image_ids: np.ndarray, category_ids: np.ndarray, annotations: dict[str, np.ndarray]
) -> None:
    for section, ids in (
        ("images", image_ids),
        ("categories", category_ids),
        ("annotations", annotations["id"]),
    ):
        unique, counts = np.unique(ids, return_counts=True)
        if (counts > 1).any():
            raise GroundTruthError(
                f"{path}: {section} has id {unique[counts > 1][0]} twice; ids must be unique."
            )
    problems = {
        "'id' below 1 (COCO tools take 0 for \"no match\"); number from 1": annotations["id"] < 1,
        "an 'image_id' that is not in images": ~np.isin(annotations["image_id"], image_ids),
        "a 'category_id' that is not in categories": ~np.isin(annotations["category_id"], category_ids),
        "a 'bbox' that is not finite": ~np.isfinite(annotations["bbox"]).all(axis=1),
        "a 'bbox' of negative size": (annotations["bbox"][:, 2:] < 0).any(axis=1),
        "an 'area' that is negative or not finite": ~(annotations["area"] >= 0)
        | np.isinf(annotations["area"]),
    }
    for problem, bad in problems.items():
        if bad.any():
            index = int(np.argmax(bad))
            raise GroundTruthError(
                f"{path}: annotations[{index}] (id {annotations['id'][index]}) has {problem}. "
                "Repair the file."
            )


def _check_detections(path: Path, ground_truth: GroundTruth, columns: dict[str, np.ndarray]) -> None:
    score = columns["score"]
    advice = f"Were they made for another data set than {ground_truth.path}? Predict this run again."
    problems = [
        ("image_id", positions(columns["image_id"], ground_truth.image_ids) < 0, "is no image of", advice),
        (
            "category_id",
            positions(columns["category_id"], ground_truth.category_ids) < 0,
            "is no category of",
            advice,
        ),
        ("score", ~np.isfinite(score), "is not finite in", "The training may have diverged; see its log."),
        (
            "score",
            (score < 0) | (score > 1),
            "is outside [0, 1] in",
            "Scores are probabilities: write them after the sigmoid or softmax.",
        ),
    ]
    if "bbox" in columns:
        bbox = columns["bbox"]
        problems += [
            (
                "bbox",
                ~np.isfinite(bbox).all(axis=1),
                "is not finite in",
                "The training may have diverged; see its log.",
            ),
            (
                "bbox",
                (bbox[:, 2:] < 0).any(axis=1),
                "has a negative size in",
                "Boxes are [x, y, width, height] in pixels of the original image.",
            ),
        ]
    for key, bad, problem, advice in problems:
        if bad.any():
            index = int(np.argmax(bad))
            value = np.asarray(columns[key][index]).tolist()
            data = f"the {len(ground_truth.image_ids)} images and {len(ground_truth.category_ids)} categories"
            scope = f"{data} of the ground truth" if "is no" in problem else "this file"
            raise DetectionsError(
                f"{path}: detection[{index}] (image {columns['image_id'][index]}): {key} {value} {problem} "
                f"{scope} ({int(bad.sum())} such). {advice}"
            )


def _column_of_masks(path: Path, entries: list[dict]) -> list[dict[str, Any]]:
    masks = []
    for index, entry in enumerate(entries):
        mask = entry.get("segmentation")
        well_formed = (
            isinstance(mask, dict)
            and isinstance(mask.get("counts"), str)
            and isinstance(mask.get("size"), list)
            and len(mask["size"]) == 2
        )
        if not well_formed:
            raise DetectionsError(
                f"{path}: detection[{index}] (image {entry['image_id']}): 'segmentation' must be a "
                'compressed RLE {"size": [height, width], "counts": string}; see pycocotools.mask.'
            )
        masks.append(mask)
    return masks


def _check_masks(
    path: Path, ground_truth: GroundTruth, image_id: np.ndarray, masks: list[dict[str, Any]]
) -> None:
    """Refuse what the C decoder of pycocotools would read past its end or turn into a wrong area."""
    if not masks:
        return
    sizes = np.array([mask["size"] for mask in masks])
    expected = ground_truth.image_sizes[positions(image_id, ground_truth.image_ids)]
    wrong = (sizes != expected).any(axis=1)
    if wrong.any():
        index = int(np.argmax(wrong))
        raise DetectionsError(
            f"{path}: detection[{index}] (image {image_id[index]}): the mask is {sizes[index].tolist()} "
            f"pixels, the image {expected[index].tolist()} (height, width). "
            "Masks are of the original image's size."
        )
    good = rle_lengths([mask["counts"] for mask in masks]) == expected.prod(axis=1)
    if not good.all():
        index = int(np.argmin(good))
        raise DetectionsError(
            f"{path}: detection[{index}] (image {image_id[index]}): the RLE does not cover the image's "
            f"{expected[index].prod()} pixels. The file is damaged; predict this run again."
        )
