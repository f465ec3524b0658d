"""What each gain comes from: the order of the scores or the boxes, and which errors cost less."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from statistics import fmean
from typing import NamedTuple

from markupsafe import Markup
from matplotlib.axes import Axes

from corrloss.analysis.gain_parts import ERRORS, gain_parts
from corrloss.coco import Detections
from corrloss.plan.runs import Run
from corrloss.report.comparisons import Comparison
from corrloss.report.drawing import COLOURS, PIXELS_PER_INCH, Drawing, Key, new_axes, to_svg, tooltip
from corrloss.report.results import DataSet, FinishedRun
from corrloss.tables.render import rounded

ROW, AXIS, WIDTH = 15, 46, 400  # CSS pixels of a row, of the axis, of a panel
PARTS = {"gain": "ink", "order alone": "pearson", "boxes alone": "other"}  # with their colours
OF_ERRORS = dict(zip(ERRORS, ("spearman", "concordance", "spearman_exact", "none"), strict=True))
NAMES = dict(zip(ERRORS, ("localisation", "classification", "duplicates", "background"), strict=True))


class Explained(NamedTuple):
    """A detector with the loss, and what its gain over the baseline comes from; means over seeds."""

    name: str
    parts: dict[
        str, float
    ]  # of `PARTS`, points: the gain in AP, with the other's order alone, with its boxes alone
    errors: dict[str, float]  # of `ERRORS`: AP50 that the error costs less than it costs the baseline


def explain(
    comparisons: list[Comparison],
    runs: list[FinishedRun],
    data: dict[str, DataSet],
    detections: Callable[[Run], Detections],
) -> Iterator[Explained]:
    """Yield what the gain in AP of boxes of each comparison comes from.

    Args:
        comparisons: From `corrloss.report.comparisons.compare`.
        runs: Finished runs.
        data: The data set of each run, by name.
        detections: Boxes of a run.
    """
    finished = {run.run: run for run in runs if not run.failed}
    pairs: dict[tuple[str, str, str], list[tuple[FinishedRun, FinishedRun]]] = {}
    for key, run in finished.items():
        if key.has_loss and key.baseline in finished:
            name = key.dataset, key.detector, run.loss
            pairs.setdefault(name, []).append((finished[key.baseline], run))
    for comparison in comparisons:
        own = pairs.get((comparison.dataset, comparison.detector, comparison.loss))
        if comparison.metric == "AP" and own:
            yield _explained(comparison.name, own, data[comparison.dataset], detections)


def _explained(
    name: str,
    pairs: list[tuple[FinishedRun, FinishedRun]],
    data: DataSet,
    detections: Callable[[Run], Detections],
) -> Explained:
    gains, errors = [], []
    for baseline, run in pairs:
        found = gain_parts(data.ground_truth, detections(baseline.run), detections(run.run))
        ap = baseline.metric("AP")
        gains.append((run.metric("AP") - ap, found["order_AP"] - ap, found["boxes_AP"] - ap))
        known = {error: (baseline.metric(error), run.metric(error)) for error in ERRORS}
        errors.append({error: base - own for error, (base, own) in known.items() if None not in (base, own)})
    parts = dict(zip(PARTS, map(fmean, zip(*gains, strict=True)), strict=True))
    return Explained(
        name, parts, {e: fmean(one[e] for one in errors) for e in ERRORS if all(e in o for o in errors)}
    )


def explanation(explained: list[Explained]) -> Drawing | None:
    """A row a comparison: left its gain with its parts, right the errors that cost less.

    None where there is nothing to explain.
    """
    if not explained:
        return None
    parts = [(one.name, one.parts) for one in explained]
    errors = [(one.name, {NAMES[error]: value for error, value in one.errors.items()}) for one in explained]
    colours = {NAMES[error]: colour for error, colour in OF_ERRORS.items()}
    panels = [
        _panel(parts, PARTS, "gain-parts", "gain in AP, points", "AP"),
        _panel(errors, colours, "gain-errors", "AP50 that an error costs less, points", "AP50"),
    ]
    keys = [Key(name, colour) for name, colour in {**PARTS, **colours}.items()]
    return Drawing(panels, keys)


def _panel(
    rows: list[tuple[str, dict[str, float]]], colours: dict[str, str], name: str, label: str, unit: str
) -> Markup:
    axes: Axes = new_axes(AXIS + ROW * len(rows), WIDTH, long_labels=True, xlabel=label)
    axes.figure.set_figheight((AXIS + ROW * len(rows)) / PIXELS_PER_INCH)
    axes.axvline(0, color=COLOURS["none"], linewidth=1)
    for place, (row, values) in enumerate(rows):
        for part, value in values.items():
            (point,) = axes.plot([value], [place], "o", color=COLOURS[colours[part]], markersize=4.5)
            tooltip(point, f"{row}: {part} {rounded(value)} {unit}")
    axes.set_yticks(range(len(rows)), [row for row, _ in rows], fontsize=7)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    return to_svg(axes, name, f"{label}, of each detector with the loss")
