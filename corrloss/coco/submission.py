"""COCO test-dev: its ground truth is secret, so detections are packed for the evaluation server."""

import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from corrloss.coco.check import is_integer, is_number, misfits, rle_findings
from corrloss.coco.findings import DataSetError
from corrloss.coco.published import PUBLISHED
from corrloss.files import atomic_write


def pack_test_dev(
    detections_file: Path,
    image_info_file: Path,
    folder: Path,
    algorithm: str,
    *,
    iou_type: Literal["bbox", "segm"] = "bbox",
    published_images: int | None = PUBLISHED["coco_2017_test_dev"].images,
) -> Path:
    """Check detections on test-dev and pack them as the zip file that the COCO server takes.

    The server wants `detections_test-dev2017_<algorithm>_results.zip` with one file in it, of the same
    name but `.json`: a list of `{image_id, category_id, bbox or segmentation, score}`. Values are
    passed on as they are; keys that the server does not ask for are left out. The same detections give
    the same bytes.

    Args:
        detections_file: JSON list of detections, as COCO tools read it; boxes are x, y, width, height
            in pixels, segmentations compressed RLEs, scores in [0, 1].
        image_info_file: `image_info_test-dev2017.json`, which lists the images and categories.
        folder: where to put the zip file.
        algorithm: letters, digits and hyphens; underscores, which part the server's file names, are
            turned into hyphens.
        iou_type: "bbox" or "segm".
        published_images: number of images that `image_info_file` must have; None asks for none.

    Returns:
        The path of the zip file, which is written whole or not at all.

    Raises:
        ValueError: a malformed name or an unknown `iou_type`.
        DataSetError: naming the file and the first entries that are wrong, and how many there are.
    """
    name = algorithm.replace("_", "-")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9-]*", name):
        raise ValueError(f"algorithm is {algorithm!r}; use letters, digits and hyphens")
    if iou_type not in ("bbox", "segm"):
        raise ValueError(f"iou_type is {iou_type!r}; choose one of bbox, segm")
    images, categories = _image_info(Path(image_info_file), published_images)
    detections = _read_json(Path(detections_file))
    if not isinstance(detections, list) or not detections:
        raise DataSetError(f"{detections_file} is no list of detections, or an empty one")
    _refuse_bad(_problems(detections, images, categories, iou_type), Path(detections_file))
    shape = "bbox" if iou_type == "bbox" else "segmentation"
    keys = ("image_id", "category_id", shape, "score")
    content = json.dumps([{key: found[key] for key in keys} for found in detections], separators=(",", ":"))
    stem = f"detections_test-dev2017_{name}_results"
    target = Path(folder) / f"{stem}.zip"
    # A fixed time, so that packing twice gives the same bytes.
    entry = zipfile.ZipInfo(f"{stem}.json", date_time=(2017, 1, 1, 0, 0, 0))
    entry.external_attr = 0o644 << 16
    with atomic_write(target) as temporary, zipfile.ZipFile(temporary, "w") as packed:
        packed.writestr(entry, content, zipfile.ZIP_DEFLATED)
    return target


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except OSError as problem:
        raise DataSetError(f"{path}: {problem.strerror}") from problem
    except (ValueError, RecursionError) as problem:
        raise DataSetError(f"{path} is not JSON, or cut off: {problem}") from problem


def _image_info(path: Path, published: int | None) -> tuple[dict[int, dict], set[int]]:
    """The images by id, and the category ids."""
    document = _read_json(path)
    try:
        images = {entry["id"]: entry for entry in document["images"]}
        categories = {entry["id"] for entry in document["categories"]}
    except (TypeError, KeyError) as problem:
        raise DataSetError(f"{path} is no image_info_*.json: no {problem}") from problem
    if published is not None and len(images) != published:
        raise DataSetError(
            f"{path} lists {len(images):,} images, test-dev has {published:,}:"
            " use image_info_test-dev2017.json (image_info_test2017.json has more)"
        )
    return images, categories


def _problems(
    detections: list, images: dict[int, dict], categories: set[int], iou_type: str
) -> Iterator[tuple[int, str]]:
    """What is wrong with the detections: (position, detail)."""
    shape = {"bbox": _is_box} if iou_type == "bbox" else {"segmentation": _is_compressed}
    kinds = {"image_id": is_integer, "category_id": is_integer, "score": _is_score} | shape
    for position, found in enumerate(detections):
        if misfit := misfits(found, kinds):
            yield position, misfit
        elif found["image_id"] not in images:
            yield position, f"image {found['image_id']} is not in test-dev"
        elif found["category_id"] not in categories:
            yield position, f"category {found['category_id']} is not one of COCO's"
        elif iou_type == "segm":
            image = images[found["image_id"]]
            for _, detail in rle_findings(found["segmentation"], image):
                yield position, f"image {found['image_id']}: {detail}"


def _is_box(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 4 and all(map(is_number, value)) and min(value[2:]) >= 0


def _is_compressed(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("counts"), str)


def _is_score(value: Any) -> bool:
    return is_number(value) and 0 <= value <= 1


def _refuse_bad(problems: Iterator[tuple[int, str]], path: Path) -> None:
    found = list(problems)
    if found:
        first = "\n".join(f"    detections[{position}]: {detail}" for position, detail in found[:5])
        more = f"\n    ... and {len(found) - 5:,} more" if len(found) > 5 else ""
        raise DataSetError(f"{path}: {len(found):,} detections are wrong:\n{first}{more}")
