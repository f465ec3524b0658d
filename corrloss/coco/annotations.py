"""COCO annotation files: every entry checked, and the annotations as columns."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from operator import attrgetter
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec
import numpy as np

from corrloss.coco.entries import (
    Annotation,
    Category,
    DataSetError,
    Image,
    entry_faults,
    no_garbage_collection,
    parse_json,
    read_utf8,
    rle_fault,
    shown,
)
from corrloss.files import escapes_root

#: Takes a kind of fault (a key of `corrloss.coco.check.ERRORS`) and a text that names the entry.
AddFault = Callable[[str, str], None]


class _File(msgspec.Struct):
    images: list[Image]
    categories: list[Category]
    annotations: list[Annotation] = []  # COCO's image_info_test-dev2017.json has none


@dataclass(frozen=True)
class Document:
    """A parsed annotation file; an entry that is not valid is None, so that indices are those of the file."""

    images: list[Image | None]
    categories: list[Category | None]
    annotations: list[Annotation | None]


@dataclass(frozen=True)
class GroundTruth:
    """A COCO annotation file as columns; n annotations in file order.

    Attributes:
        path: the annotation file.
        image_ids: int64 (n_images,), ascending.
        image_sizes: int64 (n_images, 2), height and width in pixels, in the order of `image_ids`.
        file_names: file names of the images in the order of `image_ids`.
        category_ids: int64 (n_categories,), ascending.
        category_names: names in the order of `category_ids`.
        annotation_id: int64 (n,), unique.
        image_id: int64 (n,).
        category_id: int64 (n,).
        bbox: float64 (n, 4), x, y, width, height in pixels.
        area: float64 (n,), square pixels, as the file states it (of the mask, if there is one).
        is_crowd: bool (n,).
        segmentation: n polygons or RLEs, None or [] for an annotation without a mask.
    """

    path: Path
    image_ids: np.ndarray
    image_sizes: np.ndarray
    file_names: tuple[str, ...]
    category_ids: np.ndarray
    category_names: tuple[str, ...]
    annotation_id: np.ndarray
    image_id: np.ndarray
    category_id: np.ndarray
    bbox: np.ndarray
    area: np.ndarray
    is_crowd: np.ndarray
    segmentation: list[Any] = field(repr=False)

    def __len__(self) -> int:
        """Return the number of annotations, crowds included."""
        return len(self.annotation_id)

    def document(self) -> dict[str, list[dict[str, Any]]]:
        """Return a new COCO document for pycocotools and hotcoco, which the tools may change.

        It has the keys that evaluation needs, and no others. Ids are replaced by positions: hotcoco takes
        results as float64, which holds integers up to 2^53 only, and pycocotools takes annotation 0 for "no
        match". Image k is `image_ids[k]`, category k is `category_ids[k]`, annotation k + 1 is entry k.
        """
        images = [
            {"id": k, "file_name": name, "height": height, "width": width}
            for k, (name, (height, width)) in enumerate(
                zip(self.file_names, self.image_sizes.tolist(), strict=True)
            )
        ]
        categories = [{"id": k, "name": name} for k, name in enumerate(self.category_names)]
        columns = zip(
            positions(self.image_id, self.image_ids).tolist(),
            positions(self.category_id, self.category_ids).tolist(),
            self.bbox.tolist(),
            self.area.tolist(),
            self.is_crowd.tolist(),
            self.segmentation,
            strict=True,
        )
        annotations = []
        for k, (image, category, bbox, area, crowd, segmentation) in enumerate(columns):
            entry = {"id": k + 1, "image_id": image, "category_id": category, "bbox": bbox, "area": area}
            entry |= {"iscrowd": int(crowd)} | ({"segmentation": segmentation} if segmentation else {})
            annotations.append(entry)
        return {"images": images, "categories": categories, "annotations": annotations}

    @cached_property
    def in_hotcoco(self) -> Any:
        """`document` as a `hotcoco.COCO`, made once."""
        import hotcoco

        return hotcoco.COCO(self.document())


def load_ground_truth(path: str | os.PathLike) -> GroundTruth:
    """Read and check a COCO annotation file.

    Args:
        path: a JSON file with `images`, `annotations` and `categories`.

    Raises:
        DataSetError: the file is missing, is not JSON, or an entry is not valid; the message names the first
            five entries, and counts all.
    """
    path = Path(path)
    faults: list[str] = []
    with no_garbage_collection():
        document = read_document(path, lambda kind, text: faults.append(text))
        images, categories = check_entries(document, lambda kind, text: faults.append(text))
    if faults:
        raise DataSetError(
            listed(path, faults, "Repair the file; `corrloss check-data` checks its images, too.")
        )
    return _columns(path, sorted(images.items()), sorted(categories.items()), document.annotations)


def listed(path: Path, faults: list[str], advice: str) -> str:
    """Return a message with the first five faults of a file, how many there are, and what to do."""
    shown_faults = [f"{path}: {fault}" for fault in faults[:5]]
    if len(faults) > 5:
        shown_faults.append(f"... and {len(faults) - 5:,} more")
    return "\n".join([*shown_faults, advice])


def _columns(
    path: Path,
    images: list[tuple[int, Image]],
    categories: list[tuple[int, Category]],
    annotations: list[Annotation],
) -> GroundTruth:
    def column(key: str, dtype: type) -> np.ndarray:
        return np.fromiter(map(attrgetter(key), annotations), dtype, len(annotations))

    return GroundTruth(
        path=path,
        image_ids=np.array([i for i, _ in images], dtype=np.int64),
        image_sizes=np.array([(i.height, i.width) for _, i in images], dtype=np.int64).reshape(-1, 2),
        file_names=tuple(image.file_name for _, image in images),
        category_ids=np.array([i for i, _ in categories], dtype=np.int64),
        category_names=tuple(category.name for _, category in categories),
        annotation_id=column("id", np.int64),
        image_id=column("image_id", np.int64),
        category_id=column("category_id", np.int64),
        bbox=np.array([a.bbox for a in annotations], dtype=np.float64).reshape(-1, 4),
        area=column("area", np.float64),
        is_crowd=column("iscrowd", bool),
        segmentation=[a.segmentation for a in annotations],
    )


def positions(ids: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Return where each id is in `known`, which must be sorted; -1 for an unknown one.

    Examples:
        >>> positions(np.array([7, 3, 5]), np.array([3, 7]))
        array([ 1,  0, -1])
    """
    if len(known) == 0:
        return np.full(len(ids), -1)
    found = np.minimum(np.searchsorted(known, ids), len(known) - 1)
    return np.where(known[found] == ids, found, -1)


# Reading and checking the entries ---------------------------------------------------------------


def read_document(path: Path, add: AddFault) -> Document:
    """Parse an annotation file and check each entry by itself.

    Args:
        path: the file.
        add: takes each fault of an entry.

    Raises:
        DataSetError: the file cannot be read, or is not an annotation file.
    """
    content = read_utf8(path, DataSetError)
    try:
        valid = msgspec.json.decode(content, type=_File)
        return Document(valid.images, valid.categories, valid.annotations)
    except (msgspec.DecodeError, RecursionError):
        plain = parse_json(path, content, DataSetError)  # to name every entry that is not valid
    if not isinstance(plain, dict):
        raise DataSetError(
            f"{path}: expected a COCO annotation file, which is a JSON object, found {shown(plain)}. "
            "Is it a file of detections?"
        )
    plain.setdefault("annotations", [])
    for key in _KIND_OF_SECTION:
        if not isinstance(plain.get(key), list):
            raise DataSetError(
                f"{path}: expected a COCO annotation file with images, annotations and categories, found "
                f"no list '{key}'. Is it an instances_*.json?"
            )
    return Document(
        images=_valid(plain, "images", Image, add),
        categories=_valid(plain, "categories", Category, add),
        annotations=_valid(plain, "annotations", Annotation, add),
    )


_KIND_OF_KEY = {
    "bbox": "box_invalid",
    "area": "area_invalid",
    "iscrowd": "flag_invalid",
    "ignore": "flag_invalid",
    "segmentation": "mask_invalid",
}
_KIND_OF_SECTION = {
    "images": "image_entry",
    "categories": "category_entry",
    "annotations": "annotation_entry",
}


def _valid(plain: dict[str, list], section: str, kind: type, add: AddFault) -> list:
    """The entries of one section as structs, None in the place of each that is not valid."""
    entries = []
    for index, entry in enumerate(plain[section]):
        faults = list(entry_faults(entry, kind))
        where = f"{section}[{index}]"
        if isinstance(entry, dict):
            ids = [f"{name} {shown(entry[key])}" for key, name in _IDS.items() if key in entry]
            where += f" ({', '.join(ids)})" if ids else ""
        for key, text in faults:
            is_missing = not isinstance(entry, dict) or key not in entry
            by_key = {} if is_missing else _KIND_OF_KEY
            add(by_key.get(key, _KIND_OF_SECTION[section]), f"{where}: {text}")
        entries.append(None if faults else msgspec.convert(entry, kind))
    return entries


_IDS = {"id": "id", "image_id": "image"}


def check_entries(document: Document, add: AddFault) -> tuple[dict[int, Image], dict[int, Category]]:
    """Check what the entries of a file say of one another: ids, references, boxes and masks in their images.

    Args:
        document: what `read_document` gave.
        add: takes each fault.

    Returns:
        The valid images and categories by id.
    """
    images = _images_by_id(document.images, add)
    categories = _categories_by_id(document.categories, add)
    ids: set[int] = set()
    for index, annotation in enumerate(document.annotations):
        if annotation is None:
            continue
        image = images.get(annotation.image_id)
        faults = list(_annotation_faults(annotation, image, categories, ids))
        ids.add(annotation.id)
        for kind, text in faults:
            add(kind, f"{where(index, annotation, image)}: {text}")
    return images, categories


def where(index: int, annotation: Annotation, image: Image | None) -> str:
    """Return how a message names an annotation: index, id, image and the image's file."""
    file = f", {shown(image.file_name)}" if image else ""
    return f"annotations[{index}] (id {annotation.id}, image {annotation.image_id}{file})"


def _images_by_id(entries: list[Image | None], add: AddFault) -> dict[int, Image]:
    images: dict[int, Image] = {}
    names: dict[str, int] = {}
    for index, image in enumerate(entries):
        if image is None:
            continue
        at, name = f"images[{index}] (id {image.id})", shown(image.file_name)
        path = str(PurePosixPath(image.file_name))  # "./a.png" is the file "a.png"
        if image.id in images:
            add("image_doubled", f"{at}: expected unique ids, found this id twice")
        if path in names:
            add(
                "image_doubled",
                f"{at}: expected one entry a file, {name} is also the file of image {names[path]}",
            )
        if escapes_root(image.file_name):
            expected = "expected a path in the image folder, without '..' and drive letter"
            add("file_name_unsafe", f"{at}: {expected}; {name} points out of it")
            continue
        names[path] = image.id
        images.setdefault(image.id, image)
    return images


def _categories_by_id(entries: list[Category | None], add: AddFault) -> dict[int, Category]:
    categories: dict[int, Category] = {}
    names: set[str] = set()
    for index, category in enumerate(entries):
        if category is None:
            continue
        if category.id in categories or category.name in names:
            found = f"id {category.id}, name {shown(category.name)}"
            add("category_doubled", f"categories[{index}]: expected unique ids and names, {found} is twice")
            continue
        names.add(category.name)
        categories[category.id] = category
    return categories


def _annotation_faults(
    annotation: Annotation, image: Image | None, categories: dict[int, Category], ids: set[int]
) -> Iterator[tuple[str, str]]:
    if annotation.id in ids:
        yield "annotation_id", "expected unique ids, found this id twice"
    if annotation.category_id not in categories:
        yield "category_unknown", f"'category_id' {annotation.category_id} is not in categories"
    if image is None:
        yield "image_unknown", f"'image_id' {annotation.image_id} is not in images"
        return
    x, y, width, height = annotation.bbox
    if x > image.width or y > image.height or x + width < 0 or y + height < 0:
        box = list(annotation.bbox)
        yield (
            "box_outside",
            f"expected a box inside the image of {image.width} x {image.height}, found {box}",
        )
    segmentation = annotation.segmentation
    if isinstance(segmentation, dict):
        if fault := rle_fault(segmentation, image.height, image.width):
            yield ("mask_invalid" if "decoded" in fault else "mask_misfit"), fault
    elif any(len(polygon) % 2 for polygon in segmentation or ()):
        yield "mask_invalid", "expected polygons [x, y, x, y, ...], found an odd number of coordinates"
