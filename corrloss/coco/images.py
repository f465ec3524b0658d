"""The image files of a data set, read as the training reads them."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image as Pillow
from tqdm import tqdm

from corrloss.coco.findings import CheckReport
from corrloss.coco.schema import Image

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
            report.add("image_missing", f"{_where(folder, image)}: expected an image, found no file")
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


def decode_images(
    folder: Path, images: list[Image], report: CheckReport, workers: int | None, progress: bool
) -> None:
    """Decode images in threads, and report what is wrong with them.

    Args:
        folder: the image folder.
        images: entries of images that exist.
        report: gets the findings.
        workers: number of threads; None for as many as there are cores, and four.
        progress: whether to show a progress bar on standard error.
    """
    # Threads are enough: Pillow and OpenCV decode without the interpreter's lock.
    with _limit_of_opencv(), ThreadPoolExecutor(workers) as pool:
        found = pool.map(lambda image: image_findings(folder / image.file_name, image), images)
        bar = tqdm(found, "images", len(images), disable=not progress, leave=False)
        for image, findings in zip(images, bar, strict=True):
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
            picture.load()
            orientation = picture.getexif().get(_ORIENTATION, 1)
            is_usual = picture.format in ("JPEG", "PNG") and orientation == 1
            stored = size = picture.size
            depth = _range_of_16_bits(picture)
    except Exception as problem:  # Pillow's decoders raise nearly anything on a broken file
        return [("image_unreadable", f"expected an image, {type(problem).__name__}: {problem}")]
    if not is_usual:
        size = _size_in_training(path)
        if size is None:
            return [
                (
                    "image_unreadable",
                    f"OpenCV, which training uses, cannot read {picture.format}: save as PNG",
                )
            ]
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
    return findings + ([("image_16_bit", f"values {depth[0]} to {depth[1]}")] if depth else [])


def _range_of_16_bits(picture: Pillow.Image) -> tuple[int, int] | None:
    if not picture.mode.startswith("I"):
        return None
    pixels = np.asarray(picture)
    return int(pixels.min()), int(pixels.max())


def _size_in_training(path: Path) -> tuple[int, int] | None:
    """Width and height as mmcv's LoadImageFromFile reads them; None if it cannot."""
    import cv2

    try:
        pixels = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:
        return None
    return None if pixels is None else (pixels.shape[1], pixels.shape[0])
