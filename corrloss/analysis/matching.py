"""COCO's greedy matching of detections to ground truth, all groups, thresholds and sizes at once.

The rule is that of pycocotools' `evaluateImg`: within an image and a category, detections choose in the order
of their scores; each takes the free regular annotation of highest IoU, or failing that the best ignored one
(a crowd, or an annotation outside the size range); crowds may be taken many times; of equal IoUs the later
annotation in the file wins. A detection on an ignored annotation, or an unmatched one outside the size range,
counts neither as true nor as false.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from corrloss.analysis.ap import MAX_DETECTIONS
from corrloss.coco import Detections, GroundTruth, positions

#: COCO's ten IoU thresholds.
THRESHOLDS = np.linspace(0.5, 0.95, 10)
#: COCO's size ranges in square pixels, both ends included.
AREAS = {"all": (0, 1e10), "S": (0, 32**2), "M": (32**2, 96**2), "L": (96**2, 1e10)}


@dataclass(frozen=True)
class Pairs:
    """Detections and annotations of one image and category that overlap enough, n pairs.

    Attributes:
        row: int64 (n,), index into `Matches.detection`, ascending.
        annotation: int64 (n,), index into the columns of the ground truth.
        iou: float64 (n,); with a crowd, the part of the detection that lies in it.
    """

    row: np.ndarray
    annotation: np.ndarray
    iou: np.ndarray


@dataclass(frozen=True)
class Matches:
    """Who matched whom, for A size ranges, T thresholds and m kept detections.

    Attributes:
        areas: the size ranges' names.
        thresholds: float64 (T,).
        detection: int64 (m,), index into the detections; ordered by image, category and falling score.
        image: int64 (m,), index into `GroundTruth.image_ids`.
        category: int64 (m,), index into `GroundTruth.category_ids`.
        score: float64 (m,).
        pairs: the candidates.
        pair: int32 (A, T, m), index into `pairs` of the match, -1 for none.
        ignored: bool (A, T, m), neither true nor false.
        outside: bool (A, m), the detection itself is outside the size range.
        annotation_ignored: bool (A, n_annotations).
    """

    areas: tuple[str, ...]
    thresholds: np.ndarray
    detection: np.ndarray
    image: np.ndarray
    category: np.ndarray
    score: np.ndarray
    pairs: Pairs
    pair: np.ndarray
    ignored: np.ndarray
    outside: np.ndarray
    annotation_ignored: np.ndarray

    def index(self, area: str, threshold: float) -> tuple[int, int]:
        """Return the indices of the size range and the threshold in the first two axes.

        Raises:
            ValueError: they were not matched.
        """
        at = np.flatnonzero(np.isclose(self.thresholds, threshold))
        if len(at) == 0 or area not in self.areas:
            raise ValueError(
                f"threshold {threshold} of area {area!r} was not matched; "
                f"matched: {self.thresholds.tolist()} of {', '.join(self.areas)}."
            )
        return self.areas.index(area), int(at[0])

    @cached_property
    def is_true(self) -> np.ndarray:
        """Whether a detection is a true positive, bool (A, T, m)."""
        return (self.pair >= 0) & ~self.ignored

    @cached_property
    def is_false(self) -> np.ndarray:
        """Whether a detection is a false positive, bool (A, T, m)."""
        return (self.pair < 0) & ~self.ignored


def match(
    ground_truth: GroundTruth,
    detections: Detections,
    thresholds: np.ndarray = THRESHOLDS,
    areas: tuple[str, ...] = tuple(AREAS),
    max_detections: int = MAX_DETECTIONS,
) -> Matches:
    """Match detections to ground truth as pycocotools does.

    Args:
        ground_truth: from `load_ground_truth`.
        detections: from `load_detections`; boxes are compared by box IoU, masks by mask IoU.
        thresholds: (T,) IoUs in (0, 1], ascending or not.
        areas: names of `AREAS`.
        max_detections: detections of an image and category that are matched at most, by score.

    Raises:
        KeyError: an unknown area.
    """
    thresholds = np.atleast_1d(np.asarray(thresholds, dtype=np.float64))
    n_categories = len(ground_truth.category_ids)
    image = positions(detections.image_id, ground_truth.image_ids)
    category = positions(detections.category_id, ground_truth.category_ids)
    group = image * n_categories + category
    order = np.lexsort((-detections.score, group))
    order = order[rank_in_group(group[order]) < max_detections]
    pairs = _candidate_pairs(ground_truth, detections, order, group[order], thresholds.min())
    area = _areas(detections)[order]
    outside = np.stack([_outside(area, AREAS[name]) for name in areas])
    annotation_ignored = np.stack([ignored_annotations(ground_truth, name) for name in areas])
    shape = (len(areas), len(thresholds), len(order))
    pair, ignored = np.full(shape, -1, dtype=np.int32), np.zeros(shape, dtype=bool)
    for index in range(len(areas)):
        pair[index] = _greedy(
            pairs, group[order], annotation_ignored[index], ground_truth.is_crowd, thresholds
        )
        ignored[index] = (pair[index] < 0) & outside[index]
        if len(pairs.row):
            on_ignored = annotation_ignored[index][pairs.annotation]
            ignored[index] |= (pair[index] >= 0) & on_ignored[pair[index]]
    return Matches(
        areas=tuple(areas),
        thresholds=thresholds,
        detection=order,
        image=image[order],
        category=category[order],
        score=detections.score[order],
        pairs=pairs,
        pair=pair,
        ignored=ignored,
        outside=outside,
        annotation_ignored=annotation_ignored,
    )


def box_iou(box: np.ndarray, other: np.ndarray, is_crowd: np.ndarray) -> np.ndarray:
    """Return the IoU of boxes row by row, float64 (n,), in the same arithmetic as pycocotools.

    Args:
        box: (n, 4) detections, x, y, width, height.
        other: (n, 4) annotations.
        is_crowd: (n,) whether to divide by the detection's area instead of the union.

    >>> box_iou(np.array([[0, 0, 2, 2.0]]), np.array([[1, 0, 2, 2.0]]), np.array([False])).round(4).tolist()
    [0.3333]
    """
    width = np.minimum(box[:, 0] + box[:, 2], other[:, 0] + other[:, 2]) - np.maximum(box[:, 0], other[:, 0])
    height = np.minimum(box[:, 1] + box[:, 3], other[:, 1] + other[:, 3]) - np.maximum(box[:, 1], other[:, 1])
    overlap = np.where((width > 0) & (height > 0), width * height, 0.0)
    area = box[:, 2] * box[:, 3]
    union = np.where(is_crowd, area, area + other[:, 2] * other[:, 3] - overlap)
    return np.divide(overlap, union, out=np.zeros_like(overlap), where=overlap > 0)


def annotation_masks(ground_truth: GroundTruth, chosen: np.ndarray) -> list[dict]:
    """Return the run-length encodings of the chosen annotations (indices), polygons drawn as COCO does."""
    from pycocotools import mask as coco_mask

    sizes = ground_truth.image_sizes[positions(ground_truth.image_id[chosen], ground_truth.image_ids)]
    masks = []
    for index, (height, width) in zip(chosen.tolist(), sizes.tolist(), strict=True):
        shape = ground_truth.segmentation[index]
        if isinstance(shape, list):
            masks.append(coco_mask.merge(coco_mask.frPyObjects(shape, height, width)))
        elif isinstance(shape["counts"], list):
            masks.append(coco_mask.frPyObjects(shape, height, width))
        else:
            masks.append(shape)
    return masks


def ignored_annotations(ground_truth: GroundTruth, area: str) -> np.ndarray:
    """Return which annotations a size range ignores, bool (n,): crowds and those outside of the range."""
    return ground_truth.is_crowd | _outside(ground_truth.area, AREAS[area])


def _areas(detections: Detections) -> np.ndarray:
    if detections.iou_type == "bbox":
        return detections.bbox[:, 2] * detections.bbox[:, 3]
    from pycocotools import mask as coco_mask

    # One by one: given a list, pycocotools 2.0.11 fails with numpy 2 on more than 255 masks.
    return np.array([coco_mask.area(mask) for mask in detections.segmentation], dtype=np.float64)


def _outside(area: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    return (area < limits[0]) | (area > limits[1])


def rank_in_group(sorted_group: np.ndarray) -> np.ndarray:
    """Return 0, 1, 2, ... within each run of equal values."""
    index = np.arange(len(sorted_group))
    is_first = np.ones(len(sorted_group), dtype=bool)
    is_first[1:] = sorted_group[1:] != sorted_group[:-1]
    return index - np.maximum.accumulate(np.where(is_first, index, 0))


def _candidate_pairs(
    ground_truth: GroundTruth, detections: Detections, order: np.ndarray, group: np.ndarray, lowest: float
) -> Pairs:
    """Pair each kept detection with the annotations of its image and category; IoU of `lowest` or more."""
    image = positions(ground_truth.image_id, ground_truth.image_ids)
    category = positions(ground_truth.category_id, ground_truth.category_ids)
    annotation_group = image * len(ground_truth.category_ids) + category
    by_group = np.argsort(annotation_group, kind="stable")
    first = np.searchsorted(annotation_group[by_group], group, side="left")
    count = np.searchsorted(annotation_group[by_group], group, side="right") - first
    row = np.repeat(np.arange(len(order)), count)
    step = np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count)
    annotation = by_group[np.repeat(first, count) + step]
    if detections.iou_type == "bbox":
        crowd = ground_truth.is_crowd[annotation]
        iou = box_iou(detections.bbox[order[row]], ground_truth.bbox[annotation], crowd)
    else:
        iou = _mask_iou(ground_truth, detections, order[row], annotation, group[row])
    kept = iou >= min(lowest, 1 - 1e-10)
    return Pairs(row[kept], annotation[kept], iou[kept])


def _mask_iou(
    ground_truth: GroundTruth,
    detections: Detections,
    detection: np.ndarray,
    annotation: np.ndarray,
    group: np.ndarray,
) -> np.ndarray:
    """Return the mask IoU of pairs, float64 (n,); pairs of one group (all with all) are adjacent."""
    from pycocotools import mask as coco_mask

    iou = np.zeros(len(group))
    for pairs in np.split(np.arange(len(group)), np.flatnonzero(np.diff(group)) + 1):
        if len(pairs) == 0:
            continue
        n_annotations = int((detection[pairs] == detection[pairs[0]]).sum())
        rows, columns = detection[pairs[::n_annotations]], annotation[pairs[:n_annotations]]
        iou[pairs] = np.ravel(
            coco_mask.iou(
                [detections.segmentation[i] for i in rows.tolist()],
                annotation_masks(ground_truth, columns),
                ground_truth.is_crowd[columns].astype(np.uint8).tolist(),
            )
        )
    return iou


def _greedy(
    pairs: Pairs, group: np.ndarray, ignored: np.ndarray, crowd: np.ndarray, thresholds: np.ndarray
) -> np.ndarray:
    """Match by rank, the k-th detection of every group at once; int32 (T, m), index of the pair or -1."""
    chosen = np.full((len(thresholds), len(group)), -1, dtype=np.int32)
    if len(pairs.row) == 0:
        return chosen
    lowest = np.minimum(thresholds, 1 - 1e-10)[:, None]
    rows, place = np.unique(pairs.row, return_inverse=True)
    turn = rank_in_group(group[rows])
    # COCO matches the first free annotation in this order.
    preference = np.lexsort(
        (-pairs.annotation, -pairs.iou, ignored[pairs.annotation], pairs.row, turn[place])
    )
    turns = turn[place][preference]
    taken = np.zeros((len(thresholds), len(ignored)), dtype=bool)
    for candidates in np.split(preference, np.flatnonzero(np.diff(turns)) + 1):
        annotation, row = pairs.annotation[candidates], pairs.row[candidates]
        first = np.flatnonzero(np.concatenate([[True], np.diff(row) != 0]))
        free = ~taken[:, annotation] & (pairs.iou[candidates] >= lowest)
        best = np.minimum.reduceat(np.where(free, np.arange(len(row)), len(row)), first, axis=1)
        threshold, winner = np.nonzero(best < len(row))
        best = best[threshold, winner]
        chosen[threshold, row[best]] = candidates[best]
        single = ~crowd[annotation[best]]
        taken[threshold[single], annotation[best][single]] = True
    return chosen
