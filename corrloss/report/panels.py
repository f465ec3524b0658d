"""The figures of all runs together, each with what to see in it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import plotly.graph_objects as go

from corrloss.analysis.correlation import POSITIVE_IOU, Positives, load_positives
from corrloss.report import figures
from corrloss.report.results import DataSet, FinishedRun, MadeTable
from corrloss.report.soft_ranks import correlations

MOST_SCORES = 300  # of one image in the figure of soft ranks
CORRELATION = (
    "What the loss is to raise (ρ_img before, ρ_cls after post-processing) against what it is for. A point "
    "is a run; its colour is the loss: grey none, orange spearman, green concordance, blue pearson."
)
DENSITY = (
    "Positives before post-processing: detections that overlap an object of their class. Where scores follow "
    "IoUs the black line, the mean score at an IoU, climbs. Left without the loss, right with it."
)
BOUNDS = (
    "AP with the same boxes and classes, if the scores of the positives were dealt out so that the best box "
    "has the highest score, or the lowest."
)
THRESHOLDS = (
    "The paper does not say from which IoU a detection is a positive; the suite's is 0.5. A higher one "
    "narrows the range of IoUs, and with it what can correlate; images and classes with fewer than two "
    "positives are left out, and counted in the table threshold."
)
TIDE = "How much AP50 each of TIDE's error types costs."
TRAINING = (
    "Mean loss over equal stretches of each training. With Correlation Loss its own term is in it: compare "
    "shapes and not heights."
)
SOFT_RANKS = (
    "Spearman's coefficient is Pearson's of ranks, and the released code ranks softly with a strength of 1: "
    "scores and IoUs in [0, 1] lie closer together than that, so all are pooled into one block, their soft "
    "ranks are the values themselves plus a constant, and the released Spearman loss is the Pearson loss. "
    "For {n} positives of one image ({label}) the one gives {released:.4f} and the other {pearson:.4f}; "
    "ordinary ranks give {ranks:.4f}, which soft ranks approach as the strength tends to 0."
)


@dataclass(frozen=True)
class Panel:
    """Figures that answer one question, of which one is shown at a time.

    Attributes:
        id: Name for links.
        title: Heading.
        text: What to see in it.
        figures: By the name to choose them by; None for what could not be drawn.
        missing: What to say where there is no figure.
    """

    id: str
    title: str
    text: str
    figures: dict[str, go.Figure | None] = field(default_factory=dict)
    missing: str = "The finished runs hold nothing to show here."

    @property
    def drawn(self) -> dict[str, go.Figure]:
        """The figures that there are."""
        return {name: figure for name, figure in self.figures.items() if figure is not None}


def make_panels(tables: list[MadeTable], runs: list[FinishedRun], data: dict[str, DataSet]) -> list[Panel]:
    """All panels, in the order of the page.

    Args:
        tables: Tables; that of the loss's weight has a panel of its own.
        runs: Finished runs; of those whose training failed the training alone is shown.
        data: The data set of each run, by name.

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
    tide = {name: figures.tide(own) for name, own in detectors.items()}
    thresholds = {name: figures.thresholds(own) for name, own in detectors.items()}
    return [
        Panel("correlation", "Correlation and AP", CORRELATION, {"all": figures.correlation_and_ap(runs)}),
        _density(detectors, data),
        Panel("thresholds", "Correlation and the IoU of a positive", THRESHOLDS, thresholds),
        Panel("bounds", "Bounds", BOUNDS, bounds),
        *(_weight(table) for table in tables if table.plan.name == "weight"),
        Panel("tide", "Kinds of error", TIDE, tide),
        Panel("training", "Training", TRAINING, training),
        _soft_ranks(runs, data),
    ]


def _weight(table: MadeTable) -> Panel:
    metric = table.plan.headlines[-1]
    curves = figures.weight_curves(table.frame, metric)
    return Panel("weight", "Weight of the loss", f"{metric} against λ; λ = 0 is the baseline.", curves)


def _density(detectors: dict[str, list[FinishedRun]], data: dict[str, DataSet]) -> Panel:
    def positives(run: FinishedRun) -> Positives:
        return load_positives(run.folder.positives, data[run.run.dataset].ground_truth)

    shown = {}
    for name, runs in detectors.items():
        own = {run.run: run for run in runs if run.folder.positives.exists()}
        for key, run in own.items():
            baseline = own.get(key.baseline)
            if not key.is_baseline:
                title = f"{name} · {run.loss} · seed {key.seed}"
                shown[title] = figures.density([baseline, run] if baseline else [run], positives)
        if own and all(key.is_baseline for key in own):
            shown[name] = figures.density(list(own.values())[:1], positives)
    return Panel("density", "Score and IoU of positives", DENSITY, shown)


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
    """Scores and IoUs of the image with the most positives, of the first run that has any that vary."""
    for run in runs:
        if not run.folder.positives.exists():
            continue
        positives = load_positives(run.folder.positives, data[run.run.dataset].ground_truth)
        counted = positives.iou >= POSITIVE_IOU
        images, counts = np.unique(positives.image_id[counted], return_counts=True)
        if len(images):
            chosen = np.flatnonzero(counted & (positives.image_id == images[counts.argmax()]))[:MOST_SCORES]
            scores, ious = positives.score[chosen].astype(float), positives.iou[chosen].astype(float)
            if np.ptp(scores) > 0 and np.ptp(ious) > 0:
                return run.label, scores, ious
    return None
