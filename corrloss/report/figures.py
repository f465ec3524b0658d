"""The page's figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.ticker import MaxNLocator

from corrloss.analysis.correlation import SWEEP, Positives
from corrloss.analysis.tide import TIDE
from corrloss.plan.runs import BASELINE
from corrloss.report.comparisons import RHO, Comparison
from corrloss.report.drawing import COLOURS, NARROW, Drawing, Key, new_axes, to_svg, tooltip
from corrloss.report.results import FinishedRun
from corrloss.report.soft_ranks import STRENGTHS, soft_rank
from corrloss.tables.render import rounded

BINS = 35
LEFT_OUT = {"rho_img": "images", "rho_cls": "classes"}
ORDERS = {"worst": "spearman", "actual": "none", "best": "concordance"}  # with their colours
TARGETS = {"LaECE": "IoU", "D_ECE": "precision"}
COLUMN = 260  # CSS pixels of a panel that is one of many


def correlation_and_ap(comparisons: list[Comparison]) -> Drawing | None:
    """AP against ρ_img and against ρ_cls: a line from each baseline to the same detector with the loss."""
    panels = []
    for name in RHO:
        shown = [c for c in comparisons if name in c.rho and c.metric == "AP"]
        if shown:
            axes = new_axes(330, xlabel=f"{_greek(name)} (Spearman, points)", ylabel="AP")
            axes.margins(x=0.2)
            for comparison in shown:
                _step(axes, comparison, name)
            for detector, rho, ap in sorted({(c.detector, c.rho[name][0], c.value - c.delta) for c in shown}):
                axes.annotate(
                    detector, (rho, ap), (-4, 0), textcoords="offset points", fontsize=6.5, ha="right",
                    va="center",
                )  # fmt: skip
            text = f"AP against {_greek(name)}, from each baseline to the same detector with the loss."
            panels.append(to_svg(axes, f"correlation-{name}", text))
    return Drawing(panels, coefficient_keys(comparisons)) if panels else None


def _step(axes: Axes, comparison: Comparison, name: str) -> None:
    base, own = comparison.rho[name]
    base_ap, colour = comparison.value - comparison.delta, coefficient_colour(comparison.coefficient)
    axes.plot([base, own], [base_ap, comparison.value], color=colour, linewidth=1)
    points = ((base, base_ap, BASELINE, COLOURS[BASELINE]), (own, comparison.value, comparison.loss, colour))
    for rho, ap, loss, shade in points:
        (point,) = axes.plot([rho], [ap], "o", color=shade, markersize=4.5, markeredgewidth=0)
        tooltip(point, f"{comparison.detector} · {loss}: {_greek(name)} {rounded(rho, '.1f')}, AP {ap:.1f}")


def weight_curves(frame: pd.DataFrame, metric: str) -> dict[str, Drawing]:
    """A metric against λ, one figure a detector, the baseline at λ = 0."""
    drawings = {}
    for detector, rows in frame.groupby("detector", sort=False):
        axes, keys = new_axes(250, xlabel="λ", ylabel=metric), []
        base, others = rows[rows["coefficient"] == BASELINE], rows[rows["coefficient"] != BASELINE]
        for coefficient, points in others.groupby("coefficient", sort=False):
            line = pd.concat([base, points]).sort_values("weight")
            axes.plot(line["weight"], line[metric], "o-", color=coefficient_colour(coefficient), markersize=4)
            keys.append(coefficient_key(coefficient, "line"))
        drawings[detector] = Drawing([to_svg(axes, f"weight-{detector}", f"{metric} against λ")], keys)
    return drawings


def density(runs: list[FinishedRun], positives: Callable[[FinishedRun], Positives]) -> Drawing | None:
    """How many positives have which score and IoU, a panel a run; the line is the mean score at an IoU.

    None where no run has any.
    """
    found = [(run, positives(run)) for run in runs]
    panels = [_density_panel(run, own) for run, own in found if len(own.score)]
    return Drawing(panels, [Key("mean score at an IoU", "ink", "line")]) if panels else None


def _density_panel(run: FinishedRun, found: Positives) -> Markup:
    rho = run.metric("rho_img")
    title = f"{run.loss}, ρ_img " + (rounded(rho, ".1f") if known(rho) else "unknown")
    axes = new_axes(250, COLUMN, xlabel="IoU", ylabel="score", title=title)
    iou_edges, score_edges = np.linspace(found.min_iou, 1, BINS + 1), np.linspace(0, 1, BINS + 1)
    iou = np.clip(found.iou.astype(float), found.min_iou, 1)  # float32 rounds slightly past the ends
    counts = np.histogram2d(found.score, iou, [score_edges, iou_edges])[0]
    shown = np.log10(counts, out=np.full_like(counts, np.nan), where=counts > 0)
    image = axes.imshow(
        shown, origin="lower", extent=(found.min_iou, 1, 0, 1), aspect="auto", interpolation="nearest",
        cmap="viridis", vmin=0, vmax=max(1.0, np.log10(counts.max())),
    )  # fmt: skip
    axes.figure.colorbar(image, ax=axes, ticks=MaxNLocator(4, integer=True), format=_power_of_ten)
    line = _mean_by_bin(iou, found.score, iou_edges)
    axes.plot(*line, color=COLOURS["page"], linewidth=3)
    axes.plot(*line, color=COLOURS["ink"])
    axes.grid(False)
    return to_svg(axes, f"density-{run.run.name}", f"Number of positives by IoU and score: {run.label}")


def _power_of_ten(exponent: float, _position: int) -> str:
    return f"{10**exponent:g}"


def _mean_by_bin(x: np.ndarray, y: np.ndarray, edges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    counts = np.histogram(x, edges)[0]
    sums = np.histogram(x, edges, weights=y.astype(float))[0]
    filled = counts > 0
    return ((edges[:-1] + edges[1:]) / 2)[filled], sums[filled] / counts[filled]


def calibration(runs: list[FinishedRun]) -> Drawing | None:
    """Reliability diagrams of both errors, and the errors of the detections from a score on: a line a run.

    Dashed: the baseline after isotonic regression. None where no record has the curves.
    """
    own = [(run, run.record["calibration"]) for run in runs if run.record.get("calibration")]
    if not own:
        return None
    colours = _shades([run for run, _ in own])
    lines = [
        (run.label, curves["none"], colour, "-") for (run, curves), colour in zip(own, colours, strict=True)
    ]
    isotonic = [curves["isotonic"] for run, curves in own if run.run.is_baseline]
    lines += [("baseline, isotonic", curves, COLOURS[BASELINE], "--") for curves in isotonic]
    unique = own[0][0].run.name
    panels = [
        *(_reliability(lines, column, error, unique) for column, error in enumerate(TARGETS, start=1)),
        *(_over_scores(lines, column, error, unique) for column, error in enumerate(TARGETS, start=1)),
    ]
    keys = _run_keys([run for run, _ in own])
    return Drawing(panels, keys + [Key("baseline, isotonic", "none", "dashed")] * bool(isotonic))


def _reliability(lines: list[tuple[str, dict, str, str]], column: int, error: str, unique: str) -> Markup:
    labels = {"xlabel": "mean score", "ylabel": f"mean {TARGETS[error]}", "title": error.replace("_", "-")}
    axes = new_axes(COLUMN, COLUMN, **labels)
    axes.plot([0, 1], [0, 1], color=COLOURS["line"])
    for label, curves, colour, style in lines:
        filled = [row[1:3] for row in curves[error] if row[0]]
        if filled:
            (line,) = axes.plot(*zip(*filled, strict=True), style, color=colour)
            tooltip(
                line, f"{label}: {error.replace('_', '-')} {_number(curves['over_scores'][0][column]):.1f}"
            )
    return to_svg(axes, f"reliability-{error}-{unique}", f"Reliability diagram of {error}, classes averaged")


def _over_scores(lines: list[tuple[str, dict, str, str]], column: int, error: str, unique: str) -> Markup:
    axes = new_axes(COLUMN, COLUMN, xlabel="lowest score", ylabel=f"{error.replace('_', '-')}, points")
    for label, curves, colour, style in lines:
        points = [(row[0], _number(row[column])) for row in curves["over_scores"]]
        (line,) = axes.plot(*zip(*points, strict=True), style, color=colour)
        tooltip(line, label)
    return to_svg(axes, f"calibration-{error}-{unique}", f"{error} of the detections from a score on")


def thresholds(runs: list[FinishedRun]) -> Drawing | None:
    """ρ_img and ρ_cls against the IoU from which a detection is a positive: a line a run."""
    points = {name: [f"{name}_at_{threshold}" for threshold in SWEEP] for name in RHO}
    own = [run for run in runs if any(known(run.metric(at)) for names in points.values() for at in names)]
    panels = []
    for name, measured in points.items() if own else ():
        axes = new_axes(250, xlabel="IoU of a positive", ylabel=f"{_greek(name)} (points)")
        for run, colour in zip(own, _shades(own), strict=True):
            values = [_number(run.metric(at)) for at in measured]
            (line,) = axes.plot(SWEEP, values, "o-", color=colour, markersize=4)
            left_out = [run.metric(at.replace("_at_", "_left_out_at_")) for at in measured]
            tooltip(line, f"{run.label}; {LEFT_OUT[name]} left out at each IoU: {left_out}")
        text = f"{_greek(name)} against the IoU from which a detection is a positive"
        panels.append(to_svg(axes, f"threshold-{name}-{own[0].run.name}", text))
    return Drawing(panels, _run_keys(own)) if panels else None


def bounds(runs: list[FinishedRun], name: str) -> Drawing | None:
    """AP as it is, and with the scores of the positives reassigned in the worst and in the best order.

    Args:
        runs: Finished runs.
        name: ``img`` (before post-processing) or ``cls`` (after it).
    """
    in_order = [run for group in by_detector(runs).values() for run in group]
    own = [run for run in in_order if known(run.metric(f"bound_{name}_best_AP"))]
    if not own:
        return None
    axes = new_axes(60 + 19 * len(own), long_labels=True, xlabel="AP", ylim=(len(own) - 0.4, -0.6))
    for row, run in enumerate(own):
        metrics = {order: f"bound_{name}_{order}_AP" for order in ORDERS} | {"actual": "AP"}
        points = {order: _number(run.metric(metric)) for order, metric in metrics.items()}
        axes.plot(list(points.values()), [row] * len(points), color=COLOURS["line"], linewidth=3)
        for order, ap in points.items():
            (point,) = axes.plot([ap], [row], "o", color=COLOURS[ORDERS[order]], markersize=4.5)
            tooltip(point, f"{run.label}: AP {ap:.1f}, {order} order")
    seeds = {run.run.seed for run in own}
    names = [run.label if len(seeds) > 1 else f"{run.run.detector} · {run.loss}" for run in own]
    axes.set_yticks(range(len(own)), names, fontsize=7.5)
    keys = [Key(f"{order} order", colour) for order, colour in ORDERS.items()]
    return Drawing([to_svg(axes, f"bounds-{name}", "AP with other orders of the scores")], keys)


def tide(runs: list[FinishedRun]) -> Drawing | None:
    """What each of TIDE's error types costs, a bar a run."""
    own = [run for run in runs if any(known(run.metric(f"tide_{kind}")) for kind in TIDE)]
    if not own:
        return None
    axes = new_axes(250, NARROW * 1.4, ylabel="cost in AP50, points")
    width, places = 0.8 / len(own), np.arange(len(TIDE))
    for number, (run, colour) in enumerate(zip(own, _shades(own), strict=True)):
        costs = [_number(run.metric(f"tide_{kind}")) for kind in TIDE]
        axes.bar(places + (number + 0.5) * width - 0.4, costs, width, color=colour)
    axes.set_xticks(places, list(TIDE))
    return Drawing([to_svg(axes, f"tide-{own[0].run.name}", "Cost of each type of error")], _run_keys(own))


def training(runs: list[FinishedRun]) -> Drawing:
    """The whole loss of several trainings."""
    axes = new_axes(250, xlabel="iteration", ylabel="loss", yscale="log")
    for run, colour in zip(runs, _shades(runs), strict=True):
        axes.plot(*_curve(run, "loss"), color=colour)
    for set_formatter in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
        set_formatter("{x:g}")  # the default is a formula, which the page does not typeset
    panel = to_svg(axes, f"training-{runs[0].run.name}", "Loss against iteration")
    return Drawing([panel], _run_keys(runs))


def loss_terms(run: FinishedRun) -> Drawing | None:
    """Each term of one training's loss; None where it left no curve."""
    terms = dict.fromkeys(name for point in run.curve for name in point if name != "iteration")
    if not terms:
        return None
    axes = new_axes(220, xlabel="iteration", ylabel="loss")
    for number, name in enumerate(terms):
        axes.plot(*_curve(run, name), color=f"C{number}", linewidth=2.5 if name == "loss" else 1.2)
    return Drawing([to_svg(axes, f"terms-{run.run.name}", f"Terms of the loss: {run.label}")], _cycle(terms))


def _curve(run: FinishedRun, term: str) -> tuple[list[float], list[float]]:
    """Iterations and values of a loss term, without a last stretch that is too short for a mean.

    Each point is a mean over a stretch of iterations. The last stretch may be of one iteration, whose loss
    jumps; it is left out where it is shorter than half of the stretch before.
    """
    points = [point for point in run.curve if term in point]
    if len(points) > 2:
        last, usual = (points[i]["iteration"] - points[i - 1]["iteration"] for i in (-1, -2))
        points = points[:-1] if last < usual / 2 else points
    return [point["iteration"] for point in points], [point[term] for point in points]


def soft_ranks(scores: np.ndarray, correlation: dict[str, float]) -> Drawing:
    """Soft ranks of some scores at several strengths, named with the coefficient that they give.

    Args:
        scores: (n,), in [0, 1].
        correlation: From `corrloss.report.soft_ranks.correlations`.
    """
    axes = new_axes(300, xlabel="score", ylabel="soft rank")
    ascending = np.sort(scores.astype(float))
    for number, strength in enumerate(STRENGTHS):
        axes.plot(ascending, soft_rank(ascending, strength), "o-", color=f"C{number}", markersize=2.5)
    names = [f"strength {strength:g}" for strength in STRENGTHS]
    keys = _cycle(f"{name}: ρ = {correlation[name]:.4f}" for name in names)
    return Drawing([to_svg(axes, "soft-ranks", "Soft rank against score at several strengths")], keys)


def coefficient_colour(coefficient: str) -> str:
    """The colour of a coefficient, or of the baseline."""
    return COLOURS.get(coefficient, COLOURS["other"])


def coefficient_key(coefficient: str, mark: str = "dot") -> Key:
    """The legend's entry of a coefficient, or of the baseline."""
    label = "baseline" if coefficient == BASELINE else coefficient
    return Key(label, coefficient if coefficient in COLOURS else "other", mark)


def coefficient_keys(comparisons: Iterable[Comparison]) -> list[Key]:
    """The legend of a figure whose colours are coefficients, the baseline first."""
    return [
        coefficient_key(name) for name in dict.fromkeys([BASELINE, *(c.coefficient for c in comparisons)])
    ]


def _cycle(labels: Iterable[str]) -> list[Key]:
    """The legend of lines in matplotlib's cycle of colours."""
    return [Key(label, to_hex(f"C{number}"), "line") for number, label in enumerate(labels)]


def _run_keys(runs: list[FinishedRun]) -> list[Key]:
    several = len({run.run.seed for run in runs}) > 1
    labels = [f"{run.loss} · seed {run.run.seed}" if several else run.loss for run in runs]
    return [Key(label, colour, "line") for label, colour in zip(labels, _shades(runs), strict=True)]


def _shades(runs: list[FinishedRun]) -> list[str]:
    """The colour of each run's loss, paler the more runs with the same coefficient come before it."""
    seen = Counter()
    shades = []
    for run in runs:
        paler = 1 - 0.75 ** seen[run.run.coefficient]
        seen[run.run.coefficient] += 1
        channels = np.array(to_rgb(coefficient_colour(run.run.coefficient)))
        shades.append(to_hex(channels + paler * (1 - channels)))
    return shades


def _greek(name: str) -> str:
    return name.replace("rho", "ρ")


def known(value: float | None) -> bool:
    """Whether a figure is known."""
    return not pd.isna(value)


def _number(value: float | None) -> float:
    return np.nan if value is None else value


def by_detector(runs: Iterable[FinishedRun]) -> dict[str, list[FinishedRun]]:
    """The runs of each detector, in their order; with the data set's name where there are several."""
    runs = list(runs)
    several = len({run.run.dataset for run in runs}) > 1
    groups: dict[str, list[FinishedRun]] = {}
    for run in runs:
        name = f"{run.run.detector} on {run.run.dataset}" if several else run.run.detector
        groups.setdefault(name, []).append(run)
    return groups
