"""`mini_coco`: a small synthetic detection data set in COCO's layout, made from a seed in seconds.

Everything is integer arithmetic, so one seed gives the same pixels and JSON on every machine.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from PIL import Image

from corrloss.coco.masks import mask_to_polygons, mask_to_rle
from corrloss.files import atomic_folder

VERSION = 2
"""Raise it with every change of the generator: it is part of the annotations, so old sets are remade."""

CATEGORIES = (
    {"id": 1, "name": "circle", "supercategory": "shape"},
    {"id": 2, "name": "square", "supercategory": "shape"},
    {"id": 4, "name": "triangle", "supercategory": "shape"},
    {"id": 7, "name": "star", "supercategory": "shape"},
)
"""As in COCO, the ids have gaps: code that takes an id for an index fails here too."""

_FREQUENCY = (36, 28, 20, 16)  # percent, in the order of CATEGORIES
_COLOUR = ((205, 70, 60), (70, 125, 205), (75, 175, 85), (215, 180, 60))  # the hint at the class
_SIZES = ((128, 128), (160, 120), (120, 160), (128, 96), (96, 128), (144, 112))  # width, height

_OFF_COLOUR = 4  # percent of objects whose colour says nothing about their class
_NEXT_TO_PREVIOUS = 30  # percent of objects that are set beside, often over, the one before
_SAME_AS_PREVIOUS = 75  # percent of those that take its class too: this is where NMS matters
_EMPTY_IMAGE = 3  # percent of images with no object
_GROUP = 8  # percent of images with a crowd of tiny shapes
_HIDDEN_BELOW = 30  # percent of an object's pixels; with fewer in sight it is marked to be ignored
_MIN_PIXELS = 16  # the same, in pixels

_SUB = 16  # vertices lie on a grid of 1/16 pixel
_ROTATIONS = ((1, 0, 1), (24, 7, 25), (12, 5, 13), (4, 3, 5), (3, 4, 5), (5, 12, 13), (7, 24, 25))
_SQUARE = ((-850, -850), (850, -850), (850, 850), (-850, 850))  # per mille of the radius
_TRIANGLE = ((0, -1000), (950, 800), (-950, 800))
_TIPS = ((0, -1000), (951, -309), (588, 809), (-588, 809), (-951, -309))  # 72 degrees apart
_STAR = tuple(
    corner
    for k, tip in enumerate(_TIPS)
    for corner in (
        tip,
        (-_TIPS[k - 2][0] * 12 // 25, -_TIPS[k - 2][1] * 12 // 25),
    )  # opposite a tip, drawn in
)


class _Plan(NamedTuple):
    """Where an object goes; in the order by which objects are drawn, the largest first."""

    radius: int
    category: int  # index into CATEGORIES
    x: int
    y: int


@dataclass
class _Object:
    category: int  # index into CATEGORIES
    mask: np.ndarray  # bool (height, width), all its pixels inside the image, seen or not
    colour: np.ndarray
    is_group: bool = False


def make_mini_coco(root: Path, *, train_images: int = 400, val_images: int = 200, seed: int = 0) -> None:
    """Write the synthetic data set `mini_coco` under `root`, in COCO's layout; docs/data.md describes it.

    Boxes, areas and polygons are exact for the visible pixels: pycocotools rasterises each `segmentation` to
    just the pixels drawn. Three rules decide what is annotated:

    - an object of which at least 30 percent and 16 pixels are visible is annotated with polygons;
    - one with less visible is annotated with an RLE, `iscrowd: 1` and `ignore: 1` (mmdet drops it
      from training for the second, pycocotools ignores it in evaluation for the first);
    - one that is wholly hidden is left out.

    A group of tiny shapes of one class is one annotation with an RLE and `iscrowd: 1`.

    Args:
        root: folder to make atomically; nothing is written if it holds this very set (by the digests in its
            annotations), and an outdated or damaged set is replaced.
        train_images: number of training images, at least 1.
        val_images: number of validation images, at least 1.
        seed: any integer from 0 on. Image k of a split depends on the seed, the split and k alone.

    Raises:
        ValueError: a count or the seed is out of range.
        FileExistsError: `root` holds files that are not a mini_coco.
    """
    if train_images < 1 or val_images < 1 or seed < 0:
        raise ValueError(
            f"mini_coco needs train_images >= 1, val_images >= 1 and seed >= 0,"
            f" got {train_images}, {val_images} and {seed}"
        )
    root = Path(root)
    counts = {"train": train_images, "val": val_images}
    if all(_is_made(root, split, count, seed) for split, count in counts.items()):
        return
    with atomic_folder(root, _is_ours) as new:
        for split, count in counts.items():
            _write_split(new, split, count, seed)


def _write_split(root: Path, split: str, count: int, seed: int) -> None:
    folder = root / split
    folder.mkdir(parents=True)
    images, annotations = [], []
    pixels = hashlib.sha256()
    for index in range(count):
        image, found = _draw(seed, split, index)
        image_id = 3 * index + (1 if split == "train" else 2)  # gaps, and no id in both splits
        name = f"{image_id:012d}.png"
        height, width, _ = image.shape
        images.append({"id": image_id, "file_name": name, "width": width, "height": height, "license": 1})
        for annotation in found:
            annotations.append({"id": len(annotations) + 1, "image_id": image_id, **annotation})
        pixels.update(image.tobytes())
        Image.fromarray(image).save(folder / name, compress_level=0)  # noise does not compress
    content = {"images": images, "annotations": annotations, "categories": list(CATEGORIES)}
    info = _info(split, seed) | {
        "pixels_sha256": pixels.hexdigest(),
        "content_sha256": hashlib.sha256(_dump(content)).hexdigest(),
    }
    licenses = [{"id": 1, "name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"}]
    path = _annotation_file(root, split)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(_dump({"info": info, "licenses": licenses} | content))


def _info(split: str, seed: int) -> dict:
    return {
        "description": f"mini_coco {split}: synthetic shapes. Fake: not COCO, nor photographs of anything.",
        "contributor": "corrloss.data.mini_coco",
        "version": str(VERSION),
        "seed": seed,
    }


def _annotation_file(root: Path, split: str) -> Path:
    return root / "annotations" / f"instances_{split}.json"


def _dump(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()


# What is in the folder already ------------------------------------------------------------------


def _is_made(root: Path, split: str, count: int, seed: int) -> bool:
    """Whether `root` holds this split of this set, unharmed to the last pixel."""
    try:
        found = json.loads(_annotation_file(root, split).read_bytes())
        info = found["info"]
        content = {key: found[key] for key in ("images", "annotations", "categories")}
        if (
            len(content["images"]) != count
            or info | _info(split, seed) != info
            or info["content_sha256"] != hashlib.sha256(_dump(content)).hexdigest()
        ):
            return False
        pixels = hashlib.sha256()
        for image in content["images"]:
            pixels.update(np.asarray(Image.open(root / split / image["file_name"])).tobytes())
        return pixels.hexdigest() == info["pixels_sha256"]
    except (OSError, ValueError, KeyError, TypeError, SyntaxError):  # Pillow: SyntaxError on a broken PNG
        return False


def _is_ours(path: PurePosixPath) -> bool:
    return (path.parent.as_posix(), path.suffix) in {
        ("train", ".png"),
        ("val", ".png"),
        ("annotations", ".json"),
    }


# One image --------------------------------------------------------------------------------------


def _draw(seed: int, split: str, index: int) -> tuple[np.ndarray, list[dict]]:
    """Image `index` of a split: its pixels, uint8 (height, width, 3), and its annotations."""
    rng = np.random.Generator(np.random.PCG64([seed, ("train", "val").index(split), index]))
    width, height = _SIZES[rng.integers(len(_SIZES))]
    canvas = _background(rng, height, width)
    owner = np.full((height, width), -1)  # which object is on top
    objects = list(_objects(rng, height, width))
    for number, thing in enumerate(objects):
        canvas[thing.mask] = thing.colour
        owner[thing.mask] = number
    canvas += rng.integers(-8, 9, canvas.shape)
    found = (_annotate(thing, owner == number) for number, thing in enumerate(objects))
    return np.clip(canvas, 0, 255).astype(np.uint8), [a for a in found if a is not None]


def _background(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A grey that leans a little to some colour and gets a little brighter to some side."""
    colour = rng.integers(90, 150) + rng.integers(-12, 13, 3)
    right, down = rng.integers(-30, 31, 2)
    y, x = np.mgrid[:height, :width]
    return colour + (right * x // width + down * y // height)[..., None]


def _objects(rng: np.random.Generator, height: int, width: int) -> Iterator[_Object]:
    """The objects of one image, the hindmost (the largest) first; crowds behind them all."""
    if _percent(rng, _EMPTY_IMAGE):
        return
    if _percent(rng, _GROUP):
        yield _group(rng, height, width)
    plans: list[_Plan] = []
    for _ in range(rng.integers(2, 8)):
        if plans and _percent(rng, _NEXT_TO_PREVIOUS):
            plans.append(_beside(rng, plans[-1], height, width))
        else:
            plans.append(_apart(rng, plans, height, width))
    for plan in sorted(plans, reverse=True):
        mask = _shape(rng, plan, height, width)
        if mask.any():
            yield _Object(plan.category, mask, _colour(rng, plan.category))


def _apart(rng: np.random.Generator, plans: list[_Plan], height: int, width: int) -> _Plan:
    """A place that touches none of the others, if one is found in a few tries."""
    category, radius = _category(rng), _radius(rng, min(height, width))
    for _ in range(6):
        x, y = _centre(rng, radius, height, width)
        if all((x - p.x) ** 2 + (y - p.y) ** 2 > (radius + p.radius) ** 2 for p in plans):
            break
    return _Plan(radius, category, x, y)


def _beside(rng: np.random.Generator, last: _Plan, height: int, width: int) -> _Plan:
    """A place within reach of another object, which it often overlaps, and often of its class."""
    category, radius = _category(rng), _radius(rng, min(height, width))
    if _percent(rng, _SAME_AS_PREVIOUS):
        category = last.category
    reach = radius + last.radius
    x, y = last.x + int(rng.integers(-reach, reach + 1)), last.y + int(rng.integers(-reach, reach + 1))
    return _Plan(radius, category, min(max(x, 0), width - 1), min(max(y, 0), height - 1))


def _group(rng: np.random.Generator, height: int, width: int) -> _Object:
    """Some ten tiny shapes of one class, close together: too many to be told apart."""
    category = _category(rng)
    x, y = int(rng.integers(20, width - 20)), int(rng.integers(20, height - 20))
    mask = np.zeros((height, width), bool)
    for _ in range(rng.integers(8, 15)):
        dx, dy = rng.integers(-16, 17, 2)
        plan = _Plan(int(rng.integers(3, 6)), category, x + int(dx), y + int(dy))
        mask |= _shape(rng, plan, height, width)
    return _Object(category, mask, _colour(rng, category), is_group=True)


def _percent(rng: np.random.Generator, chance: int) -> bool:
    return bool(rng.integers(100) < chance)


def _category(rng: np.random.Generator) -> int:
    return int(np.searchsorted(np.cumsum(_FREQUENCY), rng.integers(100), side="right"))


def _radius(rng: np.random.Generator, side: int) -> int:
    """Half the extent of an object in pixels; `side` is the shorter side of the image."""
    kind = np.searchsorted((8, 32, 96), rng.integers(100), side="right")
    low, high = ((7, 11), (11, 18), (18, 34), (side // 2, side // 2 + 8))[kind]
    return int(rng.integers(low, high))


def _centre(rng: np.random.Generator, radius: int, height: int, width: int) -> tuple[int, int]:
    """Half the radius off the border or more; near the middle for what would fill the image."""
    margin = min(radius // 2, min(height, width) // 2 - 8) if 2 * radius <= min(height, width) - 16 else 0
    if margin == 0:
        return width // 2 + int(rng.integers(-8, 9)), height // 2 + int(rng.integers(-8, 9))
    return int(rng.integers(margin, width - margin)), int(rng.integers(margin, height - margin))


def _colour(rng: np.random.Generator, category: int) -> np.ndarray:
    if _percent(rng, _OFF_COLOUR):
        return rng.integers(40, 226, 3)
    return np.array(_COLOUR[category]) + rng.integers(-18, 19, 3)


# Shapes as masks --------------------------------------------------------------------------------


def _shape(rng: np.random.Generator, plan: _Plan, height: int, width: int) -> np.ndarray:
    """Pixels of a shape, turned at random, cut at the image's border; bool (height, width)."""
    radius, category, x, y = plan
    name = CATEGORIES[category]["name"]
    if name == "circle":
        rows, columns = np.ogrid[:height, :width]
        return (columns - x) ** 2 + (rows - y) ** 2 <= radius * radius
    corners = {"square": _SQUARE, "triangle": _TRIANGLE, "star": _STAR}[name]
    cos, sin, unit = _ROTATIONS[rng.integers(len(_ROTATIONS))]
    sin *= int(rng.integers(2)) * 2 - 1
    scale = radius * _SUB
    vertices = [
        (
            (2 * x + 1) * _SUB // 2 + (u * cos - v * sin) * scale // (1000 * unit),
            (2 * y + 1) * _SUB // 2 + (u * sin + v * cos) * scale // (1000 * unit),
        )
        for u, v in corners
    ]
    return _fill(vertices, height, width)


def _fill(vertices: list[tuple[int, int]], height: int, width: int) -> np.ndarray:
    """Pixels whose centre is inside a polygon (even-odd rule), in exact integer arithmetic.

    Args:
        vertices: corners in 1/16 pixel.
    """
    xs, ys = zip(*vertices, strict=True)
    left, right = np.clip((min(xs) // _SUB, max(xs) // _SUB + 1), 0, width)
    top, bottom = np.clip((min(ys) // _SUB, max(ys) // _SUB + 1), 0, height)
    rows, columns = np.ogrid[top:bottom, left:right]
    px, py = columns * _SUB + _SUB // 2, rows * _SUB + _SUB // 2
    window = np.zeros((bottom - top, right - left), bool)
    for (x0, y0), (x1, y1) in zip(vertices, vertices[1:] + vertices[:1], strict=True):
        if y0 > y1:
            x0, y0, x1, y1 = x1, y1, x0, y0
        crosses_row = (y0 <= py) & (py < y1)
        window ^= crosses_row & ((px - x0) * (y1 - y0) < (py - y0) * (x1 - x0))
    inside = np.zeros((height, width), bool)
    inside[top:bottom, left:right] = window
    return inside


# Masks as annotations ---------------------------------------------------------------------------


def _annotate(thing: _Object, visible: np.ndarray) -> dict | None:
    """The COCO annotation of an object's visible pixels; None where there are none."""
    area = int(visible.sum())
    if area == 0:
        return None
    rows, columns = np.flatnonzero(visible.any(1)), np.flatnonzero(visible.any(0))
    x, y = int(columns[0]), int(rows[0])
    annotation = {
        "category_id": CATEGORIES[thing.category]["id"],
        "bbox": [x, y, int(columns[-1]) + 1 - x, int(rows[-1]) + 1 - y],
        "area": area,
    }
    hidden = area < _MIN_PIXELS or 100 * area < _HIDDEN_BELOW * int(thing.mask.sum())
    if hidden or thing.is_group:
        flags = {"iscrowd": 1, "ignore": 1} if hidden else {"iscrowd": 1}
        return annotation | {"segmentation": mask_to_rle(visible)} | flags
    return annotation | {"segmentation": mask_to_polygons(visible), "iscrowd": 0}
