"""The forest plot: every detector's gain with its interval, beside the published one."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from matplotlib.axes import Axes

from corrloss.report.comparisons import Comparison, Mean
from corrloss.report.drawing import COLOURS, PIXELS_PER_INCH, Drawing, Key, new_axes, to_svg, tooltip
from corrloss.report.figures import coefficient_colour, coefficient_key
from corrloss.tables.render import rounded

WIDTH = 420  # CSS pixels
ROW, GAP, AXIS = 15, 0.7, 46  # pixels of a row, rows between detectors, pixels of the axis
ONE_SEED = Key("95% over images, this pair only (one seed)", "ink", "dashed")
SEVERAL_SEEDS = Key("95% over images and seeds", "ink", "line")
PUBLISHED = Key("published gain", "ink", "diamond")
OVER_DETECTORS = Key("mean over detectors, 95% over images, seeds and detectors", "ink", "square")


def forest(comparisons: list[Comparison], name: str, means: Sequence[Mean] = ()) -> Drawing | None:
    """Differences to the baselines, a band a detector, a row and colour a coefficient; means at the end.

    An interval of one seed is dashed and its mark is hollow: it covers other images, not other trainings.

    Args:
        comparisons: What to show, those of one detector and metric in sequence.
        name: Unique on the page.
        means: Means over detectors.

    Returns:
        The figure; None where there is nothing to compare.
    """
    if not comparisons:
        return None
    bands = [list(band) for _, band in groupby([*comparisons, *means], _band)]
    axes = new_axes(AXIS, WIDTH, long_labels=True, xlabel="gain over the baseline, points of AP")
    place, middles, places = 0.0, [], []
    for band in bands:
        middles.append(place + (len(band) - 1) / 2)
        for comparison in band:
            _draw(axes, comparison, place)
            places.append(place)
            place += 1
        place += GAP
    height = places[-1] + 1
    axes.figure.set_figheight((AXIS + ROW * height) / PIXELS_PER_INCH)
    axes.axvline(0, color=COLOURS["none"], linewidth=1)
    axes.set_ylim(height - 0.4, -0.6)
    several = len({c.dataset for c in comparisons}) > 1
    axes.set_yticks(middles, [_detector(band[0], several) for band in bands])
    _label_weights(axes, places, [*(c.weight for c in comparisons), *("" for _ in means)])
    drawn = to_svg(axes, name, "Gain of each detector with Correlation Loss over its baseline")
    return Drawing([drawn], _legend(comparisons) + [OVER_DETECTORS] * bool(means))


def _band(shown: Comparison | Mean) -> tuple[str, str, str]:
    if isinstance(shown, Mean):
        return shown.dataset, "mean", ""
    return shown.dataset, shown.detector, shown.metric


def _draw_mean(axes: Axes, mean: Mean, place: float) -> None:
    colour, gain = coefficient_colour(mean.coefficient), mean.gain
    axes.plot([gain.ci_low, gain.ci_high], [place] * 2, color=colour, solid_capstyle="butt", linewidth=3)
    (point,) = axes.plot([gain.delta], [place], "s", color=colour, markersize=6.5)
    tooltip(point, describe_mean(mean))


def describe_mean(mean: Mean) -> str:
    """The mean gain of a coefficient in words."""
    gain = mean.gain
    ends = f"{rounded(gain.ci_low)} … {rounded(gain.ci_high)}"
    return (
        f"{mean.coefficient}: mean gain of {gain.n_detectors} detectors {rounded(gain.delta)} AP "
        f"(95% over images, seeds and detectors: {ends}), AP rose in {gain.n_rose}"
    )


def _draw(axes: Axes, comparison: Comparison | Mean, place: float) -> None:
    if isinstance(comparison, Mean):
        return _draw_mean(axes, comparison, place)
    colour = coefficient_colour(comparison.coefficient)
    one_seed = comparison.n_seeds == 1
    if comparison.interval:
        axes.plot(
            comparison.interval, [place] * 2, color=colour, solid_capstyle="butt",
            linestyle=(0, (2, 1)) if one_seed else "-", linewidth=1.2 if one_seed else 2.2,
        )  # fmt: skip
    filling = COLOURS["page"] if one_seed else colour
    mark = dict(markerfacecolor=filling, color=colour, markersize=5)
    (point,) = axes.plot([comparison.delta], [place], "o", **mark)
    tooltip(point, describe(comparison))
    if comparison.published is not None:
        mark = dict(markerfacecolor="none", color=COLOURS["ink"], markersize=4.5)
        (diamond,) = axes.plot([comparison.published], [place], "D", **mark)
        tooltip(diamond, f"{comparison.name}: published gain {rounded(comparison.published)}")


def describe(comparison: Comparison) -> str:
    """One comparison in words."""
    text = f"{comparison.name}: {rounded(comparison.delta)} {comparison.metric.replace('_', ' ')}"
    if comparison.interval:
        low, high = comparison.interval
        cover = "over images, this pair only" if comparison.n_seeds == 1 else "over images and seeds"
        text += f" (95% {cover}: {rounded(low)} … {rounded(high)})"
    return f"{text}, {comparison.n_seeds} seed{'s' if comparison.n_seeds > 1 else ''}"


def _detector(comparison: Comparison | Mean, several: bool) -> str:
    if isinstance(comparison, Mean):
        return f"mean of {comparison.gain.n_detectors} detectors" + (f"\n{comparison.dataset}" * several)
    masks = ", masks" if comparison.metric == "mask_AP" else ""
    return f"{comparison.detector}{masks}" + (f"\n{comparison.dataset}" if several else "")


def _label_weights(axes: Axes, places: list[float], weights: list[str]) -> None:
    """The weight of each loss at the right."""
    right = axes.secondary_yaxis("right")
    right.set_yticks(places, weights, fontsize=7)
    right.tick_params(length=0)
    right.spines["right"].set_visible(False)
    axes.set_title("λ", loc="right", fontsize=7, pad=2)
    axes.grid(False, axis="y")


def _legend(comparisons: list[Comparison]) -> list[Key]:
    keys = [coefficient_key(name) for name in dict.fromkeys(c.coefficient for c in comparisons)]
    with_interval = {c.n_seeds == 1 for c in comparisons if c.interval}
    keys += [ONE_SEED] * (True in with_interval) + [SEVERAL_SEEDS] * (False in with_interval)
    return keys + [PUBLISHED] * any(c.published is not None for c in comparisons)
