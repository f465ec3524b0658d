"""Every figure of one run, from the files in its folder."""

import os
from dataclasses import asdict
from math import isnan

from corrloss.analysis.ap import METRICS, Backend, average_precision
from corrloss.analysis.bounds import ORDERS, bound_after_nms
from corrloss.analysis.correlation import (
    POSITIVE_IOU,
    SWEEP,
    Correlation,
    Positives,
    load_positives,
    rho_cls,
    rho_img,
    sweep,
)
from corrloss.analysis.matching import match
from corrloss.analysis.tide import OLRP, TIDE, optimal_lrp, tide_errors
from corrloss.coco.reading import Detections, GroundTruth, load_detections, load_ground_truth
from corrloss.run import RunFolder

RHO = ("rho_cls", "rho_img")


def metric_names(masks: bool) -> list[str]:
    """Keys that `run_metrics` gives of a folder with all files, with masks or without."""
    correlation = list(_flat("", Correlation(*[0.0] * 4, 0, 0)))
    swept = [f"{suffix}_at_{threshold}" for threshold in SWEEP for suffix in ("", "_left_out")]
    return [
        *METRICS,
        *(f"mask_{name}" for name in METRICS if masks),
        *OLRP,
        *(f"{name}{suffix}" for name in RHO for suffix in (*correlation, *swept)),
        *(f"tide_{name}" for name in TIDE),
        *(f"bound_{level}_{order}_AP" for level in ("cls", "img") for order in ORDERS),
    ]


def run_metrics(
    annotation_file: str | os.PathLike,
    folder: RunFolder,
    backend: Backend = "hotcoco",
    threshold: float = POSITIVE_IOU,
) -> dict[str, float | int | None]:
    """Compute what a run's stored detections say.

    Args:
        annotation_file: the COCO annotations of the images that the run predicted.
        folder: holds detections of boxes and, where the run has them, those of masks, positives before
            post-processing, and detections in the best and the worst order.
        backend: which tool computes AP.
        threshold: the IoU from which a detection is a positive, for the correlations and bounds.

    Returns:
        One flat dict, in points but for the counts:

        - `AP` ... `AR_L` of the boxes; `mask_AP` ... where there are masks;
        - `oLRP`, `oLRP_Loc`, `oLRP_FP`, `oLRP_FN`; `tide_Cls` ... `tide_FN`;
        - `rho_cls`, `rho_cls_pearson`, `_kendall`, `_concordance`, and the counts `_used` and `_left_out` of
          classes; `rho_cls_at_0.3` (Spearman's) and `rho_cls_left_out_at_0.3` for each threshold of `SWEEP`;
          the same with `rho_img`, of images, where there are positives;
        - `bound_cls_best_AP`, `bound_cls_worst_AP`: scores re-dealt after post-processing, within classes;
        - `bound_img_best_AP`, `bound_img_worst_AP`: before it, within images, where the run stored them.

        A value that is not defined on this data (AP_S where nothing is small) is None; a key whose file the
        run lacks is absent.

    Raises:
        GroundTruthError: the annotation file is unusable.
        DetectionsError: there are no detections, or one of the files is unusable.
    """
    ground_truth = load_ground_truth(annotation_file)
    boxes = load_detections(folder.detections(), ground_truth)
    metrics: dict[str, float | int] = dict(average_precision(ground_truth, boxes, backend=backend))
    if folder.detections("segm").exists():
        masks = load_detections(folder.detections("segm"), ground_truth, "segm")
        points = average_precision(ground_truth, masks, "segm", backend)
        metrics |= {f"mask_{name}": points[name] for name in METRICS}
    positives = None
    if folder.positives.exists():
        positives = load_positives(folder.positives, ground_truth)
        metrics |= _flat("rho_img", rho_img(positives, ground_truth, threshold))
    metrics |= _of_matches(ground_truth, boxes, positives, backend, threshold)
    metrics |= {f"tide_{name}": gain for name, gain in tide_errors(ground_truth, boxes).items()}
    for order in ORDERS:
        if folder.bound(order).exists():
            bound = load_detections(folder.bound(order), ground_truth)
            metrics[f"bound_img_{order}_AP"] = average_precision(ground_truth, bound, backend=backend)["AP"]
    return {name: None if isnan(value) else value for name, value in metrics.items()}


def _of_matches(
    ground_truth: GroundTruth,
    boxes: Detections,
    positives: Positives | None,
    backend: Backend,
    threshold: float,
) -> dict[str, float | int]:
    """Return what needs to know which detections are true: oLRP, ρ_cls, its bounds, and all thresholds' ρ."""
    matches = match(ground_truth, boxes, sorted({0.5, threshold, *SWEEP}), ("all",))
    metrics: dict[str, float | int] = dict(optimal_lrp(matches, ground_truth))
    metrics |= _flat("rho_cls", rho_cls(matches, ground_truth, threshold))
    for row in sweep(positives, matches, ground_truth):
        for name in RHO if positives is not None else RHO[:1]:
            metrics[f"{name}_at_{row['threshold']}"] = row[name]
            metrics[f"{name}_left_out_at_{row['threshold']}"] = row[f"{name}_left_out"]
    for order in ORDERS:
        bound = bound_after_nms(boxes, matches, order, threshold)
        metrics[f"bound_cls_{order}_AP"] = average_precision(ground_truth, bound, backend=backend)["AP"]
    return metrics


def _flat(name: str, correlation: Correlation) -> dict[str, float | int]:
    values = asdict(correlation)
    counts = {f"{name}_used": values.pop("n_groups"), f"{name}_left_out": values.pop("n_left_out")}
    return {name: values.pop("spearman")} | {f"{name}_{key}": v for key, v in values.items()} | counts
