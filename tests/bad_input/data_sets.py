"""Data sets with something wrong: what is done to a good one, and what the check must find."""

import json
import math
import shutil
from pathlib import Path

import numpy as np
from PIL import Image

FILE = Path("annotations") / "instances_train.json"


def edit(root, change):
    """Apply `change` to the parsed annotation file; what it returns, if anything, replaces it."""
    document = json.loads((root / FILE).read_text())
    changed = change(document)
    (root / FILE).write_text(json.dumps(document if changed is None else changed))


def first_object(document):
    """The first annotation with polygons, and its image."""
    annotation = next(a for a in document["annotations"] if not a["iscrowd"])
    return annotation, next(i for i in document["images"] if i["id"] == annotation["image_id"])


def put(where, key, value):
    def change(document):
        entry = first_object(document)[0] if where == "annotations" else document[where][0]
        entry[key] = value

    return change


def drop(where, key):
    def change(document):
        entry = first_object(document)[0] if where == "annotations" else document[where][0]
        del entry[key]

    return change


def double(where, key=None):
    def change(document):
        first, second = document[where][:2]
        for name in [key] if key else first:
            second[name] = first[name]

    return change


def rle(**changes):
    def change(document):
        annotation, image = first_object(document)
        height, width = image["height"], image["width"]
        annotation["segmentation"] = {"size": [height, width], "counts": [0, height * width]} | changes

    return change


def _transposed_rle(document):
    annotation, image = next(
        (a, i)
        for a in document["annotations"]
        for i in document["images"]
        if i["id"] == a["image_id"] and i["width"] != i["height"]
    )
    size = [image["width"], image["height"]]
    annotation["segmentation"] = {"size": size, "counts": [size[0] * size[1]]}


NAN, INFINITY = math.nan, math.inf
BOX, SEGMENTATION = "bbox", "segmentation"

# name -> (what is done to the annotation file, what must be found: kind -> count)
BAD_ANNOTATIONS = {
    "a list of detections": (lambda d: d["annotations"], {"file_unreadable": 1}),
    "captions, without categories": (lambda d: d.pop("categories") and None, {"file_unreadable": 1}),
    "images as an object": (lambda d: d.update(images={}), {"file_unreadable": 1}),
    "an empty list of annotations": (lambda d: d.update(annotations=[]), {"no_annotations": 1}),
    "an image without an id": (drop("images", "id"), {"image_entry": 1}),
    "an image that is a string": (lambda d: d["images"].append("7.png"), {"image_entry": 1}),
    "an image without a width": (drop("images", "width"), {"image_entry": 1}),
    "an image of height 0": (put("images", "height", 0), {"image_entry": 1}),
    "an image of width true": (put("images", "width", True), {"image_entry": 1}),
    "an image id that is a string": (put("images", "id", "1"), {"image_entry": 1}),
    "an image file name of null": (put("images", "file_name", None), {"image_entry": 1}),
    "two images with one id": (double("images", "id"), {"image_doubled": 1}),
    "two images with one file": (double("images", "file_name"), {"image_doubled": 1}),
    "a file name that climbs out": (put("images", "file_name", "../../etc/passwd"), {"file_name_unsafe": 1}),
    "an absolute file name": (put("images", "file_name", "/etc/passwd"), {"file_name_unsafe": 1}),
    "a Windows path": (put("images", "file_name", r"a\..\..\b.png"), {"file_name_unsafe": 1}),
    "a category without a name": (drop("categories", "name"), {"category_entry": 1}),
    "two categories with one id": (double("categories", "id"), {"category_doubled": 1}),
    "two categories with one name": (double("categories", "name"), {"category_doubled": 1}),
    "an annotation without a box": (drop("annotations", BOX), {"annotation_entry": 1}),
    "an annotation without iscrowd": (drop("annotations", "iscrowd"), {"annotation_entry": 1}),
    "an annotation without an area": (drop("annotations", "area"), {"annotation_entry": 1}),
    "an annotation that is null": (lambda d: d["annotations"].append(None), {"annotation_entry": 1}),
    "a box that is a string": (put("annotations", BOX, "1 2 3 4"), {"box_invalid": 1}),
    "an annotation id of 1.5": (put("annotations", "id", 1.5), {"annotation_entry": 1}),
    "two annotations with one id": (double("annotations", "id"), {"annotation_id": 1}),
    "an annotation of no image": (put("annotations", "image_id", 99999), {"image_unknown": 1}),
    "an annotation of no category": (put("annotations", "category_id", 3), {"category_unknown": 1}),
    "a box with NaN": (put("annotations", BOX, [1, NAN, 5, 5]), {"box_invalid": 1}),
    "a box with infinity": (put("annotations", BOX, [1, 1, INFINITY, 5]), {"box_invalid": 1}),
    "a box with an integer beyond floats": (put("annotations", BOX, [1, 1, 10**400, 5]), {"box_invalid": 1}),
    "a box with a null": (put("annotations", BOX, [1, 1, None, 5]), {"box_invalid": 1}),
    "a box of three numbers": (put("annotations", BOX, [1, 1, 5]), {"box_invalid": 1}),
    "a negative width": (put("annotations", BOX, [50, 50, -20, 20]), {"box_invalid": 1}),
    "a box right of the image": (put("annotations", BOX, [500, 5, 20, 20]), {"box_outside": 1}),
    "a box above the image": (put("annotations", BOX, [5, -50, 20, 20]), {"box_outside": 1}),
    "an area of NaN": (put("annotations", "area", NAN), {"area_invalid": 1}),
    "a negative area": (put("annotations", "area", -4), {"area_invalid": 1}),
    "an area in words": (put("annotations", "area", "big"), {"area_invalid": 1}),
    "iscrowd of 2": (put("annotations", "iscrowd", 2), {"flag_invalid": 1}),
    "ignore of yes": (put("annotations", "ignore", "yes"), {"flag_invalid": 1}),
    "a polygon of two points": (put("annotations", SEGMENTATION, [[1, 1, 9, 9]]), {"mask_invalid": 1}),
    "half a point": (put("annotations", SEGMENTATION, [[1, 1, 9, 9, 1, 9, 4]]), {"mask_invalid": 1}),
    "a polygon with NaN": (put("annotations", SEGMENTATION, [[1, 1, NAN, 9, 1, 9]]), {"mask_invalid": 1}),
    "a flat list of numbers": (put("annotations", SEGMENTATION, [1, 1, 9, 9, 1, 9]), {"mask_invalid": 1}),
    "an RLE without counts": (rle(counts=None), {"mask_invalid": 1}),
    "an RLE with a negative run": (rle(counts=[10, -3, 5]), {"mask_invalid": 1}),
    "an RLE of strange letters": (rle(counts="Ünfug"), {"mask_invalid": 1}),
    "an RLE string cut off": (rle(counts="P"), {"mask_invalid": 1}),
    "an RLE that is too short": (rle(counts=[10, 20]), {"mask_misfit": 1}),
    "an RLE string that is too short": (rle(counts="52"), {"mask_misfit": 1}),
    "an RLE of the transposed image": (_transposed_rle, {"mask_misfit": 1}),
    # Peculiarities: counted and stated, and no errors.
    "a box of no width": (put("annotations", BOX, [5, 5, 0, 20]), {"box_degenerate": 1}),
    "a box over the border": (put("annotations", BOX, [-30, 5, 60, 20]), {"box_crosses_border": 1}),
    "an area of 0": (put("annotations", "area", 0), {"area_zero": 1}),
    "ignore without iscrowd": (put("annotations", "ignore", 1), {"ignored_in_training_only": 1}),
    "a polygon over the border": (
        put("annotations", SEGMENTATION, [[-9, 1, 9, 9, 1, 9]]),
        {"polygon_crosses_border": 1},
    ),
}


def _rewrite(content):
    return lambda root: (root / FILE).write_bytes(content)


def _encode(encoding):
    return lambda root: (root / FILE).write_bytes((root / FILE).read_text().encode(encoding))


def _cut_file(root):
    (root / FILE).write_bytes((root / FILE).read_bytes()[:-40])


def first_image(root):
    return root / "train" / "000000000001.png"


def _cut_image(root):
    first_image(root).write_bytes(first_image(root).read_bytes()[:-500])


def _flip_a_byte(root):
    content = bytearray(first_image(root).read_bytes())
    content[len(content) // 2] ^= 255
    first_image(root).write_bytes(content)


def _rotate(orientation):
    def change(root):
        picture = Image.open(first_image(root))
        exif = picture.getexif()
        exif[0x0112] = orientation
        picture.save(first_image(root), exif=exif)

    return change


def _size_of_first(root):
    return Image.open(first_image(root)).size


def _sixteen_bits(root):
    width, height = _size_of_first(root)
    Image.fromarray(np.full((height, width), 200, np.uint16)).save(first_image(root))


def _icon(root):
    size = _size_of_first(root)
    Image.new("RGB", size).save(first_image(root), format="ICO", sizes=[size])


def _floats(root):
    Image.new("F", _size_of_first(root)).save(first_image(root), format="TIFF")


BAD_FILES = {
    "no annotation file": (lambda root: (root / FILE).unlink(), {"file_unreadable": 1}),
    "a folder as annotation file": (
        lambda root: ((root / FILE).unlink(), (root / FILE).mkdir()),
        {"file_unreadable": 1},
    ),
    "an empty annotation file": (_rewrite(b""), {"file_unreadable": 1}),
    "an annotation file cut off": (_cut_file, {"file_unreadable": 1}),
    "a web page": (_rewrite(b"<html>404 Not Found</html>"), {"file_unreadable": 1}),
    "binary rubbish": (_rewrite(bytes(range(256))), {"file_unreadable": 1}),
    "a byte order mark": (_encode("utf-8-sig"), {"file_unreadable": 1}),
    "UTF-16": (_encode("utf-16"), {"file_unreadable": 1}),
    "Latin-1": (_rewrite('{"info": "\u00e9"}'.encode("latin-1")), {"file_unreadable": 1}),
    "endless brackets": (_rewrite(b"[" * 200_000), {"file_unreadable": 1}),
    "no image folder": (lambda root: shutil.rmtree(root / "train"), {"folder_missing": 1}),
    "an image missing": (lambda root: first_image(root).unlink(), {"image_missing": 1}),
    "a link to nowhere": (
        lambda root: (first_image(root).unlink(), first_image(root).symlink_to(root / "gone.png")),
        {"image_missing": 1},
    ),
    "an empty image": (lambda root: first_image(root).write_bytes(b""), {"image_unreadable": 1}),
    "an image cut off": (_cut_image, {"image_unreadable": 1}),
    "an image with a byte flipped": (_flip_a_byte, {"image_unreadable": 1}),
    "text named .png": (lambda root: first_image(root).write_text("hello"), {"image_unreadable": 1}),
    "an image of another size": (
        lambda root: Image.new("RGB", (7, 9)).save(first_image(root)),
        {"image_size": 1},
    ),
    "an image that training turns by a quarter": (_rotate(6), {"image_size": 1}),
    "an image that training turns by a half": (_rotate(3), {"image_rotated": 1}),
    "an image of 16 bits": (_sixteen_bits, {"image_16_bit": 1}),
    "an image of a format that OpenCV does not read": (_icon, {"image_unreadable": 1}),
    "an image of floating-point numbers": (_floats, {"image_unreadable": 1}),
    "a file that is not listed": (
        lambda root: (root / "train" / "x.txt").write_text(""),
        {"image_unlisted": 1},
    ),
}
