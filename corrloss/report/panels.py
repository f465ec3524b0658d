"""The figures of all runs together, each with a text that says what it shows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from corrloss.analysis.correlation import POSITIVE_IOU, Positives, load_positives
from corrloss.coco import Detections
from corrloss.plan.runs import Run
from corrloss.report import figures
from corrloss.report.comparisons import Comparison
from corrloss.report.drawing import Drawing
from corrloss.report.explanation import explain, explanation
from corrloss.report.results import DataSet, FinishedRun, MadeTable
from corrloss.report.soft_ranks import correlations

MOST_SCORES = 300  # of one image in the figure of soft ranks
CORRELATION = (
    "The loss is designed to raise ρ (ρ_img before, ρ_cls after post-processing) in order to raise AP. Each "
    "line leads from a baseline (grey) to the same detector with the loss (colour): to the right ρ rose, "
    "upwards AP rose."
)
DENSITY = (
    "Positives before post-processing, by IoU and score; bright cells hold many. Where scores follow IoUs "
    "the line, the mean score at an IoU, rises. Baseline first, then with the loss; the first seed."
)
BOUNDS = (
    "AP of the same boxes and classes after the scores of the positives are reassigned: the highest score to "
    "the box of highest IoU (best order), or to the box of lowest IoU (worst order)."
)
THRESHOLDS = (
    "The paper does not state from which IoU a detection is a positive; here it is 0.5. A higher threshold "
    "narrows the range of IoUs and with it the possible correlation. Images and classes with fewer than two "
    "positives are left out; the table “threshold” counts them."
)
EXPLANATION = (
    "Left: the gain in AP; the gain if the baseline keeps its boxes and takes the order of the scores from "
    "the model with the loss, for the boxes that both have; and the gain if the model keeps its boxes and "
    "takes the baseline's order. Right: points of AP50 that TIDE's errors cost less than for the baseline. "
    "Parts need not add up. Their intervals are in the table “explanation”."
)
CALIBRATION = (
    "Do scores mean what they say? Reliability diagrams (on the grey diagonal they do), as means over "
    "classes for LaECE, and both errors of the detections from a score on. Dashed: the baseline after "
    "isotonic regression on held-out images, which corrects calibration and keeps the order. The first seed."
)
TIDE = "Points of AP50 that each of TIDE's types of error costs."
TRAINING = (
    "Mean loss over equal stretches of each training. Correlation Loss adds a term of its own, so compare "
    "shapes, not heights."
)
SOFT_RANKS = (
    "Spearman's coefficient is Pearson's coefficient of ranks. The released code uses soft ranks of strength "
    "1. Scores and IoUs lie in [0, 1], closer together than 1, so their soft ranks are the values "
    "themselves plus a constant: the released Spearman loss is the Pearson loss. For {n} positives of one "
    "image ({label}) released Spearman gives {released:.4f}, Pearson {pearson:.4f} and Spearman of ordinary "
    "ranks {ranks:.4f}. Soft ranks approach ordinary ranks as the strength approaches 0."
)


@dataclass(frozen=True)
class Panel:
    """Figures that answer one question, of which one is shown at a time."""

    id: str  # for links
    title: str
    text: str  # what it shows
    figures: dict[str, Drawing | None] = field(default_factory=dict)  # None: could not be drawn
    missing: str = "No finished run has data for this figure."  # shown where there is no figure

    @property
    def drawn(self) -> dict[str, Drawing]:
        """The figures that could be drawn."""
        return {name: figure for name, figure in self.figures.items() if figure is not None}


def make_panels(
    tables: list[MadeTable],
    runs: list[FinishedRun],
    data: dict[str, DataSet],
    comparisons: list[Comparison],
    detections: Callable[[Run], Detections],
) -> list[Panel]:
    """All panels, in the order of the page; of runs whose training failed the training alone is shown.

    Args:
        tables: Tables, main ones first.
        runs: Finished runs.
        data: The data set of each run, by name.
        comparisons: From `corrloss.report.comparisons.compare`.
        detections: Boxes of a run.

    Raises:
        DetectionsError: The positives of a run are damaged.
    """
    training = {name: figures.training(own) for name, own in figures.by_detector(runs).items()}
    runs = [run for run in runs if not run.failed]
    detectors = figures.by_detector(runs)
    bounds = {
        "before post-processing, within images": figures.bounds(runs, "img"),
        "after it, within classes": figures.bounds(runs, "cls"),
    }
    correlation = figures.correlation_and_ap(comparisons)
    tide = {name: figures.tide(own) for name, own in detectors.items()}
    thresholds = {name: figures.thresholds(own) for name, own in detectors.items()}
    parts = explanation(list(explain(comparisons, runs, data, detections)))
    calibration = {name: figures.calibration(_first_seeds(own)) for name, own in detectors.items()}
    return [
        Panel("correlation", "Correlation and AP", CORRELATION, {"all": correlation}),
        Panel("explanation", "What a gain comes from", EXPLANATION, {"all": parts}),
        Panel("calibration", "Calibration", CALIBRATION, calibration),
        _density(detectors, data),
        Panel("thresholds", "Correlation and the IoU of a positive", THRESHOLDS, thresholds),
        Panel("bounds", "AP at the best and the worst order of scores", BOUNDS, bounds),
        *(_weight(table) for table in tables if table.plan.name == "weight"),
        Panel("tide", "Types of error", TIDE, tide),
        Panel("training", "Training", TRAINING, training),
        _soft_ranks(runs, data),
    ]


def _weight(table: MadeTable) -> Panel:
    metric = table.plan.headlines[-1]
    curves = figures.weight_curves(table.frame, metric)
    return Panel("weight", "Weight of the loss", f"{metric} against λ; λ = 0 is the baseline.", curves)


def _positives(data: dict[str, DataSet], run: FinishedRun) -> Positives:
    return load_positives(run.folder.positives, data[run.run.dataset].ground_truth)


def _density(detectors: dict[str, list[FinishedRun]], data: dict[str, DataSet]) -> Panel:
    positives = partial(_positives, data)
    shown = {}
    for name, runs in detectors.items():
        with_positives = [run for run in runs if run.folder.positives.exists()]
        shown[name] = figures.density(_first_seeds(with_positives), positives)
    return Panel("density", "Score and IoU of positives", DENSITY, shown)


def _first_seeds(runs: list[FinishedRun]) -> list[FinishedRun]:
    """The run of the first seed of each loss, in the order of the losses."""
    first: dict[str, FinishedRun] = {}
    for run in runs:
        before = first.setdefault(run.loss, run)
        first[run.loss] = min(before, run, key=lambda one: one.run.seed)
    return list(first.values())


def _soft_ranks(runs: list[FinishedRun], data: dict[str, DataSet]) -> Panel:
    title, missing = "What the soft rank does", "No run has stored positives of one image to rank."
    found = _positives_of_one_image(runs, data)
    if found is None:
        return Panel("soft-ranks", title, "", missing=missing)
    label, scores, ious = found
    r = correlations(scores, ious)
    given = {"released": r["strength 1"], "pearson": r["Pearson"], "ranks": r["ranks"]}
    text = SOFT_RANKS.format(n=len(scores), label=label, **given)
    return Panel("soft-ranks", title, text, {"all": figures.soft_ranks(scores, r)}, missing)


def _positives_of_one_image(
    runs: list[FinishedRun], data: dict[str, DataSet]
) -> tuple[str, np.ndarray, np.ndarray] | None:
    """Label, scores and IoUs of the image with the most positives, of the first run whose values vary."""
    for run in runs:
        if not run.folder.positives.exists():
            continue
        positives = _positives(data, run)
        counted = positives.iou >= POSITIVE_IOU
        images, counts = np.unique(positives.image_id[counted], return_counts=True)
        if len(images):
            chosen = np.flatnonzero(counted & (positives.image_id == images[counts.argmax()]))[:MOST_SCORES]
            scores, ious = positives.score[chosen].astype(float), positives.iou[chosen].astype(float)
            if np.ptp(scores) > 0 and np.ptp(ious) > 0:
                return run.label, scores, ious
    return None
