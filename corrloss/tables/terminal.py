"""One table as text for a terminal, as wide as the line allows."""

from __future__ import annotations

from textwrap import fill

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table as Grid

from corrloss.plan.runs import BASELINE, OPTION_NAMES, PUBLISHED
from corrloss.plan.table_files import Table
from corrloss.tables.build import MANY
from corrloss.tables.intervals import DETECTORS, MARK
from corrloss.tables.notes import table_notes
from corrloss.tables.pooled_rows import CONTROL
from corrloss.tables.render import for_people

WIDTH = 100  # characters
VARIANT = ("detector", "coefficient", "weight")
INTERVAL = "95% over"  # first words of the heading of an interval
OTHER_INTERVAL = "95% of"  # the same of a metric that is not the headline
# Long, or the same in most rows: they are in the files.
LEFT_OUT = (
    "se_images", "se_seeds", "p_value", "p_holm", "n_images", "paper_source", "difference", "compared",
    "would agree", "seeds_for_1_AP",
)  # fmt: skip
LEFT = ("detector", "loss", "verdict")  # aligned to the left
# Dropped in this order where the line is too short for all columns.
GIVE_WAY = ("paper AP", "paper delta", INTERVAL, "verdict")


def to_text(frame: pd.DataFrame, plan: Table, width: int = WIDTH) -> str:
    """One table with its heading and question; a column's heading breaks at its words where it must.

    Args:
        frame: From `corrloss.tables.show.read_table` or `corrloss.tables.build.build_table`.
        plan: The table's own file.
        width: Characters of a line.
    """
    cells, marks = _one_interval(for_people(frame))
    detector = cells["detector"].where(cells["detector"] != cells["detector"].shift(), "")
    shown = pd.DataFrame({"detector": detector, "loss": [_loss(row) for _, row in cells.iterrows()]})
    hidden = {*VARIANT, *OPTION_NAMES, *LEFT_OUT} | ({"n_seeds"} if frame["n_seeds"].max() < 2 else set())
    for name in cells:
        if name not in hidden and not name.startswith(OTHER_INTERVAL):
            shown[_heading(name)] = cells[name]
    texts = [plan.title, *(fill(text, width) for text in (plan.question,) if text)]
    notes = [*marks, *table_notes(frame)]
    return "\n".join([*texts, _fitted(shown, width), *(fill(note, width) for note in notes)])


def _one_interval(cells: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Put the intervals of means over detectors into the column of the others, marked; explain the mark."""
    first, means = next((name for name in cells if name.startswith(INTERVAL)), ""), f"{INTERVAL} {DETECTORS}"
    if means not in cells or first == means:
        return cells, []
    marked = cells[means].where(cells[means] == "", cells[means] + f" {MARK}")
    merged = cells.assign(**{first: cells[first] + marked}).drop(columns=means)
    return merged, [f"{MARK} Over {DETECTORS}."]


def _loss(row: pd.Series) -> str:
    weight = [] if row["coefficient"] in (BASELINE, PUBLISHED, CONTROL) else [row["weight"]]
    options = [f"{name}={row[name]}" for name in OPTION_NAMES if row.get(name)]
    return " ".join(filter(None, [row["coefficient"], *weight, *options]))


def _heading(name: str) -> str:
    for prefix in ("delta", "paper", "mask"):
        name = name.replace(f"{prefix}_", f"{prefix} ")
    return name.replace(MANY, MANY.replace("_", " "))


def _fitted(shown: pd.DataFrame, width: int) -> str:
    """Use as much space as the width allows; a line may be too long, but no figure is truncated."""
    console = Console(width=1000, color_system=None, markup=False, highlight=False, emoji=False)
    ways = [(1, " "), *((gap, "\n") for gap in (1, 0))]
    for left_out in range(len(GIVE_WAY) + 1):
        kept = shown[[name for name in shown if not name.startswith(GIVE_WAY[:left_out])]]
        for gap, between_words in ways:
            grid = _grid(kept, gap, between_words)
            if Measurement.get(console, console.options, grid).maximum <= width:
                return _printed(console, grid)
    return _printed(console, grid)


def _grid(shown: pd.DataFrame, gap: int, between_words: str) -> Grid:
    grid = Grid(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, gap))
    for name in shown:
        grid.add_column(name.replace(" ", between_words), justify="left" if name in LEFT else "right")
    for row in shown.itertuples(index=False):
        grid.add_row(*row)
    return grid


def _printed(console: Console, grid: Grid) -> str:
    with console.capture() as captured:
        console.print(grid)
    return "\n".join(line.rstrip() for line in captured.get().splitlines())
