"""A sample of a COCO data set that keeps the shares of classes and sizes, overall and within classes.

The rule: images are ordered by a hash of the seed and their id, and the first ones are taken, which is a
simple random sample; then images are exchanged, one at a time, as long as that brings the number of objects
of each kind (class and size) closer to its share of the full set. All decisions are made in integers, so the
sample is the same on every machine, and in whatever order the file lists its images.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from operator import attrgetter
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from corrloss.coco import DataSetError
from corrloss.coco.annotations import positions
from corrloss.coco.entries import no_garbage_collection, read_utf8
from corrloss.coco.published import PUBLISHED
from corrloss.files import atomic_write

SIZES = ("small", "medium", "large")
"""Objects by area, as COCO's evaluation divides them: below 32², below 96², and larger, in square pixels."""
_AREAS = (32**2, 96**2)
_EXCHANGES = 10  # percent of the sample's images that may be exchanged: the rest stays a simple random sample
_UNIT = 1 << 40  # fixed-point arithmetic


class _Id(msgspec.Struct, gc=False):
    id: int


class _Object(msgspec.Struct, gc=False):
    """What counts of an annotation; its segmentation, most of the file, is never parsed."""

    image_id: int
    category_id: int
    area: float
    iscrowd: int = 0


class _Category(msgspec.Struct, gc=False):
    id: int
    name: str


class _File(msgspec.Struct):
    images: list[msgspec.Raw]
    annotations: list[msgspec.Raw]
    categories: msgspec.Raw
    licenses: msgspec.Raw = msgspec.Raw(b"[]")
    info: msgspec.Raw = msgspec.Raw(b"{}")


@dataclass(frozen=True)
class Objects:
    """What is in the images of an annotation file; n images, m annotations.

    Attributes:
        image_ids: int64 (n,), in the order of the file.
        image: int64 (m,), position of each annotation's image in `image_ids`.
        kind: int64 (m,), class and size of each annotation: `len(SIZES)` times the position of its class,
            plus that of its size; one more kind is that of crowds.
        classes: names of the classes, in the order of the file.
    """

    image_ids: np.ndarray
    image: np.ndarray
    kind: np.ndarray
    classes: tuple[str, ...]

    @cached_property
    def counts(self) -> np.ndarray:
        """int64 (classes, sizes): objects of each class and size, without crowds."""
        kinds = len(self.classes) * len(SIZES)
        return np.bincount(self.kind, minlength=kinds + 1)[:kinds].reshape(-1, len(SIZES))

    @property
    def crowds(self) -> int:
        """Number of annotations of groups."""
        return int((self.kind == len(self.classes) * len(SIZES)).sum())

    def of(self, chosen: np.ndarray) -> "Objects":
        """The objects of some images; `chosen` is bool (n,)."""
        place, is_in = np.cumsum(chosen) - 1, chosen[self.image]
        return Objects(self.image_ids[chosen], place[self.image[is_in]], self.kind[is_in], self.classes)

    @property
    def images_without_objects(self) -> int:
        """Number of images without an annotation."""
        return len(self.image_ids) - len(np.unique(self.image))


def write_sample(
    source: Path, output: Path, *, images: int, seed: int = 0, expected: str | None = None
) -> None:
    """Write the annotation file of a sample.

    Entries of images and annotations are those of the source, unchanged and in its order. `info` says what
    the sample is of, and has a digest by which `check_sample` recognises it.

    Args:
        source: annotation file of the full set.
        output: annotation file to write, atomically.
        images: number of images, at least 1 and less than the source has.
        seed: any integer from 0 on; another seed gives another sample.
        expected: published figures to compare the source with, a key of `corrloss.coco.published.PUBLISHED`.

    Raises:
        DataSetError: the source is missing, broken, not the published file, or has too few images.
    """
    with no_garbage_collection():
        content = read_utf8(Path(source), DataSetError)
        file = _parse(Path(source), content, _File)
        objects = _objects(Path(source), file)
        _refuse_other(Path(source), objects, len(file.annotations), images, expected)
        chosen = choose_images(objects, images, seed)
        body = {
            "images": [entry for entry, taken in zip(file.images, chosen, strict=True) if taken],
            "annotations": [file.annotations[k] for k in np.flatnonzero(chosen[objects.image])],
            "categories": file.categories,
        }
        info = {
            "description": f"{images} images of {Path(source).name}, chosen by corrloss.data.sample",
            "images": images,
            "seed": seed,
            "source": file.info,
            "source_sha256": hashlib.sha256(content).hexdigest(),
            "content_sha256": _digest(*(msgspec.json.encode(part) for part in body.values())),
        }
        document = {"info": info, "licenses": file.licenses, **body}
        with atomic_write(Path(output)) as temporary:
            temporary.write_bytes(msgspec.json.encode(document))


class _Info(msgspec.Struct):
    content_sha256: str = ""
    images: int = 0
    seed: int = -1


class _Sample(msgspec.Struct):
    images: msgspec.Raw
    annotations: msgspec.Raw
    categories: msgspec.Raw
    info: _Info


def check_sample(path: Path, *, images: int, seed: int = 0) -> None:
    """Refuse a sample that `write_sample` did not write with these arguments, or that was changed since.

    Raises:
        DataSetError: it is missing, broken, of other arguments, or was edited.
    """
    path = Path(path)
    file = _parse(path, read_utf8(path, DataSetError), _Sample)
    advice = (
        "Delete the file and call snakemake again: the sample is made anew from the full annotation file."
    )
    if (file.info.images, file.info.seed) != (images, seed):
        found = f"{file.info.images:,} images with seed {file.info.seed}"
        raise DataSetError(
            f"{path}: expected a sample of {images:,} images with seed {seed}, found one of {found}. {advice}"
        )
    found = _digest(file.images, file.annotations, file.categories)
    if found != file.info.content_sha256:
        raise DataSetError(
            f"{path}: expected the entries that the rule chose, of SHA-256 {file.info.content_sha256[:12]}…,"
            f" found {found[:12]}…: the file was edited. {advice} A selection of your own is another data"
            " set: describe it in a file of experiments/datasets."
        )


def read_objects(path: Path) -> Objects:
    """Read what is in the images of an annotation file, without its masks.

    Raises:
        DataSetError: it is missing or broken.
    """
    with no_garbage_collection():
        return _objects(Path(path), _parse(Path(path), read_utf8(Path(path), DataSetError), _File))


def choose_images(objects: Objects, images: int, seed: int, *, exchange: bool = True) -> np.ndarray:
    """Choose a sample, as the module describes.

    The exchanges reduce the sum over kinds of (objects in the sample - expected)² / objects in the full set.
    Crowds and images without objects are kinds, too. Each exchange takes in the image whose addition reduces
    the sum most, then leaves out the one whose removal does; they end where the two are the same image.

    Args:
        objects: what is in the images of the full set.
        images: number of images to choose.
        seed: any integer.
        exchange: False for the simple random sample that the exchanges start from.

    Returns:
        bool (n,), whether each image is in the sample, in the order of `objects.image_ids`.
    """
    total = len(objects.image_ids)
    order = _shuffled(objects.image_ids, seed)
    start, kind, count = _contents(objects, order)
    chosen = np.arange(total) < images
    is_in = np.arange(len(kind)) < start[images]
    all_objects, now = (np.bincount(kind, weights=weights) for weights in (count, count * is_in))
    excess = (total * now - images * all_objects).astype(np.int64)  # over the expected number, times `total`
    all_objects = np.maximum(all_objects, 1)
    own = _sums(count**2 * _fixed(1 / all_objects)[kind], start)

    def change() -> np.ndarray:
        """What adding each image changes, to first order."""
        return _sums(count * _fixed(2 * (excess / total) / all_objects)[kind], start)

    def move(k: int) -> None:
        """Take image k into the sample, or out of it."""
        part = slice(start[k], start[k + 1])
        excess[kind[part]] += (-total if chosen[k] else total) * count[part]
        chosen[k] = not chosen[k]

    for _ in range(images * _EXCHANGES // 100 if exchange else 0):
        move(added := _least(change() + own, ~chosen))
        move(removed := _least(own - change(), chosen))
        if removed == added:
            break
    result = np.zeros(total, bool)
    result[order] = chosen
    return result


def statistics(full: Objects, samples: dict[str, Objects]) -> str:
    """How close samples are to the full set: two tables in Markdown.

    Args:
        full: the full set.
        samples: each sample by its heading. The second table, of single classes, is of the first one.
    """
    sets = {"full set": full} | samples
    rows: list[tuple[str, Callable[[Objects], str]]] = [
        ("images", lambda one: f"{len(one.image_ids):,}"),
        ("objects", lambda one: f"{one.counts.sum():,}"),
        ("objects in an image", lambda one: f"{one.counts.sum() / len(one.image_ids):.3f}"),
        ("images without objects, %", lambda one: f"{_percent(one.images_without_objects, one):.2f}"),
        ("crowds, % of the number of images", lambda one: f"{_percent(one.crowds, one):.2f}"),
    ]
    for k, size in enumerate(SIZES):
        rows.append((f"{size} objects, %", lambda one, k=k: f"{100 * _shares(one).sum(0)[k]:.2f}"))
    rows += [
        ("classes: total variation distance, %", lambda one: f"{_distance(one, full, axis=1):.3f}"),
        ("classes and sizes: total variation distance, %", lambda one: f"{_distance(one, full):.3f}"),
    ]
    lines = [f"| | {' | '.join(sets)} |", f"| --- |{' --- |' * len(sets)}"]
    lines += [f"| {name} | {' | '.join(map(value, sets.values()))} |" for name, value in rows]
    return "\n".join([*lines, "", *_of_classes(full, next(iter(samples.values())))])


def _of_classes(full: Objects, sample: Objects) -> list[str]:
    headings = " | ".join(f"{size}, % (full)" for size in SIZES)
    lines = [
        f"| class | objects | in the sample | expected | {headings} |",
        f"| --- | --- | --- | --- |{' --- |' * len(SIZES)}",
    ]
    share = len(sample.image_ids) / len(full.image_ids)
    for name, all_sizes, sizes in zip(full.classes, full.counts, sample.counts, strict=True):
        within = (100 * one / max(one.sum(), 1) for one in (sizes, all_sizes))
        cells = " | ".join(f"{own:.1f} ({its:.1f})" for own, its in zip(*within, strict=True))
        numbers = f"{all_sizes.sum():,} | {sizes.sum():,} | {share * all_sizes.sum():,.1f}"
        lines.append(f"| {name} | {numbers} | {cells} |")
    return lines


def _percent(number: int, objects: Objects) -> float:
    return 100 * number / len(objects.image_ids)


def _shares(objects: Objects) -> np.ndarray:
    return objects.counts / max(objects.counts.sum(), 1)


def _distance(one: Objects, other: Objects, axis: int | None = None) -> float:
    """Half the sum of the differences of shares, in percent: the share of objects of another kind."""
    difference = _shares(one) - _shares(other)
    return 50 * float(np.abs(difference if axis is None else difference.sum(axis)).sum())


def _least(values: np.ndarray, allowed: np.ndarray) -> int:
    return int(np.argmin(np.where(allowed, values, np.iinfo(np.int64).max)))


def _fixed(values: np.ndarray) -> np.ndarray:
    return np.rint(values * _UNIT).astype(np.int64)


def _sums(values: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Sum of each image's values; exact, whatever the order of the additions."""
    running = np.concatenate([[0], np.cumsum(values)])
    return running[start[1:]] - running[start[:-1]]


def _shuffled(image_ids: np.ndarray, seed: int) -> np.ndarray:
    """Positions of the images in the order of a hash of the seed and the id."""
    keys = [hashlib.sha256(f"{seed} {number}".encode()).digest() for number in image_ids.tolist()]
    return np.array(sorted(range(len(keys)), key=keys.__getitem__), dtype=np.int64)


def _contents(objects: Objects, order: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The kinds of each image and their counts, image after image.

    Returns:
        `start` (n + 1,), where each image's part begins, `kind` and `count`; int64. An image without an
        annotation has one object of a kind of its own.
    """
    total, kinds = len(order), len(objects.classes) * len(SIZES) + 2
    position = np.empty(total, np.int64)
    position[order] = np.arange(total)
    empty = np.setdiff1d(np.arange(total), position[objects.image])
    keys = np.concatenate([position[objects.image] * kinds + objects.kind, empty * kinds + kinds - 1])
    keys, count = np.unique(keys, return_counts=True)
    start = np.searchsorted(keys, np.arange(total + 1) * kinds)
    return start, keys % kinds, count.astype(np.int64)


def _parse(path: Path, content: bytes, kind: type) -> Any:
    try:
        return msgspec.json.decode(content, type=kind)
    except (msgspec.DecodeError, RecursionError) as problem:
        raise DataSetError(
            f"{path}: expected a COCO annotation file with images, annotations and categories, found another"
            f" file or a truncated one ({problem}). Download or make it again."
        ) from problem


def _objects(path: Path, file: _File) -> Objects:
    try:
        images = [entry.id for entry in map(msgspec.json.Decoder(_Id).decode, file.images)]
        found = list(map(msgspec.json.Decoder(_Object).decode, file.annotations))
        categories = msgspec.json.decode(file.categories, type=list[_Category])
    except msgspec.DecodeError as problem:
        raise DataSetError(
            f"{path}: an entry is not valid ({problem}). `corrloss.coco.check.check_coco` names each."
        ) from problem
    image_ids = np.array(images, np.int64)
    category_ids = np.array([category.id for category in categories], np.int64)

    def column(key: str, dtype: type) -> np.ndarray:
        return np.fromiter(map(attrgetter(key), found), dtype, len(found))

    image = _positions(path, "image_id", column("image_id", np.int64), image_ids)
    category = _positions(path, "category_id", column("category_id", np.int64), category_ids)
    size = np.searchsorted(_AREAS, column("area", np.float64), side="right")
    crowd = len(categories) * len(SIZES)
    kind = np.where(column("iscrowd", bool), crowd, category * len(SIZES) + size)
    return Objects(image_ids, image, kind, tuple(category.name for category in categories))


def _positions(path: Path, key: str, ids: np.ndarray, known: np.ndarray) -> np.ndarray:
    order = np.argsort(known, kind="stable")
    found = positions(ids, known[order])
    if (found < 0).any():
        first = int(np.argmin(found))
        raise DataSetError(
            f"{path}: annotations[{first}]: '{key}' {ids[first]} is not in the file;"
            f" {(found < 0).sum():,} annotations have such a key. Download or make the file again."
        )
    return order[found]


def _refuse_other(path: Path, objects: Objects, annotations: int, images: int, expected: str | None) -> None:
    found = len(objects.image_ids)
    if expected is not None:
        published = PUBLISHED[expected]
        names = list(published.categories.values())
        if (found, annotations, list(objects.classes)) != (published.images, published.annotations, names):
            raise DataSetError(
                f"{path}: expected {published.images:,} images, {published.annotations:,} annotations and"
                f" {len(names)} categories, as published ({expected}), found {found:,}, {annotations:,} and"
                f" {len(objects.classes)}: the file is of another year or split, or a part of one. Put the"
                " published file there."
            )
    if not 0 < images < found:
        raise DataSetError(
            f"{path}: expected more images than the sample of {images:,} has, found {found:,}; lower `images`"
            " of the sample in experiments/datasets."
        )


def _digest(*parts: bytes) -> str:
    return hashlib.sha256(b"\n".join(bytes(part) for part in parts)).hexdigest()
