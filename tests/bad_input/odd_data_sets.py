"""Odd data sets that people report in public: what is changed in a good one, and the right outcome.

An outcome is the kind of error with which `check_dataset` must refuse it, or `ACCEPTED` with the warnings
that must be counted; an accepted one must then be read and evaluated right.
"""

import json
import unicodedata
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

PARTS = {"train": "instances_train.json", "val": "instances_val.json"}
ACCEPTED = "accepted"


@dataclass(frozen=True)
class Outcome:
    """What must become of a data set.

    Attributes:
        kind: an error of `corrloss.coco.findings.ERRORS`, or ACCEPTED.
        shown: texts that the message of an error must have.
        warnings: kinds of warnings that must be counted.
        masks: whether a detector needs masks.
        min_size: shorter side in pixels below which mmdet does not train on an image.
    """

    kind: str = ACCEPTED
    shown: tuple[str, ...] = ()
    warnings: frozenset[str] = frozenset()
    masks: bool = False
    min_size: int = 0

    def __str__(self):
        return ", ".join([self.kind, *sorted(self.warnings)])


def accepted(*warnings, **options):
    return Outcome(warnings=frozenset(warnings), **options)


def refused(kind, *shown, **options):
    return Outcome(kind, shown, **options)


# Changes of the annotation files ---------------------------------------------------------------


def path_of(root, part):
    return root / "annotations" / PARTS[part]


def edited(change, parts=PARTS):
    """Apply `change` to the documents of the parts; what it returns, if anything, replaces a document."""

    def apply(root):
        for part in parts:
            document = json.loads(path_of(root, part).read_text())
            changed = change(document)
            path_of(root, part).write_text(json.dumps(document if changed is None else changed))

    return apply


def every(section, **values):
    """Set keys of every entry of a section; a function is given the entry."""

    def change(document):
        for entry in document[section]:
            for key, value in values.items():
                entry[key] = value(entry) if callable(value) else value

    return edited(change)


def first(section, **values):
    """Set keys of the first entry of a section in both files."""

    def change(document):
        entry = document[section][0]
        entry.update({key: value(entry) if callable(value) else value for key, value in values.items()})

    return edited(change)


def without(section, key):
    return edited(lambda document: [entry.pop(key, None) for entry in document[section]] and None)


def encoded(encoding):
    def apply(root):
        for part in PARTS:
            path_of(root, part).write_bytes(path_of(root, part).read_text().encode(encoding))

    return apply


def categories(change, parts=("val",)):
    """Replace the list of categories by what `change` returns for it."""
    return edited(lambda document: document.update(categories=change(document["categories"])), parts)


def renumbered(offset, key):
    """Add to the ids of images or categories, and to the references to them."""
    section, reference = {"image": ("images", "image_id"), "category": ("categories", "category_id")}[key]

    def change(document):
        for entry in document[section]:
            entry["id"] = offset(entry["id"])
        for entry in document["annotations"]:
            entry[reference] = offset(entry[reference])

    return change


# Changes of the images -------------------------------------------------------------------------


def renamed(name, on_disk=None):
    """Give the first image of each part another name; it may be another one on the disk."""

    def apply(root):
        for part in PARTS:
            document = json.loads(path_of(root, part).read_text())
            old = root / part / document["images"][0]["file_name"]
            document["images"][0]["file_name"] = name
            new = root / part / (on_disk or name)
            new.parent.mkdir(parents=True, exist_ok=True)
            old.rename(new)
            path_of(root, part).write_text(json.dumps(document))

    return apply


def converted(convert, name="odd.png"):
    """Save the first image of each part anew: `convert` is given the image and the path."""

    def apply(root):
        renamed(name)(root)
        for part in PARTS:
            path = root / part / name
            with Image.open(path) as picture:
                picture.load()
            path.unlink()
            convert(picture, path)

    return apply


def saved(mode="RGB", **options):
    return lambda picture, path: picture.convert(mode).save(path, **options)


def _resized(width, height):
    def apply(root):
        for part in PARTS:
            document = json.loads(path_of(root, part).read_text())
            image = document["images"][0]
            image |= {"width": width, "height": height}
            box = {"bbox": [2, 2, 20, 20], "area": 400, "segmentation": [[2, 2, 22, 2, 22, 22, 2, 22]]}
            for entry in document["annotations"]:
                if entry["image_id"] == image["id"]:
                    entry.update(box, iscrowd=0)
            document["annotations"] = [
                entry
                for k, entry in enumerate(document["annotations"])
                if entry["image_id"] != image["id"]
                or all(other["image_id"] != image["id"] for other in document["annotations"][:k])
            ]
            Image.new("L", (width, height)).save(root / part / image["file_name"])
            path_of(root, part).write_text(json.dumps(document))

    return apply


def _turned(orientation):
    def convert(picture, path):
        exif = picture.getexif()
        exif[0x0112] = orientation
        picture.save(path, exif=exif)

    return convert


def _deep(factor):
    """16 bits in three channels, which Pillow reads as 8."""
    return lambda picture, path: cv2.imwrite(str(path), np.asarray(picture)[..., ::-1].astype("u2") * factor)


def _cut(picture, path):
    picture.save(path, quality=95, progressive=True)
    path.write_bytes(path.read_bytes()[:-300])


def _linked(root):
    """Subfolders that are links, relative ones."""
    for part in PARTS:
        (root / part).rename(root / f"disk2_{part}")
        (root / part).mkdir()
        (root / part / "sub").symlink_to(Path("..") / f"disk2_{part}")
    every("images", file_name=lambda image: f"sub/{image['file_name']}")(root)


def _linked_files(root):
    for part in PARTS:
        for path in list((root / part).iterdir()):
            path.rename(root / f"{part}_{path.name}")
            path.symlink_to(Path("..") / f"{part}_{path.name}")


def _macos(root):
    for part in PARTS:
        (root / part / "._000000000001.png").write_bytes(b"\x00\x05\x16\x07")
        (root / part / ".DS_Store").write_bytes(b"\x00")


def _uncompressed(document):
    sizes = {image["id"]: [image["height"], image["width"]] for image in document["images"]}
    for entry in document["annotations"]:
        (x, y, w, h), (height, width) = map(int, entry["bbox"]), sizes[entry["image_id"]]
        mask = np.zeros((height, width), bool)
        mask[y : y + h, x : x + w] = True
        flat = np.concatenate([[False], mask.ravel(order="F"), [False]])
        edges = np.flatnonzero(flat[1:] != flat[:-1])
        runs = np.diff([0, *edges, mask.size])
        entry.update(
            segmentation={"size": [height, width], "counts": runs.tolist()}, area=w * h, bbox=[x, y, w, h]
        )


def _all(document, **values):
    for entry in document["annotations"]:
        entry.update(values)


CATEGORIES = {
    "val lists the categories in another order": (categories(lambda c: c[::-1]), refused("classes", "order")),
    "both list them in another order than the config": (
        categories(lambda c: c[::-1], PARTS),
        refused("classes", "order differs", "circle"),
    ),
    "val has other ids for the names": (
        edited(renumbered(lambda i: i + 40, "category"), ("val",)),
        accepted(),
    ),
    "val has ids in another order for the same names": (
        edited(renumbered(lambda i: 100 - i, "category"), ("val",)),
        accepted(),
    ),
    "one name is spelt otherwise in both files": (
        first("categories", name="Circle"),
        refused("classes", "'Circle'", "'circle'"),
    ),
    "all names in capitals": (
        every("categories", name=lambda c: c["name"].upper()),
        refused("classes", "'STAR'", "'star'"),
    ),
    "a name with a space at its end": (
        first("categories", name="circle "),
        refused("classes", "'circle '", "'circle'"),
    ),
    "a name in decomposed Unicode": (
        first("categories", name=unicodedata.normalize("NFD", "cïrcle")),
        refused("classes"),
    ),
    "a category that the config does not list": (
        categories(lambda c: [*c, {"id": 99, "name": "heart"}], PARTS),
        refused("classes", "'heart'"),
    ),
    "an extra category in train alone": (
        categories(lambda c: [*c, {"id": 99, "name": "heart"}], ("train",)),
        refused("classes", "'heart'"),
    ),
    "an extra category in val alone": (
        categories(lambda c: [{"id": 99, "name": "heart"}, *c]),
        refused("classes", "'heart'"),
    ),
    "a background category 0, as some tools export": (
        categories(lambda c: [{"id": 0, "name": "background"}, *c], PARTS),
        refused("classes", "'background'"),
    ),
    "val lacks a category that it has no object of": (
        edited(
            lambda d: d.update(
                categories=d["categories"][:-1],
                annotations=[a for a in d["annotations"] if a["category_id"] != d["categories"][-1]["id"]],
            ),
            ("val",),
        ),
        refused("classes", "'star'"),
    ),
    "one name twice": (
        categories(lambda c: [*c, {"id": 99, "name": "circle"}], PARTS),
        refused("category_doubled", "circle"),
    ),
    "no supercategory": (without("categories", "supercategory"), accepted()),
    "a supercategory of null": (every("categories", supercategory=None), accepted()),
    "a negative category id": (edited(renumbered(lambda i: -i, "category")), accepted()),
    "category ids from 0": (edited(renumbered(lambda i: i - 1, "category")), accepted()),
    "a category id that is a string": (first("categories", id=str), refused("category_entry", "'id'")),
    "a category name that is a number": (first("categories", name=7), refused("category_entry", "'name'")),
}

IDS = {
    "image ids above 2^53": (edited(renumbered(lambda i: 2**53 + i, "image")), accepted()),
    "image ids at the end of 64 bits": (edited(renumbered(lambda i: 2**63 - 100 + i, "image")), accepted()),
    "image ids above 2^63": (
        edited(renumbered(lambda i: 2**63 + i, "image")),
        refused("image_entry", "2^63 - 1"),
    ),
    "category ids above 2^53": (edited(renumbered(lambda i: 2**53 + i, "category")), accepted()),
    "annotation ids above 2^53": (every("annotations", id=lambda a: 2**53 + a["id"]), accepted()),
    "annotation ids from 0": (every("annotations", id=lambda a: a["id"] - 1), accepted()),
    "negative image ids": (edited(renumbered(lambda i: -i, "image")), accepted()),
    "an image id 0": (edited(renumbered(lambda i: i - 1, "image")), accepted()),
    "image ids that are strings": (
        edited(renumbered(str, "image")),
        refused("image_entry", "images[0]", "'1'"),
    ),
    "image ids that are floats": (edited(renumbered(float, "image")), refused("image_entry", "1.0")),
    "an image id of NaN": (first("images", id=float("nan")), refused("image_entry", "nan")),
    "annotation ids that are missing": (without("annotations", "id"), refused("annotation_entry", "'id'")),
    "annotation ids that start again for each image": (
        every("annotations", id=lambda a: 1),
        refused("annotation_id", "unique"),
    ),
}

FIELDS = {
    "info with a year as text": (
        edited(lambda d: d.update(info={"year": "2024", "version": 1.0})),
        accepted(),
    ),
    "info that is a list": (edited(lambda d: d.update(info=[])), accepted()),
    "licenses as text": (edited(lambda d: d.update(licenses="CC BY")), accepted()),
    "a license of an image as text": (every("images", license="CC BY", coco_url=None), accepted()),
    "a date that is a number": (every("images", date_captured=20240501, flickr_url=7), accepted()),
    "attributes of labelling tools": (every("annotations", attributes={"occluded": False}), accepted()),
    "NaN in a foreign field": (every("annotations", attributes=float("nan")), accepted()),
    "an integer beyond 64 bits in a foreign field": (every("annotations", track=10**30), accepted()),
    "keypoints and captions of null": (
        every("annotations", keypoints=None, num_keypoints="3", caption=None),
        accepted(),
    ),
    "no info": (edited(lambda d: d.pop("info", None) and None), accepted()),
    "no masks, for a box detector": (without("annotations", "segmentation"), accepted()),
    "no masks, for a mask detector": (
        without("annotations", "segmentation"),
        refused("mask_missing", "annotations[0]", masks=True),
    ),
    "empty masks, for a box detector": (every("annotations", segmentation=lambda a: []), accepted()),
    "empty masks, for a mask detector": (
        every("annotations", segmentation=lambda a: []),
        refused("mask_missing", masks=True),
    ),
    "masks of null": (every("annotations", segmentation=None), accepted()),
    "a list of no points": (every("annotations", segmentation=lambda a: [[]]), refused("mask_invalid")),
    "a polygon of two points": (
        every("annotations", segmentation=lambda a: [[1, 1, 9, 9]]),
        refused("mask_invalid", "3 points"),
    ),
    "masks as run lengths that are lists": (edited(_uncompressed), accepted(masks=True)),
    "a box of strings": (
        first("annotations", bbox=["1", "2", "30", "40"]),
        refused("box_invalid", "annotations[0]"),
    ),
    "a box of corners, right of its image": (
        first("annotations", bbox=[900, 900, 1000, 1000]),
        refused("box_outside", "annotations[0]"),
    ),
    "a box with NaN": (
        first("annotations", bbox=[float("nan"), 2, 30, 40]),
        refused("box_invalid", "annotations[0]"),
    ),
    "a box of null": (first("annotations", bbox=None), refused("box_invalid", "annotations[0]")),
    "an empty box": (first("annotations", bbox=lambda a: []), refused("box_invalid", "annotations[0]")),
    "iscrowd is missing": (
        without("annotations", "iscrowd"),
        refused("annotation_entry", "'iscrowd', 0 or 1; it is missing"),
    ),
    "iscrowd is false": (every("annotations", iscrowd=False), refused("flag_invalid", "False")),
    "area is missing": (without("annotations", "area"), refused("annotation_entry", "'area'", "is missing")),
    "width and height were swapped": (
        every("images", width=lambda i: i["height"] + 40, height=lambda i: i["width"]),
        refused("image_size", "expected", "as annotated, found"),
    ),
    "width and height as text": (
        every("images", width=lambda i: str(i["width"])),
        refused("image_entry", "'width'"),
    ),
    "an image without objects": (
        edited(
            lambda d: d.update(
                annotations=[a for a in d["annotations"] if a["image_id"] != d["images"][0]["id"]]
            )
        ),
        accepted("image_not_trained_on"),
    ),
    "an annotation of an image that is not listed": (
        first("annotations", image_id=999),
        refused("image_unknown", "999"),
    ),
    "crowds alone": (every("annotations", iscrowd=1), refused("nothing_to_train")),
    "boxes alone that are narrower than a pixel": (
        edited(lambda d: _all(d, bbox=[5, 5, 0.5, 20])),
        refused("nothing_to_train"),
    ),
    "boxes alone that touch their image from outside": (
        edited(lambda d: _all(d, bbox=[-20, 5, 20, 20])),
        refused("nothing_to_train"),
    ),
    "a byte order mark": (encoded("utf-8-sig"), refused("file_unreadable", "byte order mark")),
    "UTF-16": (encoded("utf-16"), refused("file_unreadable", "UTF-16")),
    "a duplicate entry": (
        edited(lambda d: d["images"].append(dict(d["images"][0]))),
        refused("image_doubled", "images["),
    ),
    "one file by two names": (
        edited(
            lambda d: d["images"].append(
                {**d["images"][0], "id": 999, "file_name": "./" + d["images"][0]["file_name"]}
            )
        ),
        refused("image_doubled", "images["),
    ),
}

IMAGES = {
    "a colon in a name": (renamed("2024-05-01T12:00:00.png"), accepted()),
    "a name that begins with a letter and a colon": (
        renamed("C:1.png"),
        refused("file_name_unsafe", "drive letter"),
    ),
    "a name with spaces, a hash and a percent sign": (renamed("a b#c%20 (1).png"), accepted()),
    "a file name with a space at its end": (renamed("a.png "), accepted()),
    "a name of other letters": (renamed("\u56fe\u7247_\u00e9.png"), accepted()),
    "a name that is composed in the file and not on the disk": (
        renamed("caf\u00e9.png", unicodedata.normalize("NFD", "caf\u00e9.png")),
        refused("image_missing"),
    ),
    "an extension in capitals": (renamed("IMG_1.PNG"), accepted()),
    "an extension in other capitals than on the disk": (
        renamed("IMG_1.PNG", "IMG_1.png"),
        refused("image_missing", "IMG_1.PNG"),
    ),
    "a JPEG that is called .png": (
        converted(lambda picture, path: picture.save(path, format="JPEG")),
        accepted(),
    ),
    "a name in a subfolder": (renamed("sub/folder/a.png"), accepted()),
    "a name that begins with ./": (renamed("./a.png", "a.png"), accepted()),
    "a Windows path": (renamed("sub\\a.png", "sub/a.png"), refused("image_missing", "use /")),
    "an absolute name": (
        first("images", file_name="/data/1.png"),
        refused("file_name_unsafe", "/data/1.png"),
    ),
    "a name that climbs out": (
        first("images", file_name="../val/1.png"),
        refused("file_name_unsafe", "../val"),
    ),
    "a name with half a surrogate pair": (first("images", file_name="\ud800.png"), refused("image_")),
    "subfolders that are links": (_linked, accepted()),
    "images that are relative links": (_linked_files, accepted()),
    "files that macOS writes": (_macos, accepted("image_unlisted")),
    "a grayscale JPEG": (converted(saved("L"), "odd.jpg"), accepted()),
    "a CMYK JPEG": (converted(saved("CMYK"), "odd.jpg"), accepted()),
    "a progressive JPEG": (converted(saved(progressive=True), "odd.jpg"), accepted()),
    "a progressive JPEG cut short": (converted(_cut, "odd.jpg"), refused("image_unreadable", "odd.jpg")),
    "a palette": (converted(saved("P")), accepted()),
    "an alpha channel": (converted(saved("RGBA")), accepted()),
    "one bit a pixel": (converted(saved("1")), accepted()),
    "a WebP": (converted(saved(), "odd.webp"), accepted()),
    "a BMP": (converted(saved(), "odd.bmp"), accepted()),
    "a TIFF": (converted(saved(), "odd.tif"), accepted()),
    "a TIFF of floating-point numbers": (
        converted(saved("F"), "odd.tif"),
        refused("image_unreadable", "odd.tif", "OpenCV"),
    ),
    "an icon": (
        converted(lambda p, path: p.save(path, sizes=[p.size]), "odd.ico"),
        refused("image_unreadable", "odd.ico", "OpenCV"),
    ),
    "16 bits, dark": (
        converted(lambda p, path: Image.fromarray(np.asarray(p.convert("L")).astype("u2")).save(path)),
        accepted("image_16_bit"),
    ),
    "16 bits in colour": (converted(_deep(256)), accepted("image_16_bit")),
    "16 bits in colour, dark": (converted(_deep(1)), accepted("image_16_bit")),
    "an orientation by a quarter, boxes of the stored pixels": (
        converted(_turned(6), "odd.jpg"),
        refused("image_size", "odd.jpg", "exiftool"),
    ),
    "an orientation by a half": (converted(_turned(3), "odd.jpg"), accepted("image_rotated")),
    "no byte": (converted(lambda picture, path: path.touch()), refused("image_unreadable", "0 bytes")),
    "an image of another size than stated": (
        converted(lambda picture, path: Image.new("RGB", (7, 9)).save(path)),
        refused("image_size", "7 x 9"),
    ),
    "a panorama of 100 megapixels": (_resized(50_000, 2_000), accepted()),
    "images below mmdet's minimum": (
        _resized(28, 28),
        accepted("image_not_trained_on", min_size=32),
    ),
    "images below mmdet's minimum alone": (lambda root: None, refused("nothing_to_train", min_size=999)),
}

ODD = {**CATEGORIES, **IDS, **FIELDS, **IMAGES}
