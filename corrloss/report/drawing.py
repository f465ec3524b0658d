"""Matplotlib figures as inline SVG that follows the page: its font, its dark colours, its width."""

from __future__ import annotations

import io
import re
from contextlib import AbstractContextManager
from typing import NamedTuple

import matplotlib as mpl
from markupsafe import Markup, escape
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

PIXELS_PER_INCH = 96
NARROW = 360  # CSS pixels: fits a phone of 400

# Colours by meaning, of Okabe and Ito (told apart by colour-blind readers, too). page.css redefines each as a
# CSS variable of the same name, with a lighter twin for the dark scheme.
COLOURS = {
    "none": "#777777",
    "pearson": "#0072b2",
    "spearman": "#d55e00",
    "spearman_exact": "#cc79a7",
    "concordance": "#009e73",
    "other": "#e69f00",
    "ink": "#222222",
    "line": "#cccccc",
    "page": "#fefefe",
}
STYLE = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # a name from data may hold a dollar sign
    "font.size": 8.5,
    "axes.titlesize": 8.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    **dict.fromkeys(("axes.edgecolor", "xtick.color", "ytick.color"), COLOURS["none"]),
    **dict.fromkeys(("axes.labelcolor", "axes.titlecolor", "text.color"), COLOURS["ink"]),
    **dict.fromkeys(("xtick.labelcolor", "ytick.labelcolor"), COLOURS["ink"]),
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": COLOURS["line"],
    "grid.linewidth": 0.5,
    "xtick.bottom": False,
    "ytick.left": False,
    "lines.linewidth": 1.5,
}
SVG = "http://www.w3.org/2000/svg"
XLINK = "http://www.w3.org/1999/xlink"
TOOLTIP = "tooltip "  # first part of the id of an element that shows one
#: What is removed from matplotlib's SVG, and what it is replaced by.
SIMPLER = {
    r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->": "",
    rf"<g id=(['\"]){TOOLTIP}(.*?)\1": r"<g><title>\2</title",
    r"<g id=(['\"]).*?\1": "<g",  # clip paths, markers and images keep theirs
    r">\s+<": "><",
    r" font-family: [^;\"]*;?": "",  # the page's own font
    r" transform=\"rotate\(-0 [^\"]*\"": "",
    r"(\d+\.\d\d)\d+(?=[^<>]*>)": r"\1",  # coordinates, not texts: no more digits than a screen shows
}


class Key(NamedTuple):
    """One entry of a legend."""

    label: str
    colour: str  # a name of `COLOURS`, or a CSS colour
    mark: str = "dot"  # or `diamond`, `square`, `line`, `dashed`

    @property
    def css(self) -> str:
        """The colour for CSS, a variable where the drawing has one, too."""
        names = {colour: name for name, colour in COLOURS.items()} | {name: name for name in COLOURS}
        return f"var(--{names[self.colour]})" if self.colour in names else self.colour


class Drawing(NamedTuple):
    """A figure of the page."""

    panels: list[Markup]  # SVG elements; in one row where the page is wide enough
    legend: list[Key]  # the same for all panels


def page_style() -> AbstractContextManager[None]:
    """Make and draw figures in the page's style."""
    return mpl.rc_context(STYLE)


def new_axes(height: float, width: float = NARROW, long_labels: bool = False, **labels: str) -> Axes:
    """The axes of an empty figure.

    Args:
        height: CSS pixels.
        width: CSS pixels.
        long_labels: Whether the labels at the left are names, not numbers. Making room for them doubles
            the time that the figure takes.
        labels: ``xlabel``, ``ylabel`` and other properties of the axes.
    """
    figure = Figure(figsize=(width / PIXELS_PER_INCH, height / PIXELS_PER_INCH))
    if long_labels:
        figure.set_layout_engine("constrained")
    else:
        figure.subplots_adjust(58 / width, 46 / height, 1 - 12 / width, 1 - 20 / height)
    axes = figure.subplots()
    axes.set(**labels)
    return axes


def tooltip(artist: Artist, text: str) -> None:
    """Show a text where the mouse rests on an artist."""
    artist.set_gid(TOOLTIP + text)


def to_svg(axes: Axes, name: str, description: str) -> Markup:
    """Draw the figure of some axes: no metadata, no style sheet of its own, no unused ids, no white space.

    Args:
        axes: From `new_axes`.
        name: Unique on the page: ids inside the SVG are made from it.
        description: For readers who do not see the figure.
    """
    buffer = io.StringIO()
    empty = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with mpl.rc_context({"svg.hashsalt": name}):
        axes.figure.savefig(buffer, format="svg", transparent=True, metadata=empty)
    head, svg = buffer.getvalue().split("<svg ", 1)[1].split(">", 1)
    view_box = re.search(r'viewBox="[^"]*"', head)[0]
    for pattern, replacement in SIMPLER.items():
        svg = re.sub(pattern, replacement, svg, flags=re.DOTALL)
    for meaning, colour in COLOURS.items():
        svg = re.sub(rf"(fill|stroke): {colour}\b", rf"\1: var(--{meaning})", svg)
    width = axes.figure.get_figwidth() * PIXELS_PER_INCH * 1.25
    start = f'<svg xmlns="{SVG}" xmlns:xlink="{XLINK}" {view_box} role="img" style="max-width: {width:.0f}px"'
    return Markup(f'{start} aria-label="{escape(description)}">{svg}')
