"""The image files of a data set, read as the training reads them."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

import cv2
import numpy as np
from PIL import Image as Pillow

from corrloss.coco.entries import Image
from corrloss.coco.findings import CheckReport

_ORIENTATION = 0x0112  # the EXIF tag
_PIXELS = 1 << 30  # OpenCV's limit, which is the one that training meets


def present_images(folder: Path, images: list[Image], report: CheckReport) -> list[Image]:
    """Return the listed images that are in a folder and not empty, in the same order.

    Args:
        folder: the image folder; links to folders in it are followed, as mmdet does.
        images: the entries of the annotation file.
        report: gets missing, empty and unlisted files.
    """
    if not folder.is_dir():
        expected = f"expected a folder with {len(images):,} images"
        report.add("folder_missing", f"{folder}: {expected}, it does not exist")
        return []
    sizes = dict(_files(folder))
    present = []
    for image in images:
        size = sizes.pop(str(PurePosixPath(image.file_name)), None)
        if size is None:
            advice = ": use / between folders" if "\\" in image.file_name else ""
            report.add("image_missing", f"{_where(folder, image)}: expected an image, found no file{advice}")
        elif size == 0:
            report.add("image_unreadable", f"{_where(folder, image)}: expected an image, found 0 bytes")
        else:
            present.append(image)
    for name in sorted(sizes):
        report.add("image_unlisted", repr(str(folder / name)))
    return present


def _files(folder: Path) -> Iterator[tuple[str, int]]:
    """Every file under a folder, by its path within, with its size in bytes."""
    visited = set()
    for parent, folders, names in os.walk(folder, followlinks=True):
        if os.path.realpath(parent) in visited:  # a link to a folder above
            folders.clear()
            continue
        visited.add(os.path.realpath(parent))
        inside = PurePosixPath(Path(parent).relative_to(folder).as_posix())
        for name in names:
            try:
                yield str(inside / name), os.stat(os.path.join(parent, name)).st_size
            except OSError:  # a link to a file that does not exist
                continue


def decode_images(folder: Path, images: list[Image], report: CheckReport) -> None:
    """Decode images in threads, and report what is wrong with them.

    Args:
        folder: the image folder.
        images: entries of images that exist.
        report: gets the findings.
    """
    # Threads are enough: Pillow and OpenCV decode without the interpreter's lock.
    with _limit_of_opencv(), ThreadPoolExecutor() as pool:
        found = pool.map(lambda image: image_findings(folder / image.file_name, image), images)
        for image, findings in zip(images, found, strict=True):
            for kind, detail in findings:
                report.add(kind, f"{_where(folder, image)}: {detail}")
    report.counts["images_decoded"] = len(images)


@contextmanager
def _limit_of_opencv() -> Iterator[None]:
    """Let Pillow read images as large as OpenCV reads; its own limit is lower."""
    before, Pillow.MAX_IMAGE_PIXELS = Pillow.MAX_IMAGE_PIXELS, _PIXELS
    try:
        yield
    finally:
        Pillow.MAX_IMAGE_PIXELS = before


def _where(folder: Path, image: Image) -> str:
    return f"{str(folder / image.file_name)!r} (image {image.id})"


def image_findings(path: Path, image: Image) -> list[tuple[str, str]]:
    """Return what is wrong with one image file, as (kind, text).

    Pillow decodes it, since it notices files that are cut short. mmcv decodes with OpenCV, which reads fewer
    formats and turns an image by its EXIF orientation: whatever may differ is decoded by OpenCV, too.

    Args:
        path: the file.
        image: its entry.
    """
    try:
        with Pillow.open(path) as picture:
            is_deep = any(";16" in str(tile) for tile in picture.tile)  # of the file: RGB is read as 8 bits
            picture.load()
            orientation = picture.getexif().get(_ORIENTATION, 1)
            stored = size = picture.size
            is_usual = picture.format in ("JPEG", "PNG") and orientation == 1
            is_usual = is_usual and size[0] * size[1] <= _PIXELS
    except Exception as problem:  # Pillow's decoders raise nearly anything on a broken file
        return [("image_unreadable", f"expected an image, {type(problem).__name__}: {problem}")]
    if not is_usual:
        pixels = _decode(path)
        if pixels is None:
            found = f"expected what OpenCV reads, which training uses, found {picture.format}: save as PNG"
            return [("image_unreadable", found)]
        size = pixels.shape[1::-1]
    if size != (image.width, image.height):
        found = f"expected {image.width} x {image.height} as annotated, found {size[0]} x {size[1]}"
        if size != stored:
            found += (
                f" after its EXIF orientation {orientation}, which training applies (stored: {stored[0]} x"
                f" {stored[1]}): if the boxes are of the stored pixels, remove the tag (`exiftool"
                " -Orientation= FILE`), else give the turned size"
            )
        return [("image_size", found)]
    findings = [("image_rotated", f"orientation {orientation}")] if orientation != 1 else []
    if is_deep and (pixels := _decode(path, cv2.IMREAD_UNCHANGED)) is not None:
        findings.append(("image_16_bit", f"values {pixels.min()} to {pixels.max()}"))
    return findings


def _decode(path: Path, flag: int = cv2.IMREAD_COLOR) -> np.ndarray | None:
    """Pixels as mmcv's LoadImageFromFile reads them; None if it cannot."""
    try:
        return cv2.imdecode(np.fromfile(path, np.uint8), flag)
    except cv2.error:
        return None
