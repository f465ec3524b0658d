"""The page's figures. Names from data are escaped: Plotly reads labels as a kind of HTML."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Callable, Iterable

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.colors import convert_to_RGB_255, hex_to_rgb, unconvert_from_RGB_255
from plotly.subplots import make_subplots

from corrloss.analysis.correlation import SWEEP, Positives
from corrloss.analysis.tide import TIDE
from corrloss.plan.runs import BASELINE, OPTION_NAMES
from corrloss.report.results import FinishedRun, loss_label
from corrloss.report.soft_ranks import STRENGTHS, soft_rank

# Of Okabe and Ito, told apart by colour-blind readers too.
COLOURS = {
    BASELINE: "#777777",
    "pearson": "#0072B2",
    "spearman": "#D55E00",
    "spearman_exact": "#CC79A7",
    "concordance": "#009E73",
}
OTHER = "#E69F00"
PAPER = "black"
SYMBOLS = ("circle", "square", "diamond", "cross", "x", "triangle-up", "star", "pentagon", "hexagon")
BINS = 35
LEFT_OUT = {"rho_img": "images", "rho_cls": "classes"}
ORDERS = {"worst": "#D55E00", "actual": "#777777", "best": "#009E73"}


def forest(frame: pd.DataFrame, metric: str, interval: bool) -> go.Figure | None:
    """Differences to the baseline as points, beside the published ones.

    Args:
        frame: A table.
        metric: The headline metric whose delta is shown.
        interval: Whether the table's interval and published figures are of this metric.

    Returns:
        The figure; None where the table has no delta.
    """
    rows = frame[frame[f"delta_{metric}"].notna()].iloc[::-1]
    if rows.empty:
        return None
    names = [_row_name(row) for _, row in rows.iterrows()]
    delta = rows[f"delta_{metric}"]
    figure = _figure(130 + 28 * len(rows), xaxis_title=f"Δ{metric} to the baseline, points")
    figure.add_scatter(
        x=delta, y=names, mode="markers", name="measured",
        marker={"color": [_colour(name) for name in rows["coefficient"]], "size": 9},
        error_x=_error_bars(rows, delta) if interval else None,
    )  # fmt: skip
    paper = pd.to_numeric(rows.get("paper_delta", pd.Series(np.nan, rows.index)))
    if interval and paper.notna().any():
        marker = {"symbol": "diamond-open", "color": PAPER, "size": 10}
        figure.add_scatter(x=paper, y=names, mode="markers", name="published", marker=marker)
    figure.add_vline(x=0, line={"dash": "dot", "color": COLOURS[BASELINE]})
    return figure.update_yaxes(type="category", categoryorder="array", categoryarray=names)


def _error_bars(rows: pd.DataFrame, delta: pd.Series) -> dict | None:
    if not {"ci_low", "ci_high"} <= set(rows):
        return None
    return {
        "color": PAPER,
        "type": "data",
        "array": rows["ci_high"] - delta,
        "arrayminus": delta - rows["ci_low"],
    }


def weight_curves(frame: pd.DataFrame, metric: str) -> dict[str, go.Figure]:
    """A metric against λ, one figure a detector, the baseline at λ = 0."""
    figures = {}
    for detector, rows in frame.groupby("detector", sort=False):
        figure = _figure(380, xaxis_title="λ", yaxis_title=metric)
        base = rows[rows["coefficient"] == BASELINE]
        for coefficient, points in rows[rows["coefficient"] != BASELINE].groupby("coefficient", sort=False):
            line = pd.concat([base, points]).sort_values("weight")
            figure.add_scatter(
                x=line["weight"], y=line[metric], name=_plain(coefficient), marker_color=_colour(coefficient)
            )
        figures[detector] = figure
    return figures


def density(runs: list[FinishedRun], positives: Callable[[FinishedRun], Positives]) -> go.Figure | None:
    """How many positives have which score and IoU, a panel a run; the line is the mean score at an IoU.

    None where no run has any.
    """
    stored = [positives(run) for run in runs]
    if not any(len(found.score) for found in stored):
        return None
    titles = [f"{_plain(run.loss)}<br>ρ_img {_points(run.metric('rho_img'))}" for run in runs]
    figure = make_subplots(1, len(runs), shared_yaxes=True, subplot_titles=titles, horizontal_spacing=0.03)
    for column, found in enumerate(stored, start=1):
        iou_edges, score_edges = np.linspace(found.min_iou, 1, BINS + 1), np.linspace(0, 1, BINS + 1)
        iou = np.clip(found.iou.astype(float), found.min_iou, 1)  # float32 may stand a little outside
        counts = np.histogram2d(found.score, iou, [score_edges, iou_edges])[0]
        shown = np.log10(counts, out=np.full_like(counts, np.nan), where=counts > 0)
        figure.add_heatmap(
            x=_middles(iou_edges), y=_middles(score_edges), z=shown, customdata=counts, coloraxis="coloraxis",
            hovertemplate="IoU %{x:.2f}, score %{y:.2f}: %{customdata} positives<extra></extra>",
            row=1, col=column,
        )  # fmt: skip
        x, y = _mean_by_bin(iou, found.score, iou_edges)
        figure.add_scatter(x=x, y=y, line_color="black", showlegend=False, row=1, col=column)
    ticks = {"tickvals": [0, 1, 2, 3, 4, 5], "ticktext": ["1", "10", "100", "1k", "10k", "100k"]}
    bar = {"title": "positives", **ticks}
    figure.update_layout(_layout(430), coloraxis={"colorscale": "Viridis", "colorbar": bar})
    figure.update_layout(margin_t=90)  # titles of two lines, below the buttons
    figure.update_yaxes(range=[0, 1]).update_yaxes(title="score", col=1)
    return figure.update_xaxes(title="IoU", range=[min(found.min_iou for found in stored), 1])


def _middles(edges: np.ndarray) -> np.ndarray:
    return (edges[:-1] + edges[1:]) / 2


def _mean_by_bin(x: np.ndarray, y: np.ndarray, edges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    counts = np.histogram(x, edges)[0]
    sums = np.histogram(x, edges, weights=y.astype(float))[0]
    filled = counts > 0
    return _middles(edges)[filled], sums[filled] / counts[filled]


def correlation_and_ap(runs: list[FinishedRun]) -> go.Figure | None:
    """AP against ρ_img and against ρ_cls: a point a run; colour is the loss, shape the detector."""
    measures = [name for name in ("rho_img", "rho_cls") if any(_known(run.metric(name)) for run in runs)]
    if not measures:
        return None
    figure = make_subplots(1, len(measures), shared_yaxes=True, horizontal_spacing=0.04)
    detectors = list(dict.fromkeys(run.run.detector for run in runs))
    for column, name in enumerate(measures, start=1):
        for position, detector in enumerate(detectors):
            own = [run for run in runs if run.run.detector == detector and _known(run.metric(name))]
            marker = {
                "color": [_colour(run.run.coefficient) for run in own],
                "symbol": SYMBOLS[position % len(SYMBOLS)],
                "size": 10,
            }
            figure.add_scatter(
                x=[run.metric(name) for run in own], y=[run.metric("AP") for run in own], mode="markers",
                marker=marker, name=_plain(detector), legendgroup=detector, showlegend=column == 1,
                text=[_plain(run.label) for run in own], hovertemplate="%{text}<br>%{x:.1f}, AP %{y:.1f}",
                row=1, col=column,
            )  # fmt: skip
        figure.update_xaxes(title=f"{name.replace('rho', 'ρ')} (Spearman, points)", col=column)
    return figure.update_layout(_layout(430)).update_yaxes(title="AP", col=1)


def thresholds(runs: list[FinishedRun]) -> go.Figure | None:
    """ρ_img and ρ_cls against the IoU from which a detection is a positive: a line a run."""
    points = {name: [f"{name}_at_{threshold}" for threshold in SWEEP] for name in ("rho_img", "rho_cls")}
    own = [run for run in runs if any(_known(run.metric(at)) for names in points.values() for at in names)]
    if not own:
        return None
    figure = make_subplots(1, 2, shared_yaxes=True, horizontal_spacing=0.04)
    for run, colour in zip(own, _shades(own), strict=True):
        for column, (name, measured) in enumerate(points.items(), start=1):
            left_out = [run.metric(at.replace("_at_", "_left_out_at_")) for at in measured]
            figure.add_scatter(
                x=SWEEP, y=[run.metric(at) for at in measured], mode="lines+markers",
                name=_plain(f"{run.loss} · seed {run.run.seed}"), legendgroup=run.run.name,
                showlegend=column == 1, marker_color=colour, customdata=left_out,
                hovertemplate=f"%{{y:.1f}}, {LEFT_OUT[name]} left out: %{{customdata}}", row=1, col=column,
            )  # fmt: skip
            figure.update_xaxes(title=f"IoU of a positive, for {name.replace('rho', 'ρ')}", col=column)
    return figure.update_layout(_layout(380)).update_yaxes(title="ρ (Spearman, points)", col=1)


def bounds(runs: list[FinishedRun], name: str) -> go.Figure | None:
    """AP as it is, and with the scores of the positives dealt out worst and best.

    Args:
        runs: Finished runs.
        name: ``img`` (before post-processing) or ``cls`` (after it).
    """
    own = [run for run in runs if _known(run.metric(f"bound_{name}_best_AP"))]
    if not own:
        return None
    names = [_plain(run.label) for run in own]
    figure = _figure(130 + 42 * len(own), barmode="group", xaxis_title="AP")
    for order, colour in ORDERS.items():
        metric = "AP" if order == "actual" else f"bound_{name}_{order}_AP"
        figure.add_bar(
            x=[run.metric(metric) for run in own], y=names, name=order, orientation="h", marker_color=colour
        )
    figure.update_layout(legend_traceorder="reversed")
    return figure.update_yaxes(type="category", categoryorder="array", categoryarray=names[::-1])


def tide(runs: list[FinishedRun]) -> go.Figure | None:
    """What each of TIDE's error types costs, a bar a run."""
    own = [run for run in runs if any(_known(run.metric(f"tide_{kind}")) for kind in TIDE)]
    if not own:
        return None
    figure = _figure(380, barmode="group", yaxis_title="cost in AP50, points")
    for run, colour in zip(own, _shades(own), strict=True):
        costs = [run.metric(f"tide_{kind}") for kind in TIDE]
        name = _plain(f"{run.loss} · seed {run.run.seed}")
        figure.add_bar(x=list(TIDE), y=costs, name=name, marker_color=colour)
    return figure


def training(runs: list[FinishedRun]) -> go.Figure:
    """The whole loss of several trainings."""
    figure = _figure(380, xaxis_title="iteration", yaxis_title="loss", yaxis_type="log")
    for run, colour in zip(runs, _shades(runs), strict=True):
        _curve(figure, run, "loss", _plain(f"{run.loss} · seed {run.run.seed}"), {"color": colour})
    return figure


def loss_terms(run: FinishedRun) -> go.Figure | None:
    """Each term of one training's loss; None where it left no curve."""
    terms = dict.fromkeys(name for point in run.curve for name in point if name != "iteration")
    if not terms:
        return None
    figure = _figure(300, xaxis_title="iteration", yaxis_title="loss")
    for name in terms:
        _curve(figure, run, name, _plain(name), {"width": 3 if name == "loss" else 1.5})
    return figure


def _curve(figure: go.Figure, run: FinishedRun, term: str, name: str, line: dict) -> None:
    points = [point for point in run.curve if term in point]
    x, y = ([point[key] for point in points] for key in ("iteration", term))
    figure.add_scatter(x=x, y=y, mode="lines", name=name, line=line)


def soft_ranks(scores: np.ndarray, correlation: dict[str, float]) -> go.Figure:
    """Soft ranks of some scores at several strengths, named with the coefficient that they give.

    Args:
        scores: (n,), in [0, 1].
        correlation: From :func:`corrloss.report.soft_ranks.correlations`.
    """
    figure = _figure(420, xaxis_title="score", yaxis_title="soft rank")
    ascending = np.sort(scores.astype(float))
    for strength in STRENGTHS:
        name = f"strength {strength:g}"
        ranks = soft_rank(ascending, strength)
        figure.add_scatter(
            x=ascending, y=ranks, mode="lines+markers", name=f"{name}: ρ = {correlation[name]:.4f}"
        )
    return figure


def _figure(height: int, **layout: object) -> go.Figure:
    return go.Figure(layout={**_layout(height), **layout})


def _layout(height: int) -> dict:
    return {
        "template": "plotly_white",
        "height": height,
        "margin": {"l": 60, "r": 20, "t": 50, "b": 50},
        "showlegend": True,
    }


def _row_name(row: pd.Series) -> str:
    options = {name: row[name] for name in OPTION_NAMES if name in row}
    return _plain(f"{row['detector']} · {loss_label(row['coefficient'], row['weight'], options)}")


def _colour(coefficient: str) -> str:
    return COLOURS.get(coefficient, OTHER)


def _shades(runs: list[FinishedRun]) -> list[str]:
    """The colour of each run's loss, paler the more runs with the same coefficient stand before it."""
    seen = Counter()
    shades = []
    for run in runs:
        paler = 1 - 0.75 ** seen[run.run.coefficient]
        seen[run.run.coefficient] += 1
        channels = np.array(unconvert_from_RGB_255(hex_to_rgb(_colour(run.run.coefficient))))
        mixed = convert_to_RGB_255(tuple(channels + paler * (1 - channels)))
        shades.append("rgb({}, {}, {})".format(*mixed))
    return shades


def _plain(text: str) -> str:
    return html.escape(str(text), quote=False)


def _known(value: float | None) -> bool:
    return value is not None and not pd.isna(value)


def _points(value: float | None) -> str:
    return f"{value:.1f}" if _known(value) else "unknown"


def by_detector(runs: Iterable[FinishedRun]) -> dict[str, list[FinishedRun]]:
    """The runs of each detector, in their order; with the data set's name where there are several."""
    runs = list(runs)
    several = len({run.run.dataset for run in runs}) > 1
    groups: dict[str, list[FinishedRun]] = {}
    for run in runs:
        name = f"{run.run.detector} on {run.run.dataset}" if several else run.run.detector
        groups.setdefault(name, []).append(run)
    return groups
