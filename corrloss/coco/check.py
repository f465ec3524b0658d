"""Check a COCO-format data set before hours of training are spent on it.

`check_coco` reads the annotation file and the images and collects everything that is wrong, in two
groups: *errors*, with which nothing should be trained or evaluated, and *warnings*, peculiarities that
mmdet or pycocotools handle in a known way (published COCO has some too), which are stated and counted.
"""

import json
import math
import os
import random
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from PIL import Image
from tqdm import tqdm

from corrloss.coco.findings import CheckReport, DataSetError
from corrloss.coco.masks import rle_lengths
from corrloss.coco.published import PUBLISHED, Published
from corrloss.files import escapes_root

__all__ = ["PUBLISHED", "CheckReport", "DataSetError", "Published", "check_coco"]


def check_coco(
    root: Path,
    annotation_file: str | Path,
    image_folder: str | Path,
    *,
    expected: str | Published | None = None,
    images: Literal["all", "sample", "none"] = "all",
    sample: int = 500,
    masks: bool = False,
    workers: int | None = None,
    progress: bool = False,
    max_examples: int = 5,
) -> CheckReport:
    """Check layout, annotations and images of a data set, and report everything that is wrong at once.

    Args:
        root: folder of the data set.
        annotation_file: COCO JSON, relative to `root`.
        image_folder: folder of the images, relative to `root`.
        expected: published figures to compare with: a key of `PUBLISHED`, or one's own.
        images: "all" decodes every image; "sample" looks that all are there and not empty, and decodes
            `sample` of them, always the same ones; "none" looks at the annotation file alone.
        sample: number of images that "sample" decodes.
        masks: whether every annotation must have a segmentation (one that is there is always checked).
        workers: threads that decode; by default as many as there are cores, and four.
        progress: whether to show progress bars on standard error.
        max_examples: how many findings of each kind are kept word for word; all are counted.

    Raises:
        ValueError: an argument is not one of the choices. A bad data set does not raise: see
            `CheckReport.raise_if_bad`.
    """
    if images not in ("all", "sample", "none"):
        raise ValueError(f"images is {images!r}; choose one of all, sample, none")
    if isinstance(expected, str):
        if expected not in PUBLISHED:
            raise ValueError(f"expected is {expected!r}; choose one of {', '.join(PUBLISHED)}")
        expected = PUBLISHED[expected]
    root = Path(root)
    report = CheckReport(root / annotation_file, max_examples=max_examples)
    document = _read(report.source, report.add)
    if document is None:
        return report
    listed = _check_images(document["images"], report)
    categories = _check_categories(document["categories"], report)
    _check_annotations(document["annotations"], listed, categories, masks, report, progress)
    if expected is not None:
        _check_counts(document, categories, expected, report)
    if not document["annotations"] and (expected is None or expected.annotations != 0):
        report.add("no_annotations", f"{report.source}: `annotations` is empty")
    if images != "none":
        folder = root / image_folder
        present = _check_folder(folder, listed, report)
        if images == "sample":
            present = random.Random(0).sample(present, min(sample, len(present)))
        _decode_all(folder, present, report, workers, progress)
    return report


# The annotation file ----------------------------------------------------------------------------

_Add = Callable[[str, str], None]


def _read(path: Path, add: _Add) -> dict[str, list] | None:
    """The document with its three lists; None, and an error noted, where there is none to check."""
    try:
        document = json.loads(path.read_bytes())
    except OSError as problem:
        return add("file_unreadable", f"{path}: {problem.strerror}")
    except (ValueError, RecursionError) as problem:
        return add("file_broken", f"{path}: not JSON, or cut off: {problem}")
    if not isinstance(document, dict):
        return add("file_broken", f"{path}: a JSON {type(document).__name__}; is it a file of detections?")
    document.setdefault("annotations", [])  # COCO's image_info_test-dev2017.json has none
    missing = [k for k in ("images", "annotations", "categories") if not isinstance(document.get(k), list)]
    if missing:
        return add("file_broken", f"{path}: no list {', '.join(missing)}; is it an instances_*.json?")
    return document


def is_integer(value: Any) -> bool:
    """Whether it is an integer, and not one of JSON's true and false."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    """Whether it is a finite number of a size that fits the arithmetic of boxes."""
    return isinstance(value, int | float) and not isinstance(value, bool) and -1e9 < value < 1e9


def misfits(entry: Any, kinds: dict[str, Callable[[Any], bool]]) -> str:
    """Which keys of an entry are missing or of a wrong kind; empty if none."""
    if not isinstance(entry, dict):
        return f"is a {type(entry).__name__}, not an object"
    return ", ".join(
        f"{key} {'is ' + repr(entry[key])[:40] if key in entry else 'is missing'}"
        for key, fits in kinds.items()
        if key not in entry or not fits(entry[key])
    )


def _is_size(value: Any) -> bool:
    return is_integer(value) and 0 < value < 1e6


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def _check_images(entries: list, report: CheckReport) -> dict[int, dict]:
    """The well-formed images by id."""
    kinds = {"id": is_integer, "file_name": _is_name, "width": _is_size, "height": _is_size}
    listed: dict[int, dict] = {}
    names: dict[str, int] = {}
    for position, entry in enumerate(entries):
        if misfit := misfits(entry, kinds):
            report.add("image_entry", f"images[{position}]: {misfit}")
            continue
        image_id, name = entry["id"], entry["file_name"]
        if image_id in listed:
            report.add("image_doubled", f"images[{position}]: id {image_id} is also that of another image")
        if name in names:
            report.add("image_doubled", f"image {image_id}: {name!r} is also the file of image {names[name]}")
        if escapes_root(name):
            report.add("file_name_unsafe", f"image {image_id}: {name!r}")
            continue
        names[name] = image_id
        listed.setdefault(image_id, entry)
    report.counts["images"] = len(entries)
    return listed


def _check_categories(entries: list, report: CheckReport) -> dict[int, str]:
    """The well-formed categories, id -> name."""
    categories: dict[int, str] = {}
    for position, entry in enumerate(entries):
        if misfit := misfits(entry, {"id": is_integer, "name": _is_name}):
            report.add("category_entry", f"categories[{position}]: {misfit}")
        elif entry["id"] in categories or entry["name"] in categories.values():
            report.add(
                "category_doubled", f"categories[{position}]: id {entry['id']}, name {entry['name']!r}"
            )
        else:
            categories[entry["id"]] = entry["name"]
    report.counts["categories"] = len(entries)
    return categories


def _check_counts(
    document: dict, categories: dict[int, str], expected: Published, report: CheckReport
) -> None:
    for what, count in (("images", expected.images), ("annotations", expected.annotations)):
        if count is not None and len(document[what]) != count:
            report.add(
                "count",
                f"{len(document[what]):,} {what}, published are {count:,};"
                " the file may be of another year or split, or a part of it",
            )
    for number in sorted(expected.categories.keys() | categories.keys()):
        found, published = categories.get(number), expected.categories.get(number)
        if found != published:
            report.add("count", f"category {number} is {found!r}, published is {published!r}")


# Annotations ------------------------------------------------------------------------------------

_ANNOTATION = {
    "id": is_integer,
    "image_id": is_integer,
    "category_id": is_integer,
    "bbox": lambda value: isinstance(value, list),
    "area": lambda value: True,
    "iscrowd": lambda value: True,
}


def _check_annotations(
    entries: list,
    images: dict[int, dict],
    categories: dict[int, str],
    masks: bool,
    report: CheckReport,
    progress: bool,
) -> None:
    seen: set[int] = set()
    crowds, with_objects = 0, set()
    for position, entry in enumerate(tqdm(entries, "annotations", disable=not progress, leave=False)):
        if misfit := misfits(entry, _ANNOTATION):
            report.add("annotation_entry", f"annotations[{position}]: {misfit}")
            continue
        where = f"annotation {entry['id']} of image {entry['image_id']}"
        if entry["id"] in seen or entry["id"] < 1:
            report.add("annotation_id", f"{where}: annotations[{position}]")
        seen.add(entry["id"])
        if entry["category_id"] not in categories:
            report.add("category_unknown", f"{where}: category {entry['category_id']}")
        image = images.get(entry["image_id"])
        if image is None:
            report.add("image_unknown", where)
            continue
        for kind, detail in _findings(entry, image, masks):
            report.add(kind, f"{where} ({image['file_name']}): {detail}")
        crowds += entry["iscrowd"] == 1
        with_objects.add(entry["image_id"])
    report.counts["annotations"] = len(entries)
    report.counts["crowds"] = crowds
    report.counts["images_without_objects"] = len(images.keys() - with_objects)


def _findings(entry: dict, image: dict, masks: bool) -> Iterator[tuple[str, str]]:
    """What is to be said about one annotation of a listed image: (kind, detail)."""
    yield from _box_findings(entry["bbox"], image)
    area = entry["area"]
    if not _is_area(area):
        yield "area_invalid", f"area {area!r}"
    elif area == 0:
        yield "area_zero", "area 0"
    crowd, ignore = entry["iscrowd"], entry.get("ignore", 0)
    if crowd not in (0, 1) or ignore not in (0, 1):
        yield "flag_invalid", f"iscrowd {crowd!r}, ignore {ignore!r}"
    elif ignore and not crowd:
        yield "ignored_in_training_only", "ignore 1, iscrowd 0"
    if entry.get("segmentation") is not None:
        yield from _mask_findings(entry["segmentation"], image)
    elif masks:
        yield "mask_missing", "no segmentation"


def _is_area(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf


def _box_findings(box: list, image: dict) -> Iterator[tuple[str, str]]:
    if len(box) != 4 or not all(map(is_number, box)) or box[2] < 0 or box[3] < 0:
        yield "box_invalid", f"bbox {box!r:.80}"
        return
    x, y, width, height = box
    detail = f"bbox {box} in an image of {image['width']} x {image['height']}"
    if x > image["width"] or y > image["height"] or x + width < 0 or y + height < 0:
        yield "box_outside", detail
        return
    if min(x, y) < -1 or x + width > image["width"] + 1 or y + height > image["height"] + 1:
        yield "box_crosses_border", detail
    if width < 1 or height < 1:
        yield "box_degenerate", detail


def _mask_findings(segmentation: Any, image: dict) -> Iterator[tuple[str, str]]:
    if isinstance(segmentation, dict):
        yield from rle_findings(segmentation, image)
        return
    if not isinstance(segmentation, list) or not segmentation:
        yield "mask_invalid", f"segmentation {segmentation!r:.40}"
        return
    crossing = False
    for polygon in segmentation:
        # pycocotools takes a list of four numbers for a box: it would be a mask, and a wrong one.
        if not isinstance(polygon, list) or len(polygon) < 6 or len(polygon) % 2:
            yield "mask_invalid", f"polygon {polygon!r:.60}: not three points or more as [x, y, x, y, ...]"
            return
        if not all(map(is_number, polygon)):
            yield "mask_invalid", f"polygon {polygon!r:.60}: not all finite numbers"
            return
        x, y = polygon[::2], polygon[1::2]
        crossing |= min(x) < -1 or min(y) < -1 or max(x) > image["width"] + 1 or max(y) > image["height"] + 1
    if crossing:
        yield "polygon_crosses_border", f"in an image of {image['width']} x {image['height']}"


def rle_findings(rle: dict, image: dict) -> Iterator[tuple[str, str]]:
    """What is wrong with an RLE, compressed or not, as a mask of a listed image: (kind, detail)."""
    counts, size = rle.get("counts"), rle.get("size")
    length = _rle_length(counts)
    if length < 0:
        yield "mask_invalid", "RLE whose counts are neither run lengths nor COCO's compressed string"
    elif size != [image["height"], image["width"]]:
        yield "mask_misfit", f"RLE of size {size!r:.40}, image [{image['height']}, {image['width']}]"
    elif length != image["height"] * image["width"]:
        yield "mask_misfit", f"RLE runs sum to {length}, not {image['height']} x {image['width']}"


def _rle_length(counts: Any) -> int:
    """How many pixels the runs cover; -1 where they are malformed."""
    if isinstance(counts, str):
        return int(rle_lengths([counts])[0])
    well_formed = isinstance(counts, list) and all(is_integer(run) and run >= 0 for run in counts)
    return sum(counts) if well_formed else -1


# Images -----------------------------------------------------------------------------------------


def _check_folder(folder: Path, listed: dict[int, dict], report: CheckReport) -> list[dict]:
    """The listed images that are there and not empty, in the order of the annotation file."""
    if not folder.is_dir():
        report.add("folder_missing", f"{folder}: no such folder; it should hold {len(listed):,} images")
        return []
    sizes = dict(_files(folder))
    present = []
    for image in listed.values():
        size = sizes.pop(str(PurePosixPath(image["file_name"])), None)
        if size is None:
            report.add("image_missing", f"{folder / image['file_name']} (image {image['id']})")
        elif size == 0:
            report.add("image_unreadable", f"{folder / image['file_name']} (image {image['id']}): 0 bytes")
        else:
            present.append(image)
    for name in sorted(sizes):
        report.add("image_unlisted", str(folder / name))
    return present


def _files(folder: Path) -> Iterator[tuple[str, int]]:
    """Every file under a folder, by its path within, with its size in bytes: one look at each folder."""
    for parent, _, names in os.walk(folder):
        inside = PurePosixPath(Path(parent).relative_to(folder).as_posix())
        for name in names:
            try:
                yield str(inside / name), os.stat(os.path.join(parent, name)).st_size
            except OSError:  # a link to nowhere
                continue


def _decode_all(
    folder: Path, images: Sequence[dict], report: CheckReport, workers: int | None, progress: bool
) -> None:
    # Threads do: Pillow decodes without the interpreter's lock.
    with ThreadPoolExecutor(workers) as pool:
        found = pool.map(lambda image: _image_findings(folder, image), images)
        for image, findings in zip(
            images, tqdm(found, "images", len(images), disable=not progress, leave=False), strict=True
        ):
            for kind, detail in findings:
                report.add(kind, f"{folder / image['file_name']} (image {image['id']}): {detail}")
    report.counts["images_decoded"] = len(images)


def _image_findings(folder: Path, image: dict) -> list[tuple[str, str]]:
    """What is to be said about one image file: (kind, detail)."""
    try:
        with Image.open(folder / image["file_name"]) as picture:
            picture.load()
            size, orientation = picture.size, picture.getexif().get(0x0112, 1)
    except Exception as problem:  # Pillow's decoders raise nearly anything on a broken file
        return [("image_unreadable", f"{type(problem).__name__}: {problem}")]
    if size != (image["width"], image["height"]):
        return [("image_size", f"{size[0]} x {size[1]}, annotated {image['width']} x {image['height']}")]
    return [("image_rotated", f"orientation {orientation}")] if orientation != 1 else []
