"""The README's table: a few rows of reference results, the mechanism first, then AP."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from corrloss.tables.records import read_runs
from corrloss.tables.show import read_table

DETECTORS = ("retinanet", "foveabox", "atss", "atss_no_aux", "sparse_rcnn")
TABLES = ("nms_based", "nms_free")
START, END = "<!-- --8<-- [start:demo] -->", "<!-- --8<-- [end:demo] -->"


def excerpt(folder: Path) -> str:
    """Rows of the main tables as Markdown.

    Args:
        folder: With ``runs.csv`` and ``tables``.

    Raises:
        RecordError: ``runs.csv`` is missing or damaged.
        NoTableError: A table is.
    """
    runs = read_runs(folder / "runs.csv")
    runs = runs[runs["seed"] == 0]
    made = pd.concat(read_table(folder / "tables" / f"{name}.csv") for name in TABLES)
    rows = [_row(row, runs) for _, row in made[made["detector"].isin(DETECTORS)].iterrows()]
    return pd.DataFrame(rows).to_markdown(index=False, disable_numparse=True)


def _row(row: pd.Series, runs: pd.DataFrame) -> dict[str, str]:
    same = (runs["detector"] == row["detector"]) & (runs["coefficient"] == row["coefficient"])
    (run,) = runs[same & (runs["weight"] == float(row["weight"] or 0))].to_dict("records")
    ends = [_figure(row[name], "+.1f") for name in ("ci_low", "ci_high")]
    return {
        "detector": row["detector"],
        "coefficient": row["coefficient"],
        "λ": f"{run['weight']:g}" if run["weight"] else "",
        "ρ_img": f"{run['rho_img']:.1f}",
        "ρ_cls": f"{run['rho_cls']:.1f}",
        "AP": f"{run['AP']:.1f}",
        "ΔAP": _figure(row["delta_AP"], "+.1f"),
        "95% over images, this pair only": " to ".join(filter(None, ends)),
        "paper: AP": _figure(row["paper_AP"], ".1f"),
        "paper: Δ": _figure(row["paper_delta"], "+.1f"),
    }


def _figure(value: float | str, form: str) -> str:
    """A number with one digit, zero without a sign; empty if there is none."""
    return format(round(float(value), 1) + 0.0, form) if pd.notna(value) and value != "" else ""


def with_excerpt(readme: str, table: str) -> str:
    """The README's text with another table between its marks."""
    before, _, rest = readme.partition(START)
    _, _, after = rest.partition(END)
    return f"{before}{START}\n{table}\n{END}{after}"
