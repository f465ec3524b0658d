"""Cityscapes' `gtFine` as COCO JSON, which is what detectors are trained on and evaluated with."""

import json
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from cityscapesscripts.helpers.labels import Label, id2label, labels
from PIL import Image
from pycocotools import mask as rle
from tqdm import tqdm

from corrloss.coco import DataSetError
from corrloss.files import atomic_write

CLASSES = tuple(label for label in labels if label.hasInstances and not label.ignoreInEval)
"""The eight classes evaluated by instance, in the order of mmdet's `CityscapesDataset`."""


@dataclass(frozen=True)
class Frame:
    """One image and its ground truth.

    Attributes:
        image: `leftImg8bit/<split>/<city>/<frame>_leftImg8bit.png`.
        instance_ids: `gtFine/<split>/<city>/<frame>_gtFine_instanceIds.png`.
    """

    image: Path
    instance_ids: Path


def find_frames(root: Path, split: str) -> list[Frame]:
    """Return the frames of a split, sorted by city and name.

    Args:
        root: the folder that holds `leftImg8bit` and `gtFine`.
        split: "train", "val" or "test".

    Raises:
        DataSetError: a folder, an image or its ground truth is missing; the message names every folder
            and the first files.
    """
    root = Path(root)
    folders = root / "leftImg8bit" / split, root / "gtFine" / split
    missing = [str(folder) for folder in folders if not folder.is_dir()]
    if missing:
        raise DataSetError(
            f"expected the folders of Cityscapes, found no {' and no '.join(missing)}:"
            f" unpack leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip in {root}"
        )
    endings = "_leftImg8bit.png", "_gtFine_instanceIds.png"
    images, truths = (
        {
            path.relative_to(folder).as_posix().removesuffix(ending)
            for path in folder.glob(f"*/*{ending}")
            if not path.name.startswith("._")  # metadata that macOS writes beside a file
        }
        for folder, ending in zip(folders, endings, strict=True)
    )
    if not images:
        raise DataSetError(f"{folders[0]}: expected <city>/*{endings[0]}, found none. Unpack it again.")
    alone = [f"{folders[1] / name}{endings[1]}" for name in sorted(images - truths)]
    alone += [f"{folders[0] / name}{endings[0]}" for name in sorted(truths - images)]
    if alone:
        more = f" and {len(alone) - 5:,} more" if len(alone) > 5 else ""
        raise DataSetError(f"{len(alone):,} files are missing: {', '.join(alone[:5])}{more}; unpack again")
    return [
        Frame(Path(f"{folders[0] / name}{endings[0]}"), Path(f"{folders[1] / name}{endings[1]}"))
        for name in sorted(images)
    ]


def convert_cityscapes(
    root: Path, split: str, output: Path, *, workers: int | None = None, progress: bool = False
) -> None:
    """Write the instances of a split as COCO JSON.

    One annotation for each id of an instance-id image that belongs to one of the eight classes that
    Cityscapes evaluates by instance. An id below 1000 is a group whose members cannot be told apart: it
    becomes `iscrowd: 1`. Masks are compressed RLEs of the visible pixels; areas and boxes are those
    of the mask. A hidden instance has no pixel, hence no annotation. The result depends
    on the files alone, not on the number of workers.

    Args:
        root: the folder that holds `leftImg8bit` and `gtFine`.
        split: "train", "val" or "test" (whose public ground truth is empty).
        output: JSON file, written atomically; file names in it are relative to
            `leftImg8bit/<split>`.
        workers: processes; by default one for each core. With 1 no process is started.
        progress: whether to show a progress bar on standard error.

    Raises:
        DataSetError: files are missing, unreadable, of different sizes, or hold ids that are none.
    """
    frames = find_frames(root, split)
    images, annotations = [], []
    for frame, (size, found) in zip(frames, _convert_all(frames, workers, progress), strict=True):
        images.append(
            {
                "id": len(images) + 1,
                "file_name": f"{frame.image.parent.name}/{frame.image.name}",
                "width": size[0],
                "height": size[1],
            }
        )
        annotations += [
            {"id": number, "image_id": len(images)} | annotation
            for number, annotation in enumerate(found, len(annotations) + 1)
        ]
    document = {
        "info": {"description": f"Cityscapes gtFine {split}, instances, as converted by corrloss"},
        "images": images,
        "annotations": annotations,
        "categories": [{"id": c.id, "name": c.name, "supercategory": c.category} for c in CLASSES],
    }
    with atomic_write(Path(output)) as temporary, open(temporary, "w") as file:
        json.dump(document, file)


def _convert_all(
    frames: list[Frame], workers: int | None, progress: bool
) -> Iterator[tuple[tuple[int, int], list[dict]]]:
    bar = partial(tqdm, desc="gtFine", total=len(frames), unit="image", disable=not progress)
    workers = min(workers or os.cpu_count() or 1, len(frames))
    if workers == 1:
        yield from bar(map(convert_frame, frames))
        return
    with ProcessPoolExecutor(workers) as pool:
        yield from bar(pool.map(convert_frame, frames, chunksize=8))


def convert_frame(frame: Frame) -> tuple[tuple[int, int], list[dict]]:
    """Return the size (width, height) of a frame and its annotations, in ascending order of id.

    Raises:
        DataSetError: as `convert_cityscapes`.
    """
    try:
        with Image.open(frame.image) as image:
            size = image.size
        with Image.open(frame.instance_ids) as image:
            ids = np.asarray(image)
    except (OSError, SyntaxError) as problem:  # Pillow: SyntaxError on a broken PNG
        raise DataSetError(f"cannot read {frame.image} or {frame.instance_ids}: {problem}") from problem
    if ids.ndim != 2 or ids.shape[::-1] != size:
        raise DataSetError(
            f"{frame.instance_ids}: expected the size of its image, {size[1]} x {size[0]}, found {ids.shape}."
            " Unpack both again."
        )
    by_column = np.asfortranarray(ids)  # pycocotools reads column by column: convert once, not for each id
    found = [_annotation(by_column == number, number, frame) for number in np.unique(ids).tolist()]
    return size, [annotation for annotation in found if annotation is not None]


def _annotation(mask: np.ndarray, instance_id: int, frame: Frame) -> dict | None:
    """The annotation of one id; None if it is of no class that is evaluated by instance."""
    label, is_group = _label(instance_id, frame)
    if label not in CLASSES:
        return None
    runs = rle.encode(mask.view(np.uint8))
    return {
        "category_id": label.id,
        "segmentation": {"size": runs["size"], "counts": runs["counts"].decode()},
        "area": int(rle.area(runs)),
        "bbox": [int(value) for value in rle.toBbox(runs)],
        "iscrowd": int(is_group),
    }


def _label(instance_id: int, frame: Frame) -> tuple[Label, bool]:
    """The label of an id of an instance-id image, and whether the id is that of a group or of stuff."""
    is_group = instance_id < 1000
    label = id2label.get(instance_id if is_group else instance_id // 1000)
    if label is None or (not is_group and not label.hasInstances):
        raise DataSetError(
            f"{frame.instance_ids}: expected instance ids of Cityscapes, found {instance_id}: another image?"
        )
    return label, is_group
