"""Tables as the page shows them: the gain first, columns that fit, all others on demand."""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd

from corrloss.analysis.verdict import NOT_COMPARABLE
from corrloss.plan.runs import OPTION_NAMES
from corrloss.report.comparisons import interval
from corrloss.report.results import MadeTable
from corrloss.tables.build import columns as metric_columns
from corrloss.tables.intervals import DETECTORS, MARK
from corrloss.tables.notes import table_notes
from corrloss.tables.pooled_rows import POOLED
from corrloss.tables.render import as_text, rounded

FILTERS = ("detector", "coefficient")
HEADINGS = {"weight": "λ", "n_seeds": "seeds", "paper_delta": "published Δ", "paper_AP": "published AP"}
NEED_SEEDS = (
    "p_value",
    "p_holm",
    "se_seeds",
    "seeds_for_1_AP",
)  # one pair of models says nothing about the method
THIS_PAIR_ONLY = "95% over images, this pair only"
ALWAYS, WIDE, ON_DEMAND = "always", "wide", "on-demand"  # wide: on pages wider than a phone's


class Column(NamedTuple):
    """A column: its name for people, when it is shown, and text and sort value of each cell."""

    heading: str
    when: str
    cells: list[tuple[str, str]]


class TableView(NamedTuple):
    """A table as text; ``choices`` are the values to filter by, of each of `FILTERS`."""

    name: str
    title: str
    question: str
    columns: list[Column]
    choices: dict[str, list[str]]
    notes: list[str]  # what a reader must know

    @property
    def rows(self) -> list[list[tuple[Column, str, str]]]:
        """Cells of each row: column, text, value to sort by."""
        return [
            [(column, *cell) for column, cell in zip(self.columns, cells, strict=True)]
            for cells in zip(*(column.cells for column in self.columns), strict=True)
        ]


def table_view(table: MadeTable) -> TableView:
    """Arrange a table: variant, gains with intervals, metrics; columns without any entry are left out."""
    text = as_text(table.frame)
    columns = [_column(table, text, name, when) for name, when in _arranged(table).items()]
    columns = [column for column in columns if column.heading in FILTERS or any(t for t, _ in column.cells)]
    choices = {name: list(dict.fromkeys(text[name])) for name in FILTERS}
    marked = any(text.endswith(MARK) for column in columns for text, _ in column.cells)
    notes = [f"{MARK} Over {DETECTORS}."] * marked + table_notes(table.frame)
    return TableView(table.plan.name, table.plan.title, table.plan.question, columns, choices, notes)


def _arranged(table: MadeTable) -> dict[str, str]:
    """The names of the columns in the order of the page, each with when it is shown."""
    headlines = table.plan.headlines[::-1]  # masks first
    options = [name for name in OPTION_NAMES if name in table.frame]
    gains = [name for metric in headlines for name in (f"delta_{metric}", f"interval {metric}")]
    masks = headlines[0].startswith("mask_")  # then before boxes
    metrics = sorted(
        metric_columns(table.plan),
        key=lambda name: (name not in headlines, masks and not name.startswith("mask_")),
    )
    judged = "verdict" in table.frame and not table.frame["verdict"].isin(["", NOT_COMPARABLE]).all()
    several = ["se_images", "se_seeds", "seeds_for_1_AP"] if table.frame["n_seeds"].max() > 1 else []
    known = [name for name in several if name in table.frame]
    second = ["n_seeds", *known, "paper_delta", *metrics, *(["verdict"] if judged else [])]
    arranged = dict.fromkeys([*FILTERS, "weight", *options, *gains], ALWAYS) | dict.fromkeys(second, WIDE)
    arranged |= {name: ON_DEMAND for name in table.frame if name not in arranged}
    hidden = ("ci_low", "ci_high")  # one cell of the interval's column
    if table.frame["n_seeds"].max() < 2:
        hidden += NEED_SEEDS
    return {name: when for name, when in arranged.items() if not name.startswith(hidden)}


def _column(table: MadeTable, text: pd.DataFrame, name: str, when: str) -> Column:
    if name.startswith("interval "):
        return _interval_column(table, name.removeprefix("interval "), when)
    if name not in text:
        return Column(name, when, [("", "")] * len(text))
    values = ("" if value is None or value != value else str(value) for value in table.frame[name])
    heading = HEADINGS.get(name, name.replace("delta_", "Δ").replace("mask_", "mask ").replace("rho_", "ρ_"))
    return Column(heading, when, list(zip(text[name], values, strict=True)))


def _interval_column(table: MadeTable, metric: str, when: str) -> Column:
    one_seed = bool((table.frame["n_seeds"] <= 1).all())
    cells = []
    for _, row in table.frame.iterrows():
        bounds = interval(row, metric, table)
        text = f"{rounded(bounds[0])} … {rounded(bounds[1])}" if bounds else ""
        pooled = str(row["detector"]).startswith(POOLED)
        text += f" {MARK}" if bounds and pooled else ""
        text += " (one seed)" if bounds and row["n_seeds"] == 1 and not one_seed and not pooled else ""
        cells.append((text, str(bounds[0]) if bounds else ""))
    return Column(THIS_PAIR_ONLY if one_seed else "95% interval", when, cells)
