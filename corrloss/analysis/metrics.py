"""Every figure of one run, from its stored predictions."""

from dataclasses import asdict
from math import isnan

from corrloss.analysis.ap import (
    MANY_DETECTIONS,
    METRICS,
    OF_MANY_DETECTIONS,
    Backend,
    average_precision,
    with_many_detections,
)
from corrloss.analysis.bounds import ORDERS, bound_after_nms
from corrloss.analysis.correlation import (
    POSITIVE_IOU,
    SWEEP,
    TOP_PER_OBJECT,
    Correlation,
    rho_cls,
    rho_img,
    sweep,
)
from corrloss.analysis.matching import match
from corrloss.analysis.stored_run import StoredRun
from corrloss.analysis.tide import OLRP, TIDE, optimal_lrp, tide_errors

RHO = ("rho_cls", "rho_img")
RHO_TOP, TOP_SUFFIXES = f"rho_img_top{TOP_PER_OBJECT}", ("", "_left_out", "_positives")


def metric_names(masks: bool) -> list[str]:
    """Return the keys of `run_metrics` for a run with all files, with or without masks."""
    correlation = list(_flat("", Correlation(*[0.0] * 4, 0, 0, 0)))
    swept = [f"{suffix}_at_{threshold}" for threshold in SWEEP for suffix in ("", "_left_out")]
    points = [*METRICS, *(f"{name}_{MANY_DETECTIONS}" for name in OF_MANY_DETECTIONS)]
    return [
        *points,
        *(f"mask_{name}" for name in points if masks),
        *OLRP,
        *(f"{name}{suffix}" for name in RHO for suffix in (*correlation, *swept)),
        *(f"{RHO_TOP}{suffix}" for suffix in TOP_SUFFIXES),
        *(f"tide_{name}" for name in TIDE),
        *(f"bound_{level}_{order}_AP" for level in ("cls", "img") for order in ORDERS),
    ]


def run_metrics(
    run: StoredRun, backend: Backend = "hotcoco", threshold: float = POSITIVE_IOU
) -> dict[str, float | int | None]:
    """Compute every figure of a run's predictions.

    Args:
        run: From `corrloss.analysis.stored_run.load_run`.
        backend: Tool that computes AP.
        threshold: IoU from which a detection is a positive, for correlations and bounds, in (0, 1].

    Returns:
        Figures by name, in points (0-100) or counts; None where the data do not define a value. Figures of
        files that the run lacks are absent.
    """
    metrics: dict[str, float | int] = {}
    for prefix, detections in zip(("", "mask_"), run.detections, strict=False):
        points = average_precision(run.ground_truth, detections, detections.iou_type, backend)
        points |= with_many_detections(run.ground_truth, detections, backend, points)
        metrics |= {f"{prefix}{name}": value for name, value in points.items()}
    if run.positives is not None:
        metrics |= _flat("rho_img", rho_img(run.positives, run.ground_truth, threshold))
        top = rho_img(run.positives, run.ground_truth, threshold, kendall=False, top=TOP_PER_OBJECT)
        flat = _flat(RHO_TOP, top)
        metrics |= {RHO_TOP + suffix: flat[RHO_TOP + suffix] for suffix in TOP_SUFFIXES}
    metrics |= _of_matches(run, backend, threshold)
    metrics |= {f"tide_{name}": gain for name, gain in tide_errors(run.ground_truth, run.boxes).items()}
    for order, boxes in run.bounds.items():
        points = average_precision(run.ground_truth, boxes, backend=backend)
        metrics[f"bound_img_{order}_AP"] = points["AP"]
    return {name: None if isnan(value) else value for name, value in metrics.items()}


def _of_matches(run: StoredRun, backend: Backend, threshold: float) -> dict[str, float | int]:
    """Return what depends on the matching: oLRP, ρ_cls, its bounds, and ρ at all thresholds."""
    matches = match(run.ground_truth, run.boxes, sorted({0.5, threshold, *SWEEP}), ("all",))
    metrics: dict[str, float | int] = dict(optimal_lrp(matches, run.ground_truth))
    metrics |= _flat("rho_cls", rho_cls(matches, run.ground_truth, threshold))
    for row in sweep(run.positives, matches, run.ground_truth):
        for name in RHO if run.positives is not None else RHO[:1]:
            metrics[f"{name}_at_{row['threshold']}"] = row[name]
            metrics[f"{name}_left_out_at_{row['threshold']}"] = row[f"{name}_left_out"]
    for order in ORDERS:
        bound = bound_after_nms(run.boxes, matches, order, threshold)
        points = average_precision(run.ground_truth, bound, backend=backend)
        metrics[f"bound_cls_{order}_AP"] = points["AP"]
    return metrics


def _flat(name: str, correlation: Correlation) -> dict[str, float | int]:
    values = asdict(correlation)
    names = {"n_groups": "used", "n_left_out": "left_out", "n_positives": "positives"}
    counts = {f"{name}_{short}": values.pop(key) for key, short in names.items()}
    return {name: values.pop("spearman")} | {f"{name}_{key}": v for key, v in values.items()} | counts
