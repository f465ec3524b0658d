"""Make, fetch or check a data set as its file in ``experiments/datasets`` describes it."""

from __future__ import annotations

import sys
from pathlib import Path

from corrloss.coco import DataSetError
from corrloss.coco.check import Needs, check_coco
from corrloss.coco.published import COCO_CATEGORIES
from corrloss.data.download import COCO_HOST, download_coco, missing_parts
from corrloss.data.download import PARTS as PARTS_OF_COCO
from corrloss.data.images import fetch_images
from corrloss.data.mini_cityscapes import make_mini_cityscapes
from corrloss.data.mini_coco import make_mini_coco
from corrloss.data.sample import check_sample, write_sample
from corrloss.plan.data_files import sampled_part

PARTS = ("train", "test")
#: What is downloaded of COCO besides the images of a sample, by what it is a sample of.
NEEDED_OF_COCO = {"coco_2017_train": PARTS_OF_COCO["coco_small"], "coco_2017_val": ("annotations",)}


def make_dataset(folder: Path, make: dict) -> None:
    """Write a synthetic data set.

    Args:
        folder: Folder of the data set.
        make: ``type``, the generator (``mini_coco`` or ``mini_cityscapes``), and its arguments.
    """
    generators = {"mini_coco": make_mini_coco, "mini_cityscapes": make_mini_cityscapes}
    generators[make["type"]](folder, **{key: value for key, value in make.items() if key != "type"})


def fetch_sample(folder: Path, data: dict, *, host: str = COCO_HOST, progress: bool = True) -> dict[str, int]:
    """Choose the images of a data set that is a sample, and fetch them and what else it needs of COCO.

    What is on disk is kept, and is not fetched. An interrupted call is continued by the next one.

    Args:
        folder: Folder of the data set.
        data: Its file in ``experiments/datasets``, with ``sample``: ``part``, ``images``, ``seed`` and
            ``of``, the set that is sampled.
        host: A mirror of COCO's host.
        progress: Whether to show progress bars on standard error.

    Returns:
        Number of images that were ``present``, were ``linked`` to the full set and were ``downloaded``.

    Raises:
        DataSetError: See `corrloss.data.sample.write_sample` and `corrloss.data.images.fetch_images`.
        DownloadError: See `corrloss.data.download.download_coco` and `fetch_images`.
    """
    sample, full, own = data["sample"], data["sample"]["of"], data[sampled_part(data)]
    if parts := NEEDED_OF_COCO.get(full.get("expected")):
        download_coco(folder, missing_parts(folder, parts), host=host, progress=progress)
    annotations = folder / own["ann_file"]
    write_sample(
        folder / full["ann_file"],
        annotations,
        images=sample["images"],
        seed=sample["seed"],
        expected=full.get("expected"),
    )
    split, local = Path(full["img"]).name, folder / full["img"]
    return fetch_images(annotations, folder / own["img"], split, local=local, host=host, progress=progress)


def check_dataset(folder: Path, settings: dict, *, masks: bool = False, min_size: int = 32) -> dict:
    """Check the training and test images of a data set, where it has both, and their annotations.

    Args:
        folder: Folder of the data set.
        settings: Its file in ``experiments/datasets``: ``train`` and ``test`` with ``ann_file`` and
            ``img``, and optionally ``expected`` (a key of ``corrloss.coco.check.PUBLISHED``);
            ``classes`` are the names of its categories, in order, by default COCO's; ``check_images`` is
            ``all`` if every image is decoded, ``sample`` for some of them.
        masks: Whether a detector that is trained or evaluated on it needs masks.
        min_size: Shorter side in pixels below which mmdet does not train on an image.

    Returns:
        Counts and warnings of both parts, for the record; warnings are printed on standard error, too.

    Raises:
        DataSetError: Anything is wrong; the message lists all of it, with file and entry.
    """
    if "sample" in settings:
        sample = settings["sample"]
        annotations = folder / settings[sampled_part(settings)]["ann_file"]
        check_sample(annotations, images=sample["images"], seed=sample["seed"])
    classes = settings.get("classes") or list(COCO_CATEGORIES.values())  # mmdet's default
    reports = {
        part: check_coco(
            folder,
            settings[part]["ann_file"],
            settings[part]["img"],
            expected=settings[part].get("expected"),
            needs=Needs(classes, masks=masks, training=part == "train", min_size=min_size),
            images=settings.get("check_images", "all"),
        )
        for part in PARTS
        if part in settings
    }
    texts = [report.text() for report in reports.values() if report.errors or report.warnings]
    if not all(report.ok for report in reports.values()):
        raise DataSetError("\n\n".join(texts))
    for text in texts:
        print(text, file=sys.stderr)
    return {
        part: {
            "counts": report.counts,
            "warnings": {kind: found.count for kind, found in report.warnings.items()},
        }
        for part, report in reports.items()
    }
