"""The page itself: one HTML file that opens without a network and runs no script but its own."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import jinja2
import plotly.io
from jinja2.utils import htmlsafe_json_dumps
from plotly.offline import get_plotlyjs

from corrloss.report import figures
from corrloss.report.examples import Example, examples
from corrloss.report.panels import Panel, make_panels
from corrloss.report.results import DataSet, FinishedRun, MadeTable
from corrloss.tables.render import NOT_EVIDENCE, as_text

HERE = Path(__file__).parent
SHOWN_EMPTY = ("detector", "coefficient")  # what tables are filtered by


@dataclass(frozen=True)
class ShownTable:
    """A table as text, with what to sort its cells by.

    Attributes:
        title: Heading.
        columns: Names.
        rows: Cells as ``(text, value to sort by)``.
        choices: Values to filter by, of ``detector`` and ``coefficient``.
        forest: Its deltas as a figure, one a headline metric.
    """

    title: str
    columns: list[str]
    rows: list[list[tuple[str, str]]]
    choices: dict[str, list[str]]
    forest: Panel


@dataclass(frozen=True)
class ShownRun:
    """A run's own section; ``failed`` is why its training failed, and empty if it did not."""

    label: str
    failed: str
    name: str
    record: str
    metrics: list[tuple[str, str]]
    curve: Panel
    examples: list[Example]


def render(scale: str, tables: list[MadeTable], runs: list[FinishedRun], data: dict[str, DataSet]) -> str:
    """The whole page as HTML.

    Args:
        scale: Name of the scale.
        tables: From :func:`corrloss.report.results.load_tables`.
        runs: From :func:`corrloss.report.results.load_runs`.
        data: The data set of each run, by name.

    Raises:
        DetectionsError: A run's positives or detections are damaged.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["as_json"] = lambda figure: htmlsafe_json_dumps(figure, dumps=plotly.io.to_json)
    environment.tests["with_subplots"] = lambda figure: len(list(figure.select_xaxes())) > 1
    # Whole, or the browser's hash of it would differ: a script that is none of these does not run.
    scripts = [get_plotlyjs(), (HERE / "page.js").read_text(encoding="utf-8")]
    return environment.get_template("page.html.j2").render(
        scale=scale,
        warning=NOT_EVIDENCE.get(scale),
        tables=[_shown_table(table) for table in tables],
        panels=make_panels(tables, runs, data),
        runs=[_shown_run(number, run, data[run.run.dataset]) for number, run in enumerate(runs)],
        commits=sorted({str(run.record.get("commit", "unknown")) for run in runs}),
        style=(HERE / "page.css").read_text(encoding="utf-8"),
        scripts=scripts,
        hashes=[_hash(script) for script in scripts],
    )


def _hash(script: str) -> str:
    digest = hashlib.sha256(script.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def _shown_table(table: MadeTable) -> ShownTable:
    text = as_text(table.frame)
    text = text[[name for name in text if text[name].any() or name in SHOWN_EMPTY]]
    frame = table.frame[list(text)]
    rows = [
        [(text.iat[row, column], _sort_by(frame.iat[row, column])) for column in range(frame.shape[1])]
        for row in range(len(frame))
    ]
    headlines = table.plan.headlines
    forests = {name: figures.forest(table.frame, name, interval=name == headlines[-1]) for name in headlines}
    panel = Panel(
        f"forest-{table.plan.name}",
        "Difference to the baseline",
        "Point: measured, with its 95% interval where one is known. Diamond: published.",
        forests,
        "No difference is known yet.",
    )
    choices = {name: list(dict.fromkeys(text[name])) for name in ("detector", "coefficient")}
    return ShownTable(table.plan.title, list(frame), rows, choices, panel)


def _sort_by(value: object) -> str:
    return "" if value is None or value != value else str(value)  # NaN is unlike itself


def _shown_run(number: int, run: FinishedRun, data: DataSet) -> ShownRun:
    metrics = [
        (name, "" if value is None else f"{value:.4g}") for name, value in run.record["metrics"].items()
    ]
    others = {name: value for name, value in run.record.items() if name != "metrics"}
    curve = Panel(f"terms-{number}", "Terms of the loss", "", {"all": figures.loss_terms(run)})
    record = json.dumps(others, indent=1, ensure_ascii=False)
    drawn = [] if run.failed else examples(run.folder, data)
    return ShownRun(run.label, run.failed or "", run.run.name, record, metrics, curve, drawn)
