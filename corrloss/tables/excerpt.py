"""The README's table: a few rows of reference results, correlations before AP; and what all of them say."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from corrloss.plan.experiments import Experiments
from corrloss.plan.runs import Run
from corrloss.plan.table_files import load_table
from corrloss.tables.reading import mean_gains, reading
from corrloss.tables.records import read_runs
from corrloss.tables.show import read_table

DETECTORS = ("retinanet", "foveabox", "atss", "atss_no_aux", "sparse_rcnn")
TABLES = ("nms_based", "nms_free", "instance_segmentation")
START, END = "<!-- --8<-- [start:demo] -->", "<!-- --8<-- [end:demo] -->"


def excerpt(experiments: Experiments, folder: Path) -> str:
    """Rows of the main tables as Markdown, what all their rows say, and the mean gains of table ``seeds``.

    Args:
        experiments: Where the tables' own files are.
        folder: With ``runs.csv`` and ``tables``; its name is the scale.

    Raises:
        RecordError: ``runs.csv`` is missing or damaged.
        NoTableError: A table is.
        ExperimentError: A table's own file is broken, or the scale does not exist.
    """
    runs = read_runs(folder / "runs.csv")
    plans = [load_table(experiments, name, folder.name) for name in TABLES]
    made = {plan.name: read_table(folder / "tables" / f"{plan.name}.csv") for plan in plans}
    rows = []
    for plan in plans:
        planned = {(run.detector, run.coefficient): run for run in plan.runs}
        for _, row in made[plan.name].iterrows():
            if row["detector"] in DETECTORS:
                rows.append(_row(row, planned[row["detector"], row["coefficient"]], runs))
    table = pd.DataFrame(rows).to_markdown(index=False, disable_numparse=True)
    seeds = folder / "tables" / "seeds.csv"
    gains = mean_gains(read_table(seeds if seeds.exists() else folder / "tables" / "nms_based.csv"))
    return f"{table}\n\n{reading(plans, runs, made)} {gains}"


def _row(row: pd.Series, planned: Run, runs: pd.DataFrame) -> dict[str, str]:
    (run,) = runs[runs["run"] == planned.name].to_dict("records")
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
