"""The page itself: one HTML file that opens without a network and runs no script but its own."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import starmap
from pathlib import Path

import jinja2

from corrloss.coco import Detections, load_detections
from corrloss.plan.runs import Run
from corrloss.report import figures
from corrloss.report.comparisons import compare, count, means, sentences
from corrloss.report.drawing import page_style
from corrloss.report.examples import Photograph, Picture, photographs, pictures
from corrloss.report.forest import describe_mean, forest
from corrloss.report.panels import Panel, make_panels
from corrloss.report.results import DataSet, FinishedRun, MadeTable
from corrloss.report.table_views import table_view
from corrloss.tables.build import no_interval
from corrloss.tables.intervals import Intervals
from corrloss.tables.render import NOT_EVIDENCE, rounded

HERE = Path(__file__).parent


def render(
    scale: str, tables: list[MadeTable], runs: list[FinishedRun], data: dict[str, DataSet],
    project: str | None = None, interval: Intervals = no_interval,
) -> str:  # fmt: skip
    """The whole page as HTML.

    Args:
        scale: Name of the scale.
        tables: From `corrloss.report.results.load_tables`.
        runs: From `corrloss.report.results.load_runs`.
        data: The data set of each run, by name.
        project: Path of the project's root relative to the page, for links to its README and docs; None for
            no such links.
        interval: From `corrloss.tables.intervals.stored_intervals`, for means over detectors.

    Raises:
        DetectionsError: A run's positives or detections are damaged.
    """
    script = (HERE / "page.js").read_text(encoding="utf-8")
    digest = hashlib.sha256(script.encode("utf-8")).digest()
    shown = {name: photographs(name, one) for name, one in data.items()}
    comparisons = compare(tables, runs)
    detections = _reader(runs, data)
    pooled = means(comparisons, runs, interval)
    with page_style():
        gains = forest(comparisons, "forest", pooled)
        return _template().render(
            scale=scale,
            project=project,
            warning=NOT_EVIDENCE.get(scale),
            counts=count(comparisons),
            means=[(mean, describe_mean(mean)) for mean in pooled],
            rounded=rounded,
            sentences=sentences(scale, comparisons),
            forest=Panel("forest", "Gain of every detector", "", {"all": gains}, "No gain is known yet."),
            tables=[table_view(table) for table in tables],
            panels=make_panels(tables, runs, data, comparisons, detections),
            photographs=[photograph for of_data in shown.values() for photograph in of_data],
            runs=zip(
                runs,
                _examples(runs, data, shown, detections),
                starmap(_loss_terms, enumerate(runs)),
                strict=True,
            ),
            number_of_runs=len(runs),
            commits=sorted({str(run.record.get("commit", "unknown")) for run in runs}),
            style=(HERE / "page.css").read_text(encoding="utf-8"),
            script=script,
            script_hash=f"'sha256-{base64.b64encode(digest).decode()}'",  # a browser runs no other script
        )


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    return environment.get_template("page.html.j2")


def _reader(runs: list[FinishedRun], data: dict[str, DataSet]) -> Callable[[Run], Detections]:
    """A function that reads the boxes of a finished run; it keeps those of the last few."""
    folders = {run.run: run.folder for run in runs}

    @lru_cache(maxsize=8)  # runs of a detector follow each other
    def detections(run: Run) -> Detections:
        return load_detections(folders[run].detections(), data[run.dataset].ground_truth)

    return detections


def _examples(
    runs: list[FinishedRun],
    data: dict[str, DataSet],
    shown: dict[str, list[Photograph]],
    detections: Callable[[Run], Detections],
) -> Iterator[list[list[Picture]]]:
    """The example images of each run, beside those of its baseline; none of a run that failed."""
    finished = {run.run for run in runs if not run.failed}
    for run in runs:
        own = f"with the loss: {run.loss}" if run.run.has_loss else f"without the loss: {run.loss}"
        titles = dict.fromkeys([run.run.baseline, run.run], own)
        titles[run.run.baseline] = "without the loss"
        images = [] if run.failed else shown[run.run.dataset]
        pair = {title: detections(key) for key, title in titles.items() if images and key in finished}
        yield [pictures(image, data[run.run.dataset].ground_truth, pair) for image in images]


def _loss_terms(number: int, run: FinishedRun) -> Panel:
    return Panel(f"terms-{number}", "Terms of the loss", "", {"all": figures.loss_terms(run)})
