"""COCO test-dev: its ground truth is not published, so detections are packed for the evaluation server."""

import json
import re
import zipfile
from pathlib import Path
from typing import Literal

from corrloss.coco.annotations import load_ground_truth
from corrloss.coco.detections import load_detections
from corrloss.coco.entries import DataSetError, DetectionsError
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

    The server expects `detections_test-dev2017_<algorithm>_results.zip` with one file in it, of the same
    name but `.json`: a list of `{image_id, category_id, bbox or segmentation, score}`. Values are
    passed on as they are; other keys are left out. The same detections give
    the same bytes.

    Args:
        detections_file: JSON list of detections, as COCO tools read it; boxes are x, y, width, height
            in pixels, segmentations compressed RLEs, scores in [0, 1].
        image_info_file: `image_info_test-dev2017.json`, which lists the images and categories.
        folder: where to put the zip file.
        algorithm: letters, digits and hyphens; underscores separate the parts of the server's file names, and
            are replaced by hyphens.
        iou_type: "bbox" or "segm".
        published_images: number of images that `image_info_file` must have; None asks for none.

    Returns:
        The path of the zip file, which is written atomically.

    Raises:
        ValueError: a malformed name or an unknown `iou_type`.
        DataSetError: `image_info_file` is not the list of test-dev.
        DetectionsError: naming the file and the first entries that are not valid, and how many there are.
    """
    name = algorithm.replace("_", "-")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9-]*", name):
        raise ValueError(f"algorithm is {algorithm!r}; use letters, digits and hyphens")
    if iou_type not in ("bbox", "segm"):
        raise ValueError(f"iou_type is {iou_type!r}; choose one of bbox, segm")
    ground_truth = load_ground_truth(image_info_file)
    count = len(ground_truth.image_ids)
    if published_images is not None and count != published_images:
        raise DataSetError(
            f"{image_info_file} lists {count:,} images, test-dev has {published_images:,}:"
            " use image_info_test-dev2017.json (image_info_test2017.json has more)"
        )
    detections = load_detections(detections_file, ground_truth, iou_type)
    if not len(detections):
        raise DetectionsError(f"{detections_file}: expected detections, found an empty list. Predict again.")
    entries = detections.entries(detections.image_id, detections.category_id)
    content = json.dumps(entries, separators=(",", ":"))
    stem = f"detections_test-dev2017_{name}_results"
    target = Path(folder) / f"{stem}.zip"
    # A fixed time, so that packing twice gives the same bytes.
    entry = zipfile.ZipInfo(f"{stem}.json", date_time=(2017, 1, 1, 0, 0, 0))
    entry.external_attr = 0o644 << 16
    with atomic_write(target) as temporary, zipfile.ZipFile(temporary, "w") as packed:
        packed.writestr(entry, content, zipfile.ZIP_DEFLATED)
    return target
