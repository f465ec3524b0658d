"""The page itself: one HTML file that opens without a network and runs no script but its own."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import jinja2

from corrloss.coco import Detections, load_detections
from corrloss.plan.runs import Run
from corrloss.report import figures
from corrloss.report.comparisons import Comparison, Count, compare, count, sentences
from corrloss.report.drawing import page_style
from corrloss.report.examples import Photograph, Picture, photographs, pictures
from corrloss.report.forest import forest
from corrloss.report.panels import Panel, make_panels
from corrloss.report.results import DataSet, FinishedRun, MadeTable
from corrloss.report.table_views import table_view
from corrloss.report.terms import TERMS
from corrloss.tables.render import NOT_EVIDENCE

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Answer:
    """What the page opens with."""

    forest: Panel
    counts: list[Count]
    sentences: list[str]


@dataclass(frozen=True)
class RunView:
    """A run's own section; ``failed`` is why its training failed, and empty if it did not."""

    label: str
    failed: str
    name: str
    record: str
    metrics: list[tuple[str, str]]
    curve: Panel
    examples: list[list[Picture]]


def render(
    scale: str,
    tables: list[MadeTable],
    runs: list[FinishedRun],
    data: dict[str, DataSet],
    project: str | None = None,
) -> str:
    """The whole page as HTML.

    Args:
        scale: Name of the scale.
        tables: From `corrloss.report.results.load_tables`.
        runs: From `corrloss.report.results.load_runs`.
        data: The data set of each run, by name.
        project: Path of the project's root relative to the page, for links to its README and docs; None for
            no such links.

    Raises:
        DetectionsError: A run's positives or detections are damaged.
    """
    script = (HERE / "page.js").read_text(encoding="utf-8")
    shown = {name: photographs(name, one) for name, one in data.items()}
    comparisons = compare(tables, runs)
    with page_style():
        return _template().render(
            scale=scale,
            project=project,
            warning=NOT_EVIDENCE.get(scale),
            answer=_answer(scale, comparisons),
            tables=[table_view(table) for table in tables],
            panels=make_panels(tables, runs, data, comparisons),
            photographs=[photograph for of_data in shown.values() for photograph in of_data],
            runs=_run_views(runs, data, shown),
            terms=TERMS,
            commits=sorted({str(run.record.get("commit", "unknown")) for run in runs}),
            style=(HERE / "page.css").read_text(encoding="utf-8"),
            script=script,
            script_hash=_hash(script),
        )


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html.j2")


def _hash(script: str) -> str:
    """For the page's policy: a browser runs no script with another hash."""
    digest = hashlib.sha256(script.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def _answer(scale: str, comparisons: list[Comparison]) -> Answer:
    drawing = {"all": forest(comparisons, "forest")}
    panel = Panel("forest", "Gain of every detector", "", drawing, "No gain is known yet.")
    return Answer(panel, count(comparisons), sentences(scale, comparisons))


def _run_views(
    runs: list[FinishedRun], data: dict[str, DataSet], shown: dict[str, list[Photograph]]
) -> list[RunView]:
    finished = {run.run: run for run in runs if not run.failed}

    @cache
    def detections(key: Run) -> Detections:
        run = finished[key]
        return load_detections(run.folder.detections(), data[run.run.dataset].ground_truth)

    def pair(run: FinishedRun) -> dict[str, Detections]:
        titles = {run.run.baseline: "without the loss"} | {run.run: f"with the loss: {run.loss}"}
        if run.run.is_baseline:
            titles = {run.run: "without the loss"}
        return {title: detections(key) for key, title in titles.items() if key in finished}

    views = []
    for number, run in enumerate(runs):
        truth, images = data[run.run.dataset].ground_truth, [] if run.failed else shown[run.run.dataset]
        examples = [pictures(photograph, truth, pair(run)) for photograph in images]
        views.append(_run_view(number, run, examples))
    return views


def _run_view(number: int, run: FinishedRun, examples: list[list[Picture]]) -> RunView:
    metrics = [
        (name, "" if value is None else f"{value:.4g}") for name, value in run.record["metrics"].items()
    ]
    others = {name: value for name, value in run.record.items() if name != "metrics"}
    curve = Panel(f"terms-{number}", "Terms of the loss", "", {"all": figures.loss_terms(run)})
    record = json.dumps(others, indent=1, ensure_ascii=False)
    return RunView(run.label, run.failed or "", run.run.name, record, metrics, curve, examples)
