"""`mini_cityscapes`: small synthetic street scenes in the raw layout of Cityscapes, made from a seed."""

import hashlib
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from cityscapesscripts.helpers.labels import name2label
from PIL import Image, ImageDraw

from corrloss.files import atomic_folder

VERSION = 1
"""Raise it with every change of the generator: it is part of the manifest, so old sets are remade."""

WIDTH, HEIGHT = 256, 128
_HORIZON = 52
_CITIES = {"train": ("kreisstadt", "dreieck"), "val": ("sternheim",)}
MANIFEST = "mini_cityscapes.json"


@dataclass(frozen=True)
class _Kind:
    share: int  # percent of all objects
    low: int  # height in pixels at the horizon
    high: int  # and at the bottom of the image
    colour: tuple[int, int, int]  # the hint at the class
    outline: tuple[tuple[int, int], ...]  # (x, y) per mille of the height, from the foot upwards


_KINDS = {
    "person": _Kind(
        20, 22, 60, (205, 60, 85),
        ((-150, 0), (-190, 550), (-110, 780), (-110, 920), (0, 1000), (110, 920), (110, 780), (190, 550),
         (150, 0)),
    ),
    "rider": _Kind(
        12, 22, 54, (235, 130, 40),
        ((-120, 0), (-330, 420), (-160, 820), (-40, 1000), (170, 1000), (230, 800), (150, 500), (330, 380),
         (60, 300)),
    ),
    "car": _Kind(
        24, 16, 42, (60, 90, 205),
        ((-1000, 0), (-1000, 450), (-620, 550), (-360, 1000), (450, 1000), (700, 550), (1000, 450),
         (1000, 0)),
    ),
    "truck": _Kind(
        9, 26, 56, (60, 160, 165),
        ((-900, 0), (-900, 1000), (320, 1000), (320, 700), (780, 700), (900, 350), (900, 0)),
    ),
    "bus": _Kind(
        9, 28, 58, (225, 190, 50),
        ((-1050, 0), (-1050, 950), (-1000, 1000), (1050, 1000), (1050, 0)),
    ),
    "train": _Kind(
        7, 24, 44, (75, 165, 70),
        ((-1700, 0), (-1700, 800), (-1500, 1000), (1500, 1000), (1700, 800), (1700, 0)),
    ),
    "motorcycle": _Kind(
        8, 18, 38, (150, 70, 175),
        ((-700, 0), (-760, 360), (-300, 600), (-100, 1000), (120, 1000), (160, 600), (520, 560), (760, 300),
         (700, 0)),
    ),
    "bicycle": _Kind(
        11, 18, 38, (125, 70, 45),
        ((-800, 0), (-800, 480), (-320, 600), (-200, 1000), (40, 1000), (-60, 660), (360, 950), (560, 560),
         (800, 420), (800, 0), (330, 0), (0, 260), (-330, 0)),
    ),
}  # fmt: skip
_SCENERY = {
    "sky": (150, 170, 190),
    "building": (110, 105, 100),
    "vegetation": (95, 115, 90),
    "road": (100, 95, 100),
    "sidewalk": (130, 115, 125),
    "ego vehicle": (40, 40, 45),
}


@dataclass(frozen=True)
class _Object:
    label: str  # as in the polygon files: with "group" at its end where it is one
    polygon: list[tuple[int, int]]
    colour: np.ndarray


def make_mini_cityscapes(root: Path, *, train_images: int = 240, val_images: int = 80, seed: int = 0) -> None:
    """Write the synthetic data set `mini_cityscapes`, in Cityscapes' raw layout; docs/data.md describes it.

    Args:
        root: folder to make atomically; nothing is written if it holds this very set (by the digest in its
            manifest, `mini_cityscapes.json`), and an outdated or damaged set is replaced.
        train_images: number of training images, at least 1, spread over two cities.
        val_images: number of validation images, at least 1, in one city.
        seed: any integer from 0 on. Image k of a split depends on the seed, the split and k alone.

    Raises:
        ValueError: a count or the seed is out of range.
        FileExistsError: `root` holds files that are not a mini_cityscapes.
    """
    if train_images < 1 or val_images < 1 or seed < 0:
        raise ValueError(
            "mini_cityscapes needs train_images >= 1, val_images >= 1 and seed >= 0,"
            f" got {train_images}, {val_images} and {seed}"
        )
    root = Path(root)
    recipe = {
        "description": "mini_cityscapes: synthetic street scenes. Fake: not Cityscapes, nor photographs.",
        "version": VERSION,
        "seed": seed,
        "images": {"train": train_images, "val": val_images},
    }
    if _is_made(root, recipe):
        return
    with atomic_folder(root, _is_ours) as new:
        for split, count in recipe["images"].items():
            for index in range(count):
                _write_image(new, seed, split, index)
        manifest = recipe | {"content_sha256": _content_digest(new)}
        (new / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")


def _is_ours(path: PurePosixPath) -> bool:
    folders = path.parts[:-1]
    if path.as_posix() == MANIFEST or (folders == ("annotations",) and path.suffix == ".json"):
        return True  # annotations: converted from the rest, and to be converted again with it
    return (
        len(folders) == 3
        and folders[0] in ("leftImg8bit", "gtFine")
        and folders[2] in _CITIES.get(folders[1], ())
        and path.suffix in (".png", ".json")
    )


def _is_made(root: Path, recipe: dict) -> bool:
    try:
        manifest = json.loads((root / MANIFEST).read_bytes())
        return manifest == recipe | {"content_sha256": _content_digest(root)}
    except (OSError, ValueError, SyntaxError):  # Pillow: SyntaxError on a broken PNG
        return False


def _content_digest(root: Path) -> str:
    """SHA-256 over names, pixels and polygon files: the same wherever the pixels are the same."""
    digest = hashlib.sha256()
    for path in sorted(p for top in ("leftImg8bit", "gtFine") for p in (root / top).rglob("*.*")):
        digest.update(path.relative_to(root).as_posix().encode())
        if path.suffix == ".png":
            with Image.open(path) as image:
                digest.update(np.asarray(image).tobytes())
        else:
            digest.update(path.read_bytes())
    return digest.hexdigest()


def _write_image(root: Path, seed: int, split: str, index: int) -> None:
    city = _CITIES[split][index % len(_CITIES[split])]
    frame = f"{city}_{index // len(_CITIES[split]):06d}_000019"
    rng = np.random.Generator(np.random.PCG64([seed, list(_CITIES).index(split), index]))
    objects = _scene(rng)
    top = _top_object(objects)
    photo = root / "leftImg8bit" / split / city / f"{frame}_leftImg8bit.png"
    truth = root / "gtFine" / split / city
    for folder in (photo.parent, truth):
        folder.mkdir(parents=True, exist_ok=True)
    _save(photo, _pixels(rng, objects, top))
    instances, labels = _ids(objects)
    _save(truth / f"{frame}_gtFine_instanceIds.png", instances[top])
    _save(truth / f"{frame}_gtFine_labelIds.png", labels[top])
    polygons = {
        "imgHeight": HEIGHT,
        "imgWidth": WIDTH,
        "objects": [{"label": thing.label, "polygon": thing.polygon} for thing in objects],
    }
    (truth / f"{frame}_gtFine_polygons.json").write_text(json.dumps(polygons))


def _save(path: Path, pixels: np.ndarray) -> None:
    # Noise does not compress, and the attempt would take most of the time.
    Image.fromarray(pixels).save(path, compress_level=0 if pixels.ndim == 3 else 1)


# Scenes -----------------------------------------------------------------------------------------


def _scene(rng: np.random.Generator) -> list[_Object]:
    """The scenery and the road users of one image, from back to front."""
    scene = _scenery(rng)
    if rng.integers(100) < 3:
        return scene
    if rng.integers(100) < 20:
        scene.append(_group(rng))
    feet = sorted(int(foot) for foot in rng.integers(_HORIZON + 6, HEIGHT - 4, rng.integers(2, 8)))
    return scene + [_road_user(rng, foot) for foot in feet]


def _scenery(rng: np.random.Generator) -> list[_Object]:
    edge = _HORIZON + int(rng.integers(-4, 5))
    skyline = [(x, int(rng.integers(8, edge - 6))) for x in range(0, WIDTH + 32, 32)]
    kerb = int(rng.integers(10, 60))
    parts = {
        "sky": [(0, 0), (WIDTH, 0), (WIDTH, edge), (0, edge)],
        ("building", "vegetation")[rng.integers(2)]: [*skyline, (WIDTH, edge), (0, edge)],
        "road": [(0, edge), (WIDTH, edge), (WIDTH, HEIGHT), (0, HEIGHT)],
        "sidewalk": [(0, edge), (kerb, edge), (0, HEIGHT - 20)],
        "ego vehicle": [(60, HEIGHT), (80, HEIGHT - 6), (WIDTH - 80, HEIGHT - 6), (WIDTH - 60, HEIGHT)],
    }
    return [
        _Object(label, polygon, np.array(_SCENERY[label]) + rng.integers(-10, 11, 3))
        for label, polygon in parts.items()
    ]


def _road_user(rng: np.random.Generator, foot: int) -> _Object:
    label = _label(rng)
    kind = _KINDS[label]
    near = 100 * (foot - _HORIZON) // (HEIGHT - _HORIZON)
    height = (kind.low + (kind.high - kind.low) * near // 100) * int(rng.integers(85, 116)) // 100
    x, mirror = int(rng.integers(10, WIDTH - 10)), int(rng.integers(2)) * 2 - 1
    polygon = [(x + mirror * u * height // 1000, foot - v * height // 1000) for u, v in kind.outline]
    return _Object(label, polygon, np.array(kind.colour) + rng.integers(-20, 21, 3))


def _group(rng: np.random.Generator) -> _Object:
    """A distant crowd whose members cannot be separated: one uneven band of one class."""
    label = _label(rng)
    x, width, foot = int(rng.integers(WIDTH - 60)), int(rng.integers(30, 70)), _HORIZON + 8
    back = [(x + width * k // 6, foot - int(rng.integers(8, 16))) for k in range(7)]
    colour = np.array(_KINDS[label].colour) + rng.integers(-20, 21, 3)
    return _Object(label + "group", [(x, foot), *back, (x + width, foot)], colour)


def _label(rng: np.random.Generator) -> str:
    shares = np.cumsum([kind.share for kind in _KINDS.values()])
    return list(_KINDS)[np.searchsorted(shares, rng.integers(100), side="right")]


# Images -----------------------------------------------------------------------------------------


def _top_object(objects: list[_Object]) -> np.ndarray:
    """Which object (an index, 0 for none, k + 1 for object k) is seen at each pixel.

    Drawn by the call with which cityscapesscripts draw the official id images, so no pixel differs.
    """
    canvas = Image.new("I", (WIDTH, HEIGHT), 0)
    pencil = ImageDraw.Draw(canvas)
    for number, thing in enumerate(objects, 1):
        pencil.polygon(thing.polygon, fill=number)
    return np.asarray(canvas)


def _pixels(rng: np.random.Generator, objects: list[_Object], top: np.ndarray) -> np.ndarray:
    colours = np.array([np.zeros(3), *(thing.colour for thing in objects)], np.int16)
    return np.clip(colours[top] + rng.integers(-8, 9, (*top.shape, 3), np.int16), 0, 255).astype(np.uint8)


def _ids(objects: list[_Object]) -> tuple[np.ndarray, np.ndarray]:
    """For each object (0 for none, k + 1 for object k) its instance id, uint16, and label id, uint8.

    An instance has 1000 times its label's id, and a running number; a group has the label's id alone.
    """
    instances, labels, seen = [0], [0], Counter()
    for thing in objects:
        label = name2label.get(thing.label) or name2label[thing.label.removesuffix("group")]
        labels.append(label.id)
        if label.hasInstances and label.name == thing.label:
            instances.append(1000 * label.id + seen[label.name])
            seen[label.name] += 1
        else:
            instances.append(label.id)
    return np.array(instances, np.uint16), np.array(labels, np.uint8)
