"""What can be wrong with a data set, and the report that collects it."""

from dataclasses import dataclass, field
from pathlib import Path

from corrloss.coco.entries import DataSetError

ERRORS = {
    "file_unreadable": "the annotation file is missing, not JSON in UTF-8, or not a COCO annotation file",
    "image_entry": "an entry of `images` lacks id, file_name, width or height, or has a wrong type",
    "image_doubled": "two entries of `images` share an id or a file name",
    "file_name_unsafe": "a file name points out of the image folder",
    "category_entry": "an entry of `categories` lacks id or name, or has a wrong type",
    "category_doubled": "two categories share an id or a name",
    "annotation_entry": "an annotation lacks a key, or an id is not an integer of 64 bits",
    "annotation_id": "two annotations share an id",
    "image_unknown": "an annotation belongs to an image that is not listed",
    "category_unknown": "an annotation belongs to a category that is not listed",
    "box_invalid": "a box is not four finite numbers, or has a negative width or height",
    "box_outside": "a box has no point inside its image",
    "area_invalid": "an area is not a finite number, or negative",
    "flag_invalid": "iscrowd or ignore is neither 0 nor 1",
    "mask_missing": "an annotation has no segmentation, and a detector that is trained needs masks",
    "mask_invalid": "a segmentation is neither polygons of three points or more nor an RLE",
    "mask_misfit": "an RLE has another size than its image, or its runs do not sum up to it",
    "no_annotations": "the file has no annotation: nothing to train on or to evaluate",
    "nothing_to_train": "no image with an object is left after what mmdet does not train on",
    "classes": "the categories are not the classes of experiments/datasets, in the same order",
    "count": "the number of images, annotations or categories is not the published one",
    "folder_missing": "the image folder is missing",
    "image_missing": "an image is missing",
    "image_unreadable": "an image cannot be decoded to its last row, or not by the training's reader",
    "image_size": "an image is read in another size than the annotation file states",
}
"""Kind of error -> what it means. Any of them makes `CheckReport.ok` false."""

WARNINGS = {
    "box_degenerate": "a box narrower or lower than 1 pixel: mmdet does not train on it",
    "area_zero": "an area of 0: mmdet does not train on it",
    "box_crosses_border": "a box reaches more than 1 pixel beyond its image: it is used as it is",
    "polygon_crosses_border": "a polygon reaches more than 1 pixel beyond its image: the mask is cut there",
    "ignored_in_training_only": "ignore: 1 without iscrowd: 1: mmdet drops it, pycocotools still counts it",
    "image_not_trained_on": "an image is too small or has no object: mmdet does not train on it",
    "image_rotated": "training rotates the image by its EXIF orientation: boxes must fit the rotated image",
    "image_16_bit": "16 bits a channel: training reads the upper 8 only, and values below 256 as black",
    "image_unlisted": "a file in the image folder that the annotation file does not list: it is not used",
}
"""Kind of peculiarity -> its effect. They are counted and shown, and are not errors."""


@dataclass
class Findings:
    """All findings of one kind.

    Attributes:
        count: how many there are.
        examples: the first few, each naming its entry.
    """

    count: int = 0
    examples: list[str] = field(default_factory=list)


@dataclass
class CheckReport:
    """What `check_coco` found.

    Attributes:
        source: the annotation file.
        errors: kind (a key of `ERRORS`) -> findings.
        warnings: kind (a key of `WARNINGS`) -> findings.
        counts: images, annotations, categories, crowds, images_without_objects, images_decoded.
        max_examples: how many examples of each kind are kept.
    """

    source: Path
    errors: dict[str, Findings] = field(default_factory=dict)
    warnings: dict[str, Findings] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    max_examples: int = 5

    @property
    def ok(self) -> bool:
        """Whether there is no error; warnings do not count."""
        return not self.errors

    def add(self, kind: str, text: str) -> None:
        """Add one finding.

        Args:
            kind: a key of `ERRORS` or `WARNINGS`.
            text: names the entry or image, and what was expected and found.
        """
        group = self.errors if kind in ERRORS else self.warnings
        findings = group.setdefault(kind, Findings())
        findings.count += 1
        if len(findings.examples) < self.max_examples:
            findings.examples.append(text)

    def text(self) -> str:
        """Return the report as lines of text: counts, then errors, then warnings."""
        counts = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in self.counts.items())
        lines = [f"{self.source}: {counts or 'nothing read'}"]
        for word, group, meaning in (("ERROR", self.errors, ERRORS), ("warning", self.warnings, WARNINGS)):
            for kind, findings in group.items():
                lines.append(f"{word} {kind} ({findings.count:,}): {meaning[kind]}")
                lines += [f"    {example}" for example in findings.examples]
                if findings.count > len(findings.examples):
                    lines.append(f"    ... and {findings.count - len(findings.examples):,} more")
        lines.append(
            "The data set is in order."
            if self.ok
            else "The data set cannot be used with these errors: repair the files named above, check again."
        )
        return "\n".join(lines)

    def raise_if_bad(self) -> None:
        """Raise `DataSetError` with the whole report if there is any error."""
        if not self.ok:
            raise DataSetError(self.text())
