"""COCO average precision, by the reference implementation or by the fast one."""

import contextlib
import io
import warnings
from typing import Any, Literal

import numpy as np

from corrloss.coco import IOU_TYPES, Detections, GroundTruth, IouType, positions

Backend = Literal["pycocotools", "hotcoco"]
#: The twelve figures in the order of both tools' `stats`.
METRICS = (
    "AP", "AP50", "AP75", "AP_S", "AP_M", "AP_L",
    "AR_1", "AR_10", "AR_100", "AR_S", "AR_M", "AR_L",
)  # fmt: skip
#: Detections of an image and class that COCO counts at most.
MAX_DETECTIONS = 100
#: Detections that mmdet and the paper's release count for the figures below; for AP they count 100.
MANY_DETECTIONS = 1000
OF_MANY_DETECTIONS = ("AP50", "AP75", "AP_S", "AP_M", "AP_L")


def average_precision(
    ground_truth: GroundTruth,
    detections: Detections,
    iou_type: IouType = "bbox",
    backend: Backend = "hotcoco",
    max_detections: int = MAX_DETECTIONS,
) -> dict[str, float]:
    """Return COCO's twelve figures.

    Args:
        ground_truth: from `load_ground_truth`.
        detections: from `load_detections` for the same ground truth and `iou_type`.
        iou_type: "bbox" or "segm".
        backend: "pycocotools" is the reference; "hotcoco" gives the same numbers some eighty times as fast.
        max_detections: detections of an image and class that are counted at most, for all but AR_1 and AR_10.
            With another number than COCO's 100, pycocotools defines no AP (NaN).

    Returns:
        The `METRICS` in points (0–100). NaN where COCO gives -1: no ground truth of that size is in the data.

    Raises:
        ValueError: an unknown `iou_type` or `backend`, or detections of another `iou_type`.
    """
    if iou_type not in IOU_TYPES or detections.iou_type != iou_type:
        raise ValueError(
            f"iou_type is {iou_type!r}, {detections.path} holds {detections.iou_type!r} detections."
        )
    if backend not in BACKENDS:
        raise ValueError(f"backend is {backend!r}; choose one of {', '.join(BACKENDS)}.")
    return _in_points(BACKENDS[backend](ground_truth, detections, [1, 10, max_detections]))


def with_many_detections(
    ground_truth: GroundTruth, detections: Detections, backend: Backend, points: dict[str, float]
) -> dict[str, float]:
    """Return AP50_1000 and so on: `OF_MANY_DETECTIONS` with up to 1,000 detections of an image and class.

    Args:
        ground_truth: Annotations of the test images.
        detections: Boxes or masks of the run on these images.
        backend: Tool that computes AP.
        points: The run's `average_precision`, which holds where no image and class has more than 100.
    """
    image, category = _positions(ground_truth, detections)
    counts = np.bincount(image * len(ground_truth.category_ids) + category)
    if counts.max(initial=0) > MAX_DETECTIONS:
        points = average_precision(
            ground_truth, detections, detections.iou_type, backend, max_detections=MANY_DETECTIONS
        )
    return {f"{name}_{MANY_DETECTIONS}": points[name] for name in OF_MANY_DETECTIONS}


def _in_points(stats: Any) -> dict[str, float]:
    stats = np.asarray(stats, dtype=np.float64)
    points = np.where(stats < 0, np.nan, 100 * stats)
    return dict(zip(METRICS, points.tolist(), strict=True))


def _stats_of_pycocotools(
    ground_truth: GroundTruth, detections: Detections, max_detections: list[int]
) -> list[float]:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        annotations = COCO()
        annotations.dataset = ground_truth.document()
        annotations.createIndex()
        results = _results_of_pycocotools(annotations, ground_truth, detections)
        evaluation = COCOeval(annotations, results, detections.iou_type)
        evaluation.params.maxDets = max_detections
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats


def _results_of_pycocotools(annotations: Any, ground_truth: GroundTruth, detections: Detections) -> Any:
    if len(detections):
        return annotations.loadRes(detections.entries(*_positions(ground_truth, detections)))
    # loadRes infers the type of results from the first entry; a run that detects nothing has none.
    nothing = type(annotations)()
    nothing.dataset = annotations.dataset | {"annotations": []}
    nothing.createIndex()
    return nothing


def _stats_of_hotcoco(
    ground_truth: GroundTruth, detections: Detections, max_detections: list[int]
) -> list[float]:
    evaluation = hotcoco_evaluation(ground_truth, detections, max_detections)
    evaluation.accumulate()
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="hotcoco: max_dets differ")
        evaluation.summarize()
    return evaluation.stats


BACKENDS = {"hotcoco": _stats_of_hotcoco, "pycocotools": _stats_of_pycocotools}


def hotcoco_evaluation(
    ground_truth: GroundTruth, detections: Detections, max_detections: list[int] | None = None
) -> Any:
    """Return a `hotcoco.COCOeval` whose `evaluate` has run; its ids are positions.

    `max_detections` are three limits of detections of an image and class; COCO's unless given.
    """
    import hotcoco

    annotations = ground_truth.in_hotcoco
    image, category = _positions(ground_truth, detections)
    if detections.iou_type == "bbox":
        results = annotations.load_res(np.column_stack((image, detections.bbox, detections.score, category)))
    else:
        results = annotations.load_res(detections.entries(image, category))
    evaluation = hotcoco.COCOeval(annotations, results, detections.iou_type)
    if max_detections is not None:
        evaluation.params.max_dets = max_detections
    evaluation.evaluate()
    return evaluation


def _positions(ground_truth: GroundTruth, detections: Detections) -> tuple[np.ndarray, np.ndarray]:
    """The detections' images and categories by the ids of `GroundTruth.document`."""
    image = positions(detections.image_id, ground_truth.image_ids)
    return image, positions(detections.category_id, ground_truth.category_ids)
