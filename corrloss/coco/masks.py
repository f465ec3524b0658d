"""COCO's three ways to write a mask: polygons, run lengths, and compressed run lengths."""

from collections.abc import Iterator

import numpy as np


def mask_to_rle(mask: np.ndarray) -> dict:
    """Return a mask as COCO's uncompressed run lengths.

    Args:
        mask: bool (height, width).

    Returns:
        `counts`, run lengths column by column, the first of pixels outside, and `size`, [height, width].

    Examples:
        >>> mask_to_rle(np.array([[False, True, True]]))
        {'counts': [1, 2], 'size': [1, 3]}
    """
    flat = np.concatenate([[False], mask.ravel(order="F")])
    changes = np.flatnonzero(flat[1:] != flat[:-1])
    runs = np.diff(np.concatenate([[0], changes, [mask.size]]))
    return {"counts": runs.tolist(), "size": list(mask.shape)}


def mask_to_polygons(mask: np.ndarray) -> list[list[int]]:
    """COCO polygons whose union, as pycocotools rasterises them, is exactly `mask`.

    They follow the edges of the pixels, one polygon for each 4-connected part. COCO's polygons have no
    holes: a part with one is cut in two through the middle of the hole.

    Args:
        mask: bool (height, width).

    Returns:
        Polygons [x0, y0, x1, y1, ...] in pixels, (0, 0) being the outer corner of the first pixel.

    Examples:
        >>> mask_to_polygons(np.array([[False, True, True]]))
        [[1, 0, 3, 0, 3, 1, 1, 1]]
    """
    outlines, holes = [], []
    for loop in _loops(mask):
        x, y = loop[:, 0], loop[:, 1]
        signed_area = int(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y))
        (outlines if signed_area > 0 else holes).append(loop)
    if not holes:
        return [loop.ravel().tolist() for loop in outlines]
    cut = int(holes[0][:, 0].min() + holes[0][:, 0].max() + 1) // 2
    left, right = mask.copy(), mask.copy()
    left[:, cut:] = False
    right[:, :cut] = False
    return mask_to_polygons(left) + mask_to_polygons(right)


def _loops(mask: np.ndarray) -> Iterator[np.ndarray]:
    """The closed outlines of a mask along pixel edges as corners, with the mask to the right of each edge."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if rows.size == 0:
        return
    top, left = int(rows[0]), int(columns[0])
    inside = np.pad(mask[top : rows[-1] + 1, left : columns[-1] + 1], 1)
    core = inside[1:-1, 1:-1]
    steps: dict[tuple[int, int], list[tuple[int, int]]] = {}  # corner -> directions that leave it
    for (dx, dy), neighbour, (ox, oy) in (
        ((1, 0), inside[:-2, 1:-1], (0, 0)),  # nothing above: the top edge, to the right
        ((0, 1), inside[1:-1, 2:], (1, 0)),  # nothing to the right: the right edge, downwards
        ((-1, 0), inside[2:, 1:-1], (1, 1)),
        ((0, -1), inside[1:-1, :-2], (0, 1)),
    ):
        for y, x in np.argwhere(core & ~neighbour).tolist():
            steps.setdefault((left + x + ox, top + y + oy), []).append((dx, dy))
    while steps:
        start = min(steps)
        x, y = start
        dx, dy = steps[start][0]
        corners = []
        while True:
            ways = steps[x, y]
            # At a corner where two parts touch, the right turn follows the same part.
            way = (-dy, dx) if (-dy, dx) in ways else ways[0]
            ways.remove(way)
            if not ways:
                del steps[x, y]
            if way != (dx, dy) or not corners:
                corners.append((x, y))
            dx, dy = way
            x, y = x + dx, y + dy
            if (x, y) == start and start not in steps:
                break
        yield np.array(corners)


def rle_lengths(counts: list[str]) -> np.ndarray:
    """Return how many pixels each compressed run-length encoding covers, -1 if malformed; int64 (n,).

    pycocotools reads past the end of a malformed string, so this decoder checks it first.

    COCO's compression: each run is a little-endian number of 5-bit digits, one character each (digit + 48,
    +32 when more follow, sign in the last digit's bit 16); from the fourth run on it is the difference to the
    run two before.

    Examples:
        >>> rle_lengths(["52", "5", "5R"]).tolist()  # runs 5, 2; a run of 5; a run that never ends
        [7, 5, -1]
    """
    ends = np.cumsum([len(text) for text in counts])
    lengths = np.full(len(counts), -1, dtype=np.int64)
    try:
        characters = np.frombuffer("".join(counts).encode("ascii"), dtype=np.uint8).astype(np.int64) - 48
    except UnicodeEncodeError:
        return np.array([rle_lengths([text])[0] if text.isascii() else -1 for text in counts])
    start = 0
    for index, end in enumerate(ends):
        lengths[index] = _rle_length(characters[start:end])
        start = end
    return lengths


def _rle_length(digits: np.ndarray) -> int:
    more = (digits & 32) > 0
    if len(digits) == 0 or (digits < 0).any() or (digits > 63).any() or more[-1]:
        return -1
    last = np.flatnonzero(~more)
    first = np.concatenate([[0], last[:-1] + 1])
    place = np.arange(len(digits)) - np.repeat(first, last - first + 1)
    if place.max() > 6:  # more than 35 bits: no image is as large
        return -1
    runs = np.add.reduceat((digits & 31) << (5 * place), first)
    runs -= np.where(digits[last] & 16, np.int64(1) << (5 * (last - first + 1)), 0)
    # Differences start at the fourth run: of index 3 to 1, 4 to 2, 5 to 3 and so on.
    runs[1::2] = np.cumsum(runs[1::2])
    runs[2::2] = np.cumsum(runs[2::2])
    return int(runs.sum()) if (runs >= 0).all() else -1
