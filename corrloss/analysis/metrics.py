"""Every figure of one run, from its stored predictions."""

from dataclasses import asdict
from math import isnan, nan

from corrloss.analysis.ap import (
    MANY_DETECTIONS,
    METRICS,
    OF_MANY_DETECTIONS,
    Backend,
    average_precision,
    with_many_detections,
)
from corrloss.analysis.bounds import LEVELS, ORDERS, bound_after_nms, order_failures, with_ious_as_scores
from corrloss.analysis.calibration import CALIBRATION, SCORES, calibration_errors
from corrloss.analysis.correlation import (
    ALIGNMENT,
    POSITIVE_IOU,
    ROUNDING,
    SWEEP,
    TOP_PER_OBJECT,
    Correlation,
    alignment,
    rho_cls,
    rho_img,
)
from corrloss.analysis.matching import Matches, match
from corrloss.analysis.stored_run import StoredRun
from corrloss.analysis.tide import OLRP, TIDE, optimal_lrp, tide_errors
from corrloss.coco import GroundTruth

RHO = ("rho_cls", "rho_img")
#: Below the IoU from which positives are stored.
UNKNOWN = Correlation(*[nan] * 7)
#: Lowest score of the detections whose calibration is measured, by the suffix of the figure.
AT_SCORES = {"": 0.0} | {f"_at_{score}": score for score in SCORES}
#: First part of the names of figures after isotonic regression on held-out images.
ISOTONIC = "isotonic_"
RHO_TOP, TOP_SUFFIXES = f"rho_img_top{TOP_PER_OBJECT}", ("", "_left_out", "_positives")


def metric_names(masks: bool) -> list[str]:
    """Return the keys of `run_metrics` for a run with all files, with or without masks."""
    correlation = list(_flat("", UNKNOWN))
    swept = [f"{suffix}_at_{threshold}" for threshold in SWEEP for suffix in ("", "_left_out")]
    points = [*METRICS, *(f"{name}_{MANY_DETECTIONS}" for name in OF_MANY_DETECTIONS)]
    return [
        *points,
        *(f"mask_{name}" for name in points if masks),
        *OLRP,
        *(f"{name}{suffix}" for name in RHO for suffix in (*correlation, *swept)),
        *(f"{RHO_TOP}{suffix}" for suffix in TOP_SUFFIXES),
        *ALIGNMENT,
        *(f"tide_{name}" for name in TIDE),
        *(f"bound_{level}_{order}_AP" for level in LEVELS for order in ORDERS),
        *(f"bound_{level}_failures" for level in LEVELS),
        "iou_scores_AP",
        *(f"{kind}{name}{at}" for kind in ("", ISOTONIC) for at in AT_SCORES for name in CALIBRATION),
        *(f"{ISOTONIC}{name}" for name in ("AP", "oLRP")),
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
        metrics |= alignment(run.positives, threshold)
        flat = _flat(RHO_TOP, top)
        metrics |= {RHO_TOP + suffix: flat[RHO_TOP + suffix] for suffix in TOP_SUFFIXES}
    metrics |= _of_matches(run, backend, threshold)
    metrics |= _of_calibration(run, backend)
    metrics |= {f"tide_{name}": gain for name, gain in tide_errors(run.ground_truth, run.boxes).items()}
    for order, boxes in run.bounds.items():
        points = average_precision(run.ground_truth, boxes, backend=backend)
        metrics[f"bound_img_{order}_AP"] = points["AP"]
    for level in LEVELS if len(run.bounds) == len(ORDERS) else LEVELS[:1]:
        metrics[f"bound_{level}_failures"] = order_failures(metrics, level)
    return {name: None if isnan(value) else value for name, value in metrics.items()}


def _of_matches(run: StoredRun, backend: Backend, threshold: float) -> dict[str, float | int]:
    """Return what depends on the matching: oLRP, ρ_cls, AP at other scores, and ρ at all thresholds."""
    matches = match(run.ground_truth, run.boxes, sorted({0.5, threshold, *SWEEP}), ("all",))
    metrics: dict[str, float | int] = dict(optimal_lrp(matches, run.ground_truth))
    metrics |= _flat("rho_cls", rho_cls(matches, run.ground_truth, threshold))
    for limit in SWEEP:
        found = {"rho_cls": rho_cls(matches, run.ground_truth, limit, kendall=False)}
        if run.positives is not None:
            found["rho_img"] = UNKNOWN
            if limit >= run.positives.min_iou - ROUNDING:
                found["rho_img"] = rho_img(run.positives, run.ground_truth, limit, kendall=False)
        for name, correlation in found.items():
            metrics[f"{name}_at_{limit}"] = correlation.spearman
            metrics[f"{name}_left_out_at_{limit}"] = correlation.n_left_out
    for order in ORDERS:
        bound = bound_after_nms(run.boxes, matches, order, threshold)
        points = average_precision(run.ground_truth, bound, backend=backend)
        metrics[f"bound_cls_{order}_AP"] = points["AP"]
    oracle = with_ious_as_scores(run.boxes, matches, run.ground_truth)
    metrics["iou_scores_AP"] = average_precision(run.ground_truth, oracle, backend=backend)["AP"]
    return metrics


def _of_calibration(run: StoredRun, backend: Backend) -> dict[str, float]:
    """Return calibration errors, of all detections and from several scores on.

    The same after isotonic regression, and AP and oLRP after it.
    """
    truth = run.ground_truth
    mended, matches = run.calibrated
    after = _calibration_errors(run.calibration_matches, truth)
    after |= {f"{ISOTONIC}{name}": value for name, value in _calibration_errors(matches, truth).items()}
    after[f"{ISOTONIC}AP"] = average_precision(truth, mended, backend=backend)["AP"]
    after[f"{ISOTONIC}oLRP"] = optimal_lrp(matches, truth)["oLRP"]
    return after


def _calibration_errors(matches: Matches, ground_truth: GroundTruth) -> dict[str, float]:
    errors = {suffix: calibration_errors(matches, ground_truth, score) for suffix, score in AT_SCORES.items()}
    return {f"{name}{suffix}": value for suffix, found in errors.items() for name, value in found.items()}


def _flat(name: str, correlation: Correlation) -> dict[str, float | int]:
    values = asdict(correlation)
    names = {"n_groups": "used", "n_left_out": "left_out", "n_positives": "positives"}
    counts = {f"{name}_{short}": values.pop(key) for key, short in names.items()}
    return {name: values.pop("spearman")} | {f"{name}_{key}": v for key, v in values.items()} | counts
