"""The tables of a scale in a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from textwrap import fill

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table as Grid

from corrloss.analysis.verdict import NOT_COMPARABLE
from corrloss.errors import CorrLossError
from corrloss.plan.experiments import Experiments
from corrloss.plan.runs import BASELINE, OPTION_NAMES
from corrloss.plan.table_files import load_table
from corrloss.tables.csv_file import read_csv
from corrloss.tables.render import NOT_EVIDENCE, as_text

VARIANT = ("detector", "coefficient", "weight")
WIDTH = 100  # characters
# Long, or the same in most rows: they are in the files.
LEFT_OUT = (
    "ci_low", "ci_high", "se_images", "se_seeds", "p_value", "n_images", "n_seeds", "paper_source",
    "difference", "tolerance_low", "tolerance_high", "incomplete", "failed", "mixed",
)  # fmt: skip
INTERVAL = "95% interval"
LEFT = ("detector", "loss", "verdict")  # aligned to the left
# What gives way where a line is too short for all, in this order.
GIVE_WAY = ("paper AP", INTERVAL, "verdict")


class NoTableError(CorrLossError):
    """There is no table to show, or it is damaged; the message names the file."""


def show(experiments: Experiments, scale: str, results: Path, width: int = WIDTH) -> str:
    """The main tables of a scale as text, and where all its tables and ``runs.csv`` are.

    Args:
        experiments: Where the tables' own files are; they say which are main.
        scale: Name of the scale.
        results: Folder of all results.
        width: Characters of a line.

    Raises:
        NoTableError: No table of this scale is there yet, or one is damaged.
        ExperimentError: A table's own file is broken, or there is no such scale.
    """
    plans = [load_table(experiments, name, scale) for name in experiments.tables]
    paths = {plan.name: results / scale / "tables" / f"{plan.name}.csv" for plan in plans if plan.runs}
    made = {name: path for name, path in paths.items() if path.exists()}
    if not made:
        raise NoTableError(
            f"{results / scale / 'tables'}: no table yet; make them with `snakemake --config scale={scale}`"
        )
    main = [plan for plan in plans if plan.main and plan.name in made]
    parts = [to_text(read_table(made[plan.name]), plan.title, width) for plan in main]
    if scale in NOT_EVIDENCE:
        parts.append(fill(NOT_EVIDENCE[scale], width))
    return "\n\n".join([*parts, _places(results / scale / "runs.csv", paths)])


def read_table(path: Path) -> pd.DataFrame:
    """Read a table that the bench has made; numbers as numbers.

    Raises:
        NoTableError: It is damaged.
    """
    frame = read_csv(path, NoTableError, VARIANT)
    for name in frame:
        numbers = pd.to_numeric(frame[name], errors="coerce")
        if (numbers.notna() | (frame[name] == "")).all():
            frame[name] = numbers
    return frame.reset_index(drop=True)


def to_text(frame: pd.DataFrame, title: str, width: int = WIDTH) -> str:
    """One table for a terminal; a heading breaks at its words where the line is too short for it.

    Args:
        frame: From :func:`read_table` or :func:`corrloss.tables.build.build_table`.
        title: Heading.
        width: Characters of a line.
    """
    cells = as_text(frame)
    detector = cells["detector"].where(cells["detector"] != cells["detector"].shift(), "")
    shown = pd.DataFrame({"detector": detector, "loss": [_loss(row) for _, row in cells.iterrows()]})
    for name in cells:
        nothing_known = name.startswith("paper_") and not cells[name].any()
        if name not in {*VARIANT, *OPTION_NAMES, *LEFT_OUT} and not nothing_known:
            shown[_heading(name)] = cells[name]
        if name == "ci_high" and cells[name].any():
            shown[INTERVAL] = (cells["ci_low"] + " " + cells["ci_high"]).str.strip()
    if "verdict" in shown and (shown["verdict"] == NOT_COMPARABLE).all():
        shown = shown.drop(columns="verdict")
    return "\n".join([title, _fitted(shown, width), *(fill(note, width) for note in _notes(cells))])


def _notes(cells: pd.DataFrame) -> Iterator[str]:
    """What the last columns say of single rows, once for the table."""
    for column, what in (("incomplete", "not finished yet"), ("failed", "whose training failed")):
        if names := sorted({run for runs in cells.get(column, ()) for run in runs.split()}):
            yield f"without these runs, {what}: {' '.join(names)}"
    if mixed := sorted({text for row in cells.get("mixed", ()) for text in row.split("; ") if text}):
        yield f"runs that are compared differ in more than the loss: {'; '.join(mixed)}"


def _loss(row: pd.Series) -> str:
    weight = [] if row["coefficient"] == BASELINE else [row["weight"]]
    options = [f"{name}={row[name]}" for name in OPTION_NAMES if row.get(name)]
    return " ".join([row["coefficient"], *weight, *options])


def _heading(name: str) -> str:
    for prefix in ("delta", "paper", "mask"):
        name = name.replace(f"{prefix}_", f"{prefix} ")
    return name


def _fitted(shown: pd.DataFrame, width: int) -> str:
    """As airy as the width allows; lines that are too long rather than figures cut off."""
    console = Console(width=1000, color_system=None, markup=False, highlight=False, emoji=False)
    ways = [(1, " "), *((gap, "\n") for gap in (1, 0))]
    for left_out in range(len(GIVE_WAY) + 1):
        kept = shown.drop(columns=list(GIVE_WAY[:left_out]), errors="ignore")
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


def _places(runs: Path, paths: dict[str, Path]) -> str:
    lines = [f"runs:   {runs}" if runs.exists() else f"runs:   {runs} (not made yet)"]
    for name, path in paths.items():
        lines.append(
            f"table:  {path}, .md" if path.exists() else f"table:  {name} (`snakemake {name}` makes it)"
        )
    return "\n".join(lines)
