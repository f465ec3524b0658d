"""Matplotlib figures as inline SVG that follows the page: its font, its dark colours, its width."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from xml.etree import ElementTree

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.artist import Artist
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
    "axes.edgecolor": COLOURS["none"],
    "axes.labelcolor": COLOURS["ink"],
    "axes.titlecolor": COLOURS["ink"],
    "text.color": COLOURS["ink"],
    "xtick.color": COLOURS["none"],
    "ytick.color": COLOURS["none"],
    "xtick.labelcolor": COLOURS["ink"],
    "ytick.labelcolor": COLOURS["ink"],
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
KEEP_IDS = ("clipPath", "path", "image")  # elements that others refer to


@dataclass(frozen=True)
class Key:
    """One entry of a legend.

    Attributes:
        label: What the mark means.
        colour: A name of `COLOURS`, or a CSS colour.
        mark: ``dot``, ``ring``, ``diamond``, ``line`` or ``dashed``.
    """

    label: str
    colour: str
    mark: str = "dot"

    @property
    def css(self) -> str:
        """The colour for CSS, a variable where the drawing has one, too."""
        names = {colour: name for name, colour in COLOURS.items()} | {name: name for name in COLOURS}
        return f"var(--{names[self.colour]})" if self.colour in names else self.colour


@dataclass(frozen=True)
class Drawing:
    """A figure of the page.

    Attributes:
        panels: SVG elements; they lie side by side where the page is wide enough.
        legend: What the marks mean, the same for all panels.
        narrow: Panels for a page too narrow for `panels`; empty where those fit everywhere.
    """

    panels: list[Markup]
    legend: list[Key] = field(default_factory=list)
    narrow: list[Markup] = field(default_factory=list)


@contextmanager
def page_style() -> Iterator[None]:
    """Make and draw figures in the page's style."""
    with mpl.rc_context(STYLE):
        yield


def new_figure(height: float, width: float = NARROW, long_labels: bool = False) -> Figure:
    """An empty figure.

    Args:
        height: CSS pixels.
        width: CSS pixels.
        long_labels: Whether the labels at the left are names, not numbers. Making room for them doubles
            the time that the figure takes.
    """
    size = (width / PIXELS_PER_INCH, height / PIXELS_PER_INCH)
    if long_labels:
        return Figure(figsize=size, layout="constrained")
    margins = {"left": 58 / width, "right": 1 - 12 / width, "bottom": 46 / height, "top": 1 - 20 / height}
    figure = Figure(figsize=size)
    figure.subplots_adjust(**margins)
    return figure


def tooltip(artist: Artist, text: str) -> None:
    """Show a text where the mouse rests on an artist."""
    artist.set_gid(TOOLTIP + text)


def to_svg(figure: Figure, name: str, description: str) -> Markup:
    """Draw a figure.

    Args:
        figure: From `new_figure`.
        name: Unique on the page: ids inside the SVG are made from it.
        description: For readers who do not see the figure.
    """
    buffer = io.StringIO()
    empty = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with mpl.rc_context({"svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", transparent=True, metadata=empty)
    ElementTree.register_namespace("", SVG)
    ElementTree.register_namespace("xlink", XLINK)
    root = ElementTree.fromstring(buffer.getvalue())
    _simplify(root)
    width = figure.get_figwidth() * PIXELS_PER_INCH
    for attribute in ("width", "height", "version"):
        del root.attrib[attribute]
    root.attrib |= {"role": "img", "aria-label": description, "style": f"max-width: {width * 1.25:.0f}px"}
    return Markup(_with_variables(ElementTree.tostring(root, encoding="unicode")))


def _simplify(root: ElementTree.Element) -> None:
    """Keep what is drawn: no metadata, no style sheet of its own, no unused ids, no white space."""
    for parent in root.iter():
        parent.text, parent.tail = (text.strip() if text else None for text in (parent.text, parent.tail))
        for child in list(parent):
            if child.tag in (f"{{{SVG}}}metadata", f"{{{SVG}}}style"):
                parent.remove(child)
        identity = parent.get("id", "")
        if identity.startswith(TOOLTIP):
            title = ElementTree.Element(f"{{{SVG}}}title")
            title.text = identity.removeprefix(TOOLTIP)
            parent.insert(0, title)
        if not parent.tag.endswith(KEEP_IDS):
            parent.attrib.pop("id", None)


def _with_variables(svg: str) -> str:
    """Colours of `COLOURS` as CSS variables, the page's own font, and no more digits than a screen shows."""
    svg = re.sub(r" font-family: [^;\"]*;?", "", svg)
    svg = re.sub(r" transform=\"rotate\(-0 [^\"]*\"", "", svg)
    svg = re.sub(r"(\d+\.\d\d)\d+", r"\1", svg)
    for name, colour in COLOURS.items():
        svg = re.sub(rf"(fill|stroke): {colour}\b", rf"\1: var(--{name})", svg)
    return svg
