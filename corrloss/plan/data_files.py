"""Where the files of a data set are, by what its file in ``experiments/datasets`` says."""

from __future__ import annotations

from pathlib import Path

PARTS = ("train", "test")


def is_made(data: dict) -> bool:
    """Whether the data set is synthetic and made here."""
    return "make" in data


def annotation_file(data: dict, part: str, data_root: Path) -> Path:
    """Annotations of the training or test images."""
    return data_root / data["folder"] / data[part]["ann_file"]


def image_folder(data: dict, part: str, data_root: Path) -> Path:
    """Folder of the training or test images."""
    return data_root / data["folder"] / data[part]["img"]


def raw_annotations(data: dict, part: str, data_root: Path) -> Path | None:
    """Folder in Cityscapes' layout that the annotations are converted from; None where they are not."""
    if "convert" not in data:
        return None
    return data_root / data["folder"] / "gtFine" / data["convert"][part]


def made_files(data: dict, data_root: Path) -> list[Path]:
    """What the generator of a data set writes: annotations, or a mark beside Cityscapes' raw layout."""
    if not is_made(data):
        return []
    if "convert" in data:
        return [data_root / data["folder"] / "mini_cityscapes.json"]
    return [annotation_file(data, part, data_root) for part in PARTS]


def made_mark(data: dict, data_root: Path, part: str | None = None) -> Path:
    """Identity of what made a data set, or converted the annotations of a part of it; JSON, written last."""
    if part is not None:
        return annotation_file(data, part, data_root).with_suffix(".made.json")
    return data_root / f"{data['folder']}.made.json"


def is_sample(data: dict) -> bool:
    """Whether images are a sample of a larger set, chosen and fetched here."""
    return "sample" in data


def sampled_part(data: dict) -> str:
    """Which images of a data set with a sample are the sample: ``train`` or ``test``."""
    return data["sample"].get("part", "train")


def annotations_by_rules(data: dict, data_root: Path) -> list[Path]:
    """Annotation files that rules make; those of other data are expected to be there."""
    if is_sample(data):
        return [annotation_file(data, sampled_part(data), data_root)]
    if not is_made(data) and "convert" not in data:
        return []
    return [annotation_file(data, part, data_root) for part in PARTS]
