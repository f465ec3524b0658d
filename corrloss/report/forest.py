"""The forest plot: every detector's gain with its interval, beside the published one."""

from __future__ import annotations

from itertools import groupby

from markupsafe import Markup
from matplotlib.axes import Axes

from corrloss.report.comparisons import Comparison
from corrloss.report.drawing import COLOURS, NARROW, Drawing, Key, new_figure, to_svg, tooltip

WIDE = 860  # CSS pixels
ROW, GAP, AXIS = 15, 0.7, 46  # pixels of a row, rows between detectors, pixels of the axis
ONE_SEED = Key("95% over images, this pair only (one seed)", "ink", "dashed")
SEVERAL_SEEDS = Key("95% over images and seeds", "ink", "line")
PUBLISHED = Key("published gain", "ink", "diamond")


def forest(comparisons: list[Comparison], name: str) -> Drawing | None:
    """Differences to the baselines, a band a detector, a row and colour a coefficient.

    An interval of one seed is dashed and its mark is hollow: it covers other images, not other trainings.

    Args:
        comparisons: What to show, those of one detector and metric in sequence.
        name: Unique on the page.

    Returns:
        The figure, wide and narrow; None where there is nothing to compare.
    """
    if not comparisons:
        return None
    wide, narrow = (_panel(comparisons, width, f"{name}-{width}") for width in (WIDE, NARROW))
    return Drawing([wide], _legend(comparisons), [narrow])


def _panel(comparisons: list[Comparison], width: int, name: str) -> Markup:
    places = _places(comparisons)
    height = max(places.values()) + 1
    figure = new_figure(AXIS + ROW * height, width, long_labels=True)
    axes = figure.subplots()
    for comparison, place in zip(comparisons, places.values(), strict=True):
        _draw(axes, comparison, place)
    axes.axvline(0, color=COLOURS["none"], linewidth=1)
    axes.set(xlabel="gain over the baseline, points of AP", ylim=(height - 0.4, -0.6))
    _label(axes, comparisons, places)
    return to_svg(figure, name, "Gain of each detector with Correlation Loss over its baseline")


def _places(comparisons: list[Comparison]) -> dict[int, float]:
    """Position of each comparison on the vertical axis, by its index; detectors are apart by `GAP`."""
    places, place = {}, 0.0
    for number, comparison in enumerate(comparisons):
        if number and _band(comparison) != _band(comparisons[number - 1]):
            place += GAP
        places[number] = place
        place += 1
    return places


def _band(comparison: Comparison) -> tuple[str, str, str]:
    return comparison.dataset, comparison.detector, comparison.metric


def _draw(axes: Axes, comparison: Comparison, place: float) -> None:
    colour = COLOURS.get(comparison.coefficient, COLOURS["other"])
    one_seed = comparison.n_seeds == 1
    if comparison.interval:
        axes.plot(
            comparison.interval, [place] * 2, color=colour, solid_capstyle="butt",
            linestyle=(0, (2, 1)) if one_seed else "-", linewidth=1.2 if one_seed else 2.2,
        )  # fmt: skip
    filling = COLOURS["page"] if one_seed else colour
    (point,) = axes.plot(
        [comparison.delta], [place], "o", color=colour, markerfacecolor=filling, markersize=5
    )
    tooltip(point, describe(comparison))
    if comparison.published is not None:
        (diamond,) = axes.plot(
            [comparison.published], [place], "D", color=COLOURS["ink"], markerfacecolor="none", markersize=4.5
        )
        tooltip(diamond, f"{comparison.name}: published gain {comparison.published:+.1f}")


def describe(comparison: Comparison) -> str:
    """One comparison in words."""
    text = f"{comparison.name}: {comparison.delta:+.1f} {comparison.metric.replace('_', ' ')}"
    if comparison.interval:
        low, high = comparison.interval
        cover = "over images, this pair only" if comparison.n_seeds == 1 else "over images and seeds"
        text += f" (95% {cover}: {low:+.1f} … {high:+.1f})"
    return f"{text}, {comparison.n_seeds} seed{'s' if comparison.n_seeds > 1 else ''}"


def _label(axes: Axes, comparisons: list[Comparison], places: dict[int, float]) -> None:
    """Detectors at the left, in the middle of their bands; the weight of each loss at the right."""
    middles, names = [], []
    datasets = {c.dataset for c in comparisons}
    for _, band in groupby(places, key=lambda number: _band(comparisons[number])):
        numbers = list(band)
        middles.append((places[numbers[0]] + places[numbers[-1]]) / 2)
        names.append(_detector(comparisons[numbers[0]], several=len(datasets) > 1))
    axes.set_yticks(middles, names)
    weights = axes.secondary_yaxis("right")
    weights.set_yticks(list(places.values()), [c.weight for c in comparisons], fontsize=7)
    weights.tick_params(length=0)
    weights.spines["right"].set_visible(False)
    axes.set_title("λ", loc="right", fontsize=7, pad=2)
    axes.grid(False, axis="y")


def _detector(comparison: Comparison, several: bool) -> str:
    masks = ", masks" if comparison.metric == "mask_AP" else ""
    return f"{comparison.detector}{masks}" + (f"\n{comparison.dataset}" if several else "")


def _legend(comparisons: list[Comparison]) -> list[Key]:
    colours = dict.fromkeys(c.coefficient for c in comparisons)
    keys = [Key(name, name if name in COLOURS else "other") for name in colours]
    with_interval = {c.n_seeds == 1 for c in comparisons if c.interval}
    keys += [ONE_SEED] * (True in with_interval) + [SEVERAL_SEEDS] * (False in with_interval)
    return keys + [PUBLISHED] * any(c.published is not None for c in comparisons)
