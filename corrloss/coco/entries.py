"""What a valid entry of a COCO file is: one definition for the check, the analysis and the submission.

The msgspec structs below give the keys, types and ranges of images, categories, annotations and detections.
JSON's `true` and `false` are not numbers, and NaN and infinities are not valid anywhere. Keys that are not
listed here (`info`, `licenses`, attributes of labelling tools) are ignored.
"""

import contextlib
import gc
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, TypedDict

import msgspec
from msgspec import Meta

from corrloss.coco.masks import rle_lengths
from corrloss.errors import CorrLossError

IouType = Literal["bbox", "segm"]
IOU_TYPES = ("bbox", "segm")


class DataSetError(CorrLossError):
    """A data set or its annotation file is missing, broken or inconsistent."""


class DetectionsError(CorrLossError):
    """A detections file is missing, broken or of another data set."""


Id = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Text = Annotated[str, Meta(min_length=1)]
Size = Annotated[int, Meta(ge=1, lt=1_000_000)]
Coordinate = Annotated[float, Meta(ge=-1e9, le=1e9)]
Length = Annotated[float, Meta(ge=0, le=1e9)]
Box = tuple[Coordinate, Coordinate, Length, Length]
Area = Annotated[float, Meta(ge=0, le=1e18)]
Flag = Literal[0, 1]
Run = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Polygon = Annotated[list[Coordinate], Meta(min_length=6)]
Pair = Annotated[list[int], Meta(min_length=2, max_length=2)]


class Rle(TypedDict):
    """Run lengths, column by column: a list of integers, or COCO's compressed string."""

    size: Pair
    counts: str | list[Run]


class CompressedRle(TypedDict):
    """Run lengths as COCO's compressed string."""

    size: Pair
    counts: str


class Image(msgspec.Struct, gc=False):
    """An entry of `images`."""

    id: Id
    file_name: Text
    width: Size
    height: Size


class Category(msgspec.Struct, gc=False):
    """An entry of `categories`."""

    id: Id
    name: Text


class Annotation(msgspec.Struct, gc=False):
    """An entry of `annotations`. An empty segmentation is the same as none, as labelling tools export it."""

    id: Id
    image_id: Id
    category_id: Id
    bbox: Box
    area: Area
    iscrowd: Flag
    ignore: Flag = 0
    segmentation: list[Polygon] | Rle | None = None


class Detection(msgspec.Struct, gc=False):
    """What every detection has."""

    image_id: Id
    category_id: Id
    score: Annotated[float, Meta(ge=0, le=1)]


class BoxDetection(Detection, gc=False):
    """An entry of a results file for boxes."""

    bbox: Box


class MaskDetection(Detection, gc=False):
    """An entry of a results file for masks."""

    segmentation: CompressedRle


DETECTION = {"bbox": BoxDetection, "segm": MaskDetection}

_POLYGONS = "polygons [[x, y, x, y, x, y, ...], ...] of at least 3 points, or an RLE {size, counts}"
_EXPECTED = {
    **dict.fromkeys(("id", "image_id", "category_id"), "an integer from -2^63 to 2^63 - 1"),
    **dict.fromkeys(("file_name", "name"), "text that is not empty"),
    **dict.fromkeys(("width", "height"), "an integer from 1 to 999,999"),
    "bbox": "a list of four numbers [x, y, width, height], finite, width and height not negative",
    "area": "a finite number, not negative",
    **dict.fromkeys(("iscrowd", "ignore"), "0 or 1"),
    "score": "a number in [0, 1], after the sigmoid or softmax",
}


def entry_faults(entry: Any, kind: type[msgspec.Struct]) -> Iterator[tuple[str, str]]:
    """Yield each fault of one entry.

    Args:
        entry: A parsed JSON value.
        kind: What it should be: one of the structs of this module.

    Yields:
        The key ("" if the entry is not an object), and what was expected and found.
    """
    if not isinstance(entry, dict):
        yield "", f"expected an object, found {shown(entry)}"
        return
    for field in msgspec.structs.fields(kind):
        expected = _EXPECTED.get(field.name, _POLYGONS)
        if kind is MaskDetection and field.name == "segmentation":
            expected = 'a compressed RLE {"size": [height, width], "counts": string} (see pycocotools.mask)'
        if field.name not in entry:
            if field.required:
                yield field.name, f"expected '{field.name}', {expected}; it is missing"
            continue
        try:
            msgspec.convert(entry[field.name], field.type)
        except (msgspec.ValidationError, OverflowError):
            yield field.name, f"expected '{field.name}' to be {expected}, found {shown(entry[field.name])}"


def rle_fault(rle: Rle, height: int, width: int) -> str:
    """Return what is wrong with an RLE of an image; "" if nothing. pycocotools crashes on malformed ones.

    Args:
        rle: An RLE with the keys and types of the schema.
        height: Height of the image in pixels.
        width: Width of the image in pixels.
    """
    if rle["size"] != [height, width]:
        return f"expected an RLE of the image's size [{height}, {width}], found size {list(rle['size'])}"
    counts = rle["counts"]
    length = int(rle_lengths([counts])[0]) if isinstance(counts, str) else sum(counts)
    if length < 0:
        return f"expected an RLE in COCO's compression, found counts {shown(counts)}, which cannot be decoded"
    if length != height * width:
        return f"expected an RLE that covers the image's {height * width} pixels, found one of {length}"
    return ""


def shown(value: Any) -> str:
    """Return a value as it is shown in a message: at most 60 characters."""
    if isinstance(value, int) and abs(value) >= 10**50:
        return "an integer of more than 50 digits"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def read_utf8(path: Path, error: type[CorrLossError]) -> bytes:
    """Read the bytes of a JSON file, and refuse encodings that not every reader takes.

    mmdet's reader, pycocotools and hotcoco take UTF-8 without a byte order mark; so does everything here.

    Raises:
        CorrLossError: of type `error`: the file is missing, empty or not UTF-8.
    """
    try:
        content = path.read_bytes()
    except OSError as problem:
        raise error(f"{path}: cannot read this JSON file ({problem.strerror}). Make it first.") from problem
    if not content.strip():
        raise error(f"{path}: expected JSON, the file is empty: it was not fully written. Make it again.")
    if content.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        found = "UTF-8" if content.startswith(b"\xef") else "UTF-16"
        raise error(
            f"{path}: expected UTF-8 without a byte order mark, found a byte order mark of {found}. "
            "Save it as UTF-8 without a byte order mark."
        )
    try:
        content.decode("utf-8")
    except UnicodeDecodeError as problem:
        raise error(
            f"{path}: not valid JSON: expected UTF-8, byte {problem.start} is not. Save it as UTF-8."
        ) from problem
    return content


def parse_json(path: Path, content: bytes, error: type[CorrLossError]) -> Any:
    """Parse JSON into plain objects; NaN and Infinity are parsed, so that their entry can be named.

    Raises:
        CorrLossError: of type `error`: it is not JSON, or nested too deeply.
    """
    with contextlib.suppress(msgspec.DecodeError, RecursionError):  # twice as fast, but refuses NaN
        return msgspec.json.decode(content)
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as problem:
        raise error(
            f"{path}: expected JSON, this is not valid JSON ({problem}); it may be truncated. "
            "Delete it and make it again."
        ) from problem


@contextlib.contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Pause the garbage collector, which takes half of the time while millions of objects are made."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()
