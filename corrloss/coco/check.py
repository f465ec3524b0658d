"""Check a COCO-format data set before hours of training are spent on it.

`check_coco` reads the annotation file and the images and collects everything that is wrong, in two
groups: *errors*, with which nothing should be trained or evaluated, and *warnings*, peculiarities that
mmdet or pycocotools handle in a known way (published COCO has some too), which are stated and counted.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from corrloss.coco.annotations import Document, check_entries, read_document, where
from corrloss.coco.entries import Annotation, Category, DataSetError, Image, no_garbage_collection
from corrloss.coco.findings import CheckReport
from corrloss.coco.images import decode_images, present_images
from corrloss.coco.published import PUBLISHED, Published


@dataclass(frozen=True)
class Needs:
    """What the detectors that use a data set need of it.

    Attributes:
        classes: names of the classes that they are trained on; None for any categories.
        masks: whether every annotation must have a segmentation (one that is there is always checked).
        training: whether they are trained on it: then an image that mmdet does not train on is counted.
        min_size: shorter side in pixels below which mmdet does not train on an image: `filter_cfg.min_size`.
    """

    classes: Sequence[str] | None = None
    masks: bool = False
    training: bool = False
    min_size: int = 32


def check_coco(
    root: Path,
    annotation_file: str | Path,
    image_folder: str | Path,
    *,
    expected: str | Published | None = None,
    needs: Needs | None = None,
    images: Literal["all", "sample", "none"] = "all",
    sample: int = 500,
    max_examples: int = 5,
) -> CheckReport:
    """Check layout, annotations and images of a data set, and report everything that is wrong at once.

    Args:
        root: folder of the data set.
        annotation_file: COCO JSON, relative to `root`.
        image_folder: folder of the images, relative to `root`.
        expected: published figures to compare with: a key of `PUBLISHED`, or one's own.
        needs: what the detectors need.
        images: "all" decodes every image; "sample" checks that all exist and are not empty, and decodes
            `sample` of them, always the same ones; "none" checks the annotation file alone.
        sample: number of images that "sample" decodes.
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
    needs = needs or Needs()
    report = CheckReport(Path(root) / annotation_file, max_examples=max_examples)
    with no_garbage_collection():
        entries = _check_file(report, expected, needs)
    if images != "none" and entries is not None:
        folder = Path(root) / image_folder
        present = present_images(folder, entries, report)
        if images == "sample":
            present = random.Random(0).sample(present, min(sample, len(present)))
        decode_images(folder, present, report)
    return report


def _check_file(report: CheckReport, expected: Published | None, needs: Needs) -> list[Image] | None:
    """Check the annotation file; the valid images, or None if it cannot be read."""
    try:
        document = read_document(report.source, report.add)
    except DataSetError as problem:
        report.add("file_unreadable", str(problem))
        return None
    images, categories = check_entries(document, report.add)
    report.counts |= {"images": len(document.images), "categories": len(document.categories)}
    _check_annotations(document, images, needs, report)
    if expected is not None:
        _check_published(document, categories, expected, report)
    if not document.annotations and (expected is None or expected.annotations != 0):
        report.add("no_annotations", "`annotations` is empty")
    if needs.classes is not None:
        _check_classes(document, needs.classes, report)
    if needs.training:
        _check_training(document, images, categories, needs, report)
    return list(images.values())


def _check_annotations(
    document: Document, images: dict[int, Image], needs: Needs, report: CheckReport
) -> None:
    """Report the peculiarities of valid annotations, and masks that are missing."""
    crowds, with_objects = 0, set()
    for index, annotation in enumerate(document.annotations):
        image = annotation and images.get(annotation.image_id)
        if not image:
            continue
        crowds += annotation.iscrowd
        with_objects.add(image.id)
        for kind, text in _peculiarities(annotation, image):
            report.add(kind, f"{where(index, annotation, image)}: {text}")
        if needs.masks and not annotation.segmentation:
            report.add("mask_missing", f"{where(index, annotation, image)}: no segmentation")
    report.counts |= {
        "annotations": len(document.annotations),
        "crowds": crowds,
        "images_without_objects": len(images.keys() - with_objects),
    }


def _peculiarities(annotation: Annotation, image: Image) -> list[tuple[str, str]]:
    x, y, width, height = annotation.bbox
    right, bottom = image.width + 1, image.height + 1
    found = []
    is_outside = x >= right or y >= bottom or x + width < 0 or y + height < 0
    if not is_outside and (min(x, y) < -1 or x + width > right or y + height > bottom):
        found.append("box_crosses_border")
    if width < 1 or height < 1:
        found.append("box_degenerate")
    if annotation.area == 0:
        found.append("area_zero")
    if annotation.ignore and not annotation.iscrowd:
        found.append("ignored_in_training_only")
    if isinstance(annotation.segmentation, list) and any(
        min(polygon) < -1 or max(polygon[::2]) > right or max(polygon[1::2]) > bottom
        for polygon in annotation.segmentation
    ):
        found.append("polygon_crosses_border")
    return [
        (kind, f"bbox {list(annotation.bbox)} in {image.width} x {image.height}, area {annotation.area}")
        for kind in found
    ]


def _check_published(
    document: Document, categories: dict[int, Category], expected: Published, report: CheckReport
) -> None:
    for what, count in (("images", expected.images), ("annotations", expected.annotations)):
        found = len(getattr(document, what))
        if count is not None and found != count:
            report.add(
                "count",
                f"{found:,} {what}, published are {count:,};"
                " the file may be of another year or split, or a part of it",
            )
    names = {number: category.name for number, category in categories.items()}
    for number in sorted(expected.categories.keys() | names.keys()):
        found, published = names.get(number), expected.categories.get(number)
        if found != published:
            report.add("count", f"category {number} is {found!r}, published is {published!r}")


def _check_classes(document: Document, classes: Sequence[str], report: CheckReport) -> None:
    """Compare the categories with the classes that a model is trained on.

    mmdet numbers the classes of a model by their order in each file (`CocoDataset.cat_ids`), and leaves out a
    category whose name is not a class, so names and order must be those of the configuration.
    """
    names = [category.name for category in document.categories if category]
    if names == list(classes):
        return
    missing, extra = sorted(set(classes) - set(names)), sorted(set(names) - set(classes))
    differs = (
        f"{missing} have no category, {extra} have no class" if missing or extra else "the order differs"
    )
    report.add(
        "classes",
        f"expected the categories {list(classes)}, found {names}: {differs}. Make `classes` of the file in"
        " experiments/datasets and the categories of both annotation files the same, in the same order",
    )


def _check_training(
    document: Document,
    images: dict[int, Image],
    categories: dict[int, Category],
    needs: Needs,
    report: CheckReport,
) -> None:
    """Count what mmdet's CocoDataset leaves out: images without an annotation or below the minimum size."""
    chosen = {i for i, c in categories.items() if needs.classes is None or c.name in needs.classes}
    annotations = [a for a in document.annotations if a and a.category_id in chosen]
    annotated = {a.image_id for a in annotations}
    kept = set()
    for image in images.values():
        size = f"image {image.id} ({image.file_name!r}), {image.width} x {image.height}"
        if min(image.width, image.height) < needs.min_size:
            report.add("image_not_trained_on", f"{size}: a side below {needs.min_size} pixels")
        elif image.id not in annotated:
            report.add("image_not_trained_on", f"{size}: no annotation")
        else:
            kept.add(image.id)
    if document.annotations and not any(
        a.image_id in kept and _is_trained_on(a, images[a.image_id]) for a in annotations
    ):
        report.add(
            "nothing_to_train",
            f"expected an object in an image of at least {needs.min_size} pixels a side, not a crowd, not"
            " ignored, at least 1 pixel wide and high, and not wholly outside its image; there is none",
        )


def _is_trained_on(annotation: Annotation, image: Image) -> bool:
    x, y, width, height = annotation.bbox
    is_left_out = annotation.iscrowd or annotation.ignore or annotation.area <= 0 or min(width, height) < 1
    is_inside = max(x, 0) < min(x + width, image.width) and max(y, 0) < min(y + height, image.height)
    return is_inside and not is_left_out
