"""COCO average precision, by the reference implementation or by the fast one."""

import contextlib
import io
from typing import Any, Literal

import numpy as np

from corrloss.coco import IOU_TYPES, Detections, GroundTruth, IouType, positions

Backend = Literal["pycocotools", "hotcoco"]
#: The twelve figures in the order of both tools' `stats`.
METRICS = (
    "AP", "AP50", "AP75", "AP_S", "AP_M", "AP_L",
    "AR_1", "AR_10", "AR_100", "AR_S", "AR_M", "AR_L",
)  # fmt: skip


def average_precision(
    ground_truth: GroundTruth,
    detections: Detections,
    iou_type: IouType = "bbox",
    backend: Backend = "hotcoco",
) -> dict[str, float]:
    """Return COCO's twelve figures.

    Args:
        ground_truth: what `load_ground_truth` gave.
        detections: what `load_detections` gave for the same ground truth and `iou_type`.
        iou_type: "bbox" or "segm".
        backend: "pycocotools" is the reference; "hotcoco" gives the same numbers some eighty times as fast.

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
    return _in_points(BACKENDS[backend](ground_truth, detections))


def _in_points(stats: Any) -> dict[str, float]:
    stats = np.asarray(stats, dtype=np.float64)
    points = np.where(stats < 0, np.nan, 100 * stats)
    return dict(zip(METRICS, points.tolist(), strict=True))


def _stats_of_pycocotools(ground_truth: GroundTruth, detections: Detections) -> list[float]:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        annotations = COCO()
        annotations.dataset = ground_truth.document()
        annotations.createIndex()
        results = _results_of_pycocotools(annotations, ground_truth, detections)
        evaluation = COCOeval(annotations, results, detections.iou_type)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats


def _results_of_pycocotools(annotations: Any, ground_truth: GroundTruth, detections: Detections) -> Any:
    if len(detections):
        return annotations.loadRes(detections.entries(*_positions(ground_truth, detections)))
    # loadRes looks at the first entry to learn what it holds; a run that detects nothing has none.
    nothing = type(annotations)()
    nothing.dataset = annotations.dataset | {"annotations": []}
    nothing.createIndex()
    return nothing


def _stats_of_hotcoco(ground_truth: GroundTruth, detections: Detections) -> list[float]:
    evaluation = hotcoco_evaluation(ground_truth, detections)
    evaluation.accumulate()
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation.summarize()
    return evaluation.stats


BACKENDS = {"hotcoco": _stats_of_hotcoco, "pycocotools": _stats_of_pycocotools}


def hotcoco_evaluation(ground_truth: GroundTruth, detections: Detections) -> Any:
    """Return a `hotcoco.COCOeval` whose `evaluate` has run; its ids are positions."""
    import hotcoco

    annotations = ground_truth.in_hotcoco
    image, category = _positions(ground_truth, detections)
    if detections.iou_type == "bbox":
        results = annotations.load_res(np.column_stack((image, detections.bbox, detections.score, category)))
    else:
        results = annotations.load_res(detections.entries(image, category))
    evaluation = hotcoco.COCOeval(annotations, results, detections.iou_type)
    evaluation.evaluate()
    return evaluation


def _positions(ground_truth: GroundTruth, detections: Detections) -> tuple[np.ndarray, np.ndarray]:
    """The detections' images and categories by the ids of `GroundTruth.document`."""
    image = positions(detections.image_id, ground_truth.image_ids)
    return image, positions(detections.category_id, ground_truth.category_ids)
