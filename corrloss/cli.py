"""The commands that the rules call. Each imports only what it needs: every job waits for its start."""

from __future__ import annotations

import contextlib
import enum
import errno
import functools
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from corrloss.errors import CorrLossError

if TYPE_CHECKING:
    import pandas as pd

    from corrloss.plan.settings import Settings
    from corrloss.plan.table_files import Table

app = typer.Typer(
    help="Commands of CorrLoss Bench. The Snakemake rules call them; most people want `snakemake`.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # a plain traceback: it goes to a log
)

RunName = Annotated[str, typer.Argument(help="Name of the run: dataset/detector/variant/seed.")]
DatasetName = Annotated[str, typer.Argument(help="Name of a file in experiments/datasets.")]
TableName = Annotated[str, typer.Argument(help="Name of a file in experiments/tables.")]
Pairs = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Settings that replace those of config/config.yaml."),
]
Root = Annotated[Path, typer.Option(help="The project's root.")]
GpuLease = Annotated[
    str,
    typer.Option(help="Folder of locks: wait for as many free GPUs as the run takes, and use them alone."),
]

HERE = Path()


class Part(enum.StrEnum):
    """The two parts of a data set."""

    train = "train"
    test = "test"


def command(function: Callable, hidden: bool = False) -> Callable:
    """Register a command; errors that a user can correct are one message, without a traceback, and exit 1."""

    @app.command(hidden=hidden)
    @functools.wraps(function)
    def wrapped(*args, **kwargs):
        try:
            return function(*args, **kwargs)
        except (CorrLossError, OSError) as error:
            advice = ""
            if getattr(error, "errno", None) == errno.ENOSPC:
                advice = ". Free disk space and start again: finished runs are kept, trainings resume"
            elif type(error) is OSError and error.filename is None:
                raise  # names no file: a defect, and its traceback is needed
            print(f"error: {error}{advice}", file=sys.stderr)
            raise typer.Exit(1) from error

    return function


def log(line: str) -> None:
    """Print one line of progress at once, past the redirection of what libraries print."""
    print(line, file=sys.__stdout__, flush=True)


def load(root: Path, pairs: list[str] | None) -> Settings:
    """The settings of a command."""
    from corrloss.plan.settings import Settings

    return Settings.load(root, pairs or ())


@contextlib.contextmanager
def on_gpus(count: int, folder: str):
    """Take GPUs for the block where a folder of locks is given; what libraries print goes to stderr.

    A block that needs none sees none. The engine must be imported in the block: what it imports asks CUDA for
    devices.
    """
    from corrloss.engine.lease import lease

    leased = lease(Path(folder), count, log) if folder or not count else contextlib.nullcontext()
    with leased, contextlib.redirect_stdout(sys.stderr):
        yield


@command
def make_data(dataset: DatasetName, pairs: Pairs = None, root: Root = HERE) -> None:
    """Make an embedded (synthetic) data set."""
    from corrloss.data.dataset import make_dataset
    from corrloss.files import write_json
    from corrloss.plan.data_files import made_files, made_mark
    from corrloss.plan.identity import generator_identity, read_identity

    settings = load(root, pairs)
    data, make = settings.dataset(dataset), settings.section(dataset, "make")
    mark, identity = made_mark(data, settings.data_root), generator_identity(data)
    if read_identity(mark) != identity:  # of another generator, even if its own checks do not tell
        for path in (mark, *made_files(data, settings.data_root)):
            path.unlink(missing_ok=True)
    make_dataset(settings.folder_of(dataset), make)
    write_json(mark, {"identity": identity})


@command
def download(
    dataset: Annotated[str, typer.Argument(help="coco, coco_small, coco_val, coco_test_dev or cityscapes.")],
    pairs: Pairs = None,
    host: Annotated[str | None, typer.Option(help="A mirror of COCO's host.")] = None,
    root: Root = HERE,
) -> None:
    """Fetch a published data set; resumes an earlier call. Cityscapes asks for your login."""
    from corrloss.data.download import (
        COCO_HOST,
        PARTS,
        DownloadError,
        download_cityscapes,
        download_coco,
    )

    if dataset not in (*PARTS, "cityscapes"):
        raise DownloadError(f"expected one of {', '.join(PARTS)}, cityscapes, got {dataset!r}")
    settings = load(root, pairs)
    folder = settings.folder_of(dataset)
    if dataset == "cityscapes":
        download_cityscapes(folder)
    else:
        download_coco(folder, PARTS[dataset], host=host or COCO_HOST)


@command
def fetch_sample(
    dataset: DatasetName,
    pairs: Pairs = None,
    host: Annotated[str, typer.Option(envvar="CORRLOSS_COCO_HOST", help="A mirror of COCO's host.")] = "",
    root: Root = HERE,
) -> None:
    """Choose the images of a data set that is a sample, and fetch them; resumes."""
    from corrloss.data.dataset import fetch_sample as fetch
    from corrloss.data.download import COCO_HOST
    from corrloss.files import write_json
    from corrloss.plan.data_files import made_mark, sampled_part
    from corrloss.plan.identity import sample_identity

    settings = load(root, pairs)
    data, _ = settings.dataset(dataset), settings.section(dataset, "sample")
    fetched = fetch(settings.folder_of(dataset), data, host=host or COCO_HOST)
    mark = made_mark(data, settings.data_root, sampled_part(data))
    write_json(mark, {"identity": sample_identity(data), "images": fetched})


@command
def sample_statistics(dataset: DatasetName, pairs: Pairs = None, root: Root = HERE) -> None:
    """Print how close the sample of a data set is to the full set, and to a simple random sample."""
    from corrloss.data.sample import choose_images, read_objects, statistics
    from corrloss.plan.data_files import sampled_part

    settings = load(root, pairs)
    data, sample = settings.dataset(dataset), settings.section(dataset, "sample")
    folder = settings.folder_of(dataset)
    full = read_objects(folder / sample["of"]["ann_file"])
    random = choose_images(full, sample["images"], sample["seed"], exchange=False)
    chosen = read_objects(folder / data[sampled_part(data)]["ann_file"])
    print(statistics(full, {"sample": chosen, "simple random sample": full.of(random)}))


@command
def fetch_weights(url: str, out: Path) -> None:
    """Fetch published weights and check them by the checksum in their name."""
    from corrloss.data.download import fetch_weights as fetch

    if not fetch(url, out):
        print(f"{out}: not checked: {url} has no checksum in its name", file=sys.stderr)


@command
def convert_cityscapes(
    dataset: DatasetName,
    part: Annotated[Part, typer.Argument(help="Images that are trained on, or predicted.")],
    pairs: Pairs = None,
    root: Root = HERE,
    workers: Annotated[int, typer.Option(min=0, help="Number of processes; 0 for one per core.")] = 0,
) -> None:
    """Write the instances of Cityscapes' gtFine as COCO annotations."""
    from corrloss.data.cityscapes import convert_cityscapes as convert
    from corrloss.files import write_json
    from corrloss.plan.data_files import annotation_file, made_mark
    from corrloss.plan.identity import generator_identity

    settings = load(root, pairs)
    split, data = settings.section(dataset, "convert")[part], settings.dataset(dataset)
    out = annotation_file(data, part, settings.data_root)
    convert(settings.folder_of(dataset), split, out, workers=workers or None, progress=True)
    write_json(made_mark(data, settings.data_root, part), {"identity": generator_identity(data)})


@command
def check_data(dataset: DatasetName, pairs: Pairs = None, root: Root = HERE) -> None:
    """Check a data set, every image and annotation; write counts and warnings to the results."""
    from corrloss.data.dataset import check_dataset
    from corrloss.files import sha256, write_json
    from corrloss.plan.data_files import PARTS, annotation_file
    from corrloss.plan.matrix import load_matrix

    settings = load(root, pairs)
    data = settings.dataset(dataset)
    matrix = load_matrix(settings)
    files = {part: annotation_file(data, part, settings.data_root) for part in PARTS if part in data}
    report = check_dataset(settings.folder_of(dataset), data, **matrix.needs(dataset))
    known = {"annotations": {part: sha256(path) for part, path in files.items()}}
    write_json(settings.checked(dataset), {"identity": matrix.check_identity(dataset)} | known | report)


@command
def resolve(run: RunName, pairs: Pairs = None, root: Root = HERE) -> None:
    """Print the resolved config of a run."""
    from corrloss.plan.config_files import dump
    from corrloss.plan.matrix import plan_run

    print(dump(plan_run(load(root, pairs), run).config), end="")


@command
def train(
    run: RunName,
    pairs: Pairs = None,
    gpu_lease: GpuLease = "",
    root: Root = HERE,
) -> None:
    """Write the config of a run, train it, and predict with its weights.

    A second command would start up and load the detector again, which takes as long as the prediction.
    """
    from corrloss.files import write_text
    from corrloss.plan.config_files import dump
    from corrloss.plan.matrix import plan_run

    settings = load(root, pairs)
    planned = plan_run(settings, run)
    folder = planned.run.folder(settings.results)
    write_text(folder.config, dump(planned.config))
    with on_gpus(planned.config["bench"]["gpus"], gpu_lease):
        from corrloss.engine.predict import predict
        from corrloss.engine.train import train as train_run

        if "published" in planned.config["bench"]:
            from corrloss.engine.published_weights import use_published

            use_published(folder, log)
        else:
            train_run(folder, log)
        predict(folder, log)


@command
def rehearse(run: RunName, pairs: Pairs = None, gpu_lease: GpuLease = "", root: Root = HERE) -> None:
    """Train a run for a few updates, resume, predict one image; write what was measured, or why it failed."""
    from corrloss.plan.matrix import plan_run

    settings = load(root, pairs)
    planned = plan_run(settings, run)
    if "published" in planned.config["bench"]:
        raise CorrLossError(
            f"{run}: expected a run that is trained, got published weights; nothing to rehearse at this scale"
        )
    with on_gpus(planned.config["bench"]["gpus"], gpu_lease):
        from corrloss.engine.rehearsal import rehearse as rehearse_run

        folder = planned.run.rehearsal_folder(settings.results)
        rehearse_run(folder, planned.config, settings.rehearsal_updates, log)


@command
def rehearsals(pairs: Pairs = None, root: Root = HERE) -> None:
    """Write and print the table of all rehearsals of a scale."""
    from corrloss.files import write_csv
    from corrloss.plan.matrix import load_matrix
    from corrloss.tables.cost import rehearsed_hours
    from corrloss.tables.rehearsals import read_rehearsals, rehearsal_table, to_text

    settings = load(root, pairs)
    matrix = load_matrix(settings)
    reports = read_rehearsals(matrix, settings.results, [planned.run for planned in matrix.planned.values()])
    if not reports:
        raise CorrLossError(f"{settings.out}: expected rehearsals, found none; run `snakemake rehearse`")
    frame = rehearsal_table(reports, rehearsed_hours(matrix, reports))
    write_csv(settings.rehearsal, frame)
    print(to_text(frame))


@functools.partial(command, hidden=True)
def train_process(folder: Path) -> None:
    """Train the run of a folder, as one of several processes that :mod:`corrloss.engine.processes` starts."""
    from corrloss.run import RunFolder

    with contextlib.redirect_stdout(sys.stderr):
        from corrloss.engine.train import train as train_run

        train_run(RunFolder(folder), log)


@command
def predict_test_dev(run: RunName, pairs: Pairs = None, gpu_lease: GpuLease = "", root: Root = HERE) -> None:
    """Detect objects in images without ground truth and pack them for the evaluation server."""
    from corrloss.files import write_json
    from corrloss.plan.matrix import load_matrix

    settings = load(root, pairs)
    matrix = load_matrix(settings)
    planned = matrix.run(run)
    data = settings.dataset(matrix.test_dev_data(planned.run))
    with on_gpus(min(1, planned.config["bench"]["gpus"]), gpu_lease):
        from corrloss.engine.evaluation_server import predict_test_dev as predict_and_pack

        folder = planned.run.folder(settings.results)
        packed = predict_and_pack(folder, planned.config, data, settings.data_root, log)
    write_json(folder.submission, {"identity": matrix.submission_identity(planned)})
    log(f"{packed}: submit this file to the evaluation server, which computes the AP of test-dev")


@command
def evaluate(run: RunName, pairs: Pairs = None, root: Root = HERE) -> None:
    """Measure the detections of a run; write its record and its bootstrap replicates."""
    from corrloss.analysis.record import make_record, write_replicates
    from corrloss.analysis.stored_run import load_run
    from corrloss.plan.data_files import annotation_file
    from corrloss.plan.matrix import plan_run

    settings = load(root, pairs)
    planned = plan_run(settings, run)
    identity = planned.identity
    folder = planned.run.folder(settings.results)
    annotations = annotation_file(settings.dataset(planned.run.dataset), "test", settings.data_root)
    with folder.exclusive(log):
        stored = load_run(folder, annotations, identity["prediction"])
        folder.read_training(identity["training"], weights=False)  # only to check it
        folder.start("evaluation")
        write_replicates(folder, identity["evaluation"], stored)
        folder.write_record(make_record(run, identity["evaluation"], folder, stored, settings.ap))


@command
def collect(pairs: Pairs = None, root: Root = HERE) -> None:
    """Gather the records of all finished runs of a scale into runs.csv."""
    from corrloss.files import write_csv
    from corrloss.plan.identity import digest, write_identity
    from corrloss.plan.matrix import load_matrix
    from corrloss.tables.records import read_finished, runs_frame

    settings = load(root, pairs)
    frame = runs_frame(read_finished(load_matrix(settings), settings.results))
    write_csv(settings.runs_csv, frame)
    made_of = settings.runs_csv.with_suffix(".json")
    write_identity(made_of, digest(list(frame["identity"])), [settings.runs_csv])


@command
def table(name: TableName, pairs: Pairs = None, root: Root = HERE) -> None:
    """Make one table from runs.csv, as CSV and, beside it, Markdown and LaTeX."""
    from corrloss.files import write_csv, write_text
    from corrloss.plan.identity import table_identity, write_identity
    from corrloss.plan.table_files import load_table
    from corrloss.tables.records import read_runs
    from corrloss.tables.render import to_latex, to_markdown

    settings = load(root, pairs)
    plan = load_table(settings.experiments, name, settings.scale, "results")
    measured = read_runs(settings.runs_csv)
    frame = filled_table(plan, measured, settings)
    known = measured.set_index("run")["identity"]
    identity = table_identity(
        plan, [known.get(run.name) for run in plan.runs], settings.experiments.reference
    )
    out = settings.table(name)
    settings.made_of(name).unlink(missing_ok=True)
    write_csv(out, frame)
    write_text(out.with_suffix(".md"), to_markdown(frame, plan, settings.scale))
    write_text(out.with_suffix(".tex"), to_latex(frame, plan, settings.scale))
    write_identity(
        settings.made_of(name), identity, [out.with_suffix(f".{kind}") for kind in ("csv", "md", "tex")]
    )


@command
def row(
    name: Annotated[str, typer.Argument(help="<table>/<detector>")], pairs: Pairs = None, root: Root = HERE
) -> None:
    """Print the rows of one detector in a table, from the records of its runs."""
    from corrloss.plan.matrix import load_matrix
    from corrloss.plan.workflow import Plan
    from corrloss.tables.records import read_record, runs_frame
    from corrloss.tables.render import NOT_EVIDENCE
    from corrloss.tables.terminal import WIDTH, to_text

    settings = load(root, pairs)
    matrix = load_matrix(settings)
    if name not in (rows := Plan(settings, matrix, (name,)).rows):
        raise CorrLossError(f"{name}: expected <table>/<detector>")
    plan = rows[name]
    measured = runs_frame((run, read_record(run.folder(settings.results).record, run)) for run in plan.runs)
    width = max(WIDTH, shutil.get_terminal_size((WIDTH, 24)).columns)
    print(to_text(filled_table(plan, measured, settings), plan, width))
    print(f"\n{NOT_EVIDENCE.get(settings.scale, '')}".rstrip())


def filled_table(plan: Table, measured: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    """A table with the figures of measured runs, intervals and published figures."""
    from corrloss.plan.data_files import annotation_file, is_sample
    from corrloss.plan.table_files import published_ap
    from corrloss.tables.build import build_table
    from corrloss.tables.intervals import stored_intervals
    from corrloss.tables.pairs import with_parts
    from corrloss.tables.reference import load_reference

    reference = load_reference(settings.experiments)
    data = settings.dataset(plan.runs[0].dataset)
    annotations = annotation_file(data, "test", settings.data_root)
    measured, parts = with_parts(measured, plan, settings.results, annotations, settings.ap)
    intervals = stored_intervals(settings.results, measured, parts)
    of_zoo = {} if is_sample(data) else published_ap(settings.experiments, plan)  # AP of a sample is another
    return build_table(plan, measured, reference, intervals, of_zoo)


@command
def overhead(
    name: TableName,
    pairs: Pairs = None,
    steps: Annotated[int, typer.Option(min=2, help="Training steps of each model that are timed.")] = 40,
    gpu_lease: GpuLease = "",
    root: Root = HERE,
) -> None:
    """Time training with and without the loss; make the table as CSV and, beside it, Markdown."""
    import itertools

    import pandas as pd

    from corrloss.files import write_csv, write_text
    from corrloss.plan.identity import write_identity
    from corrloss.plan.matrix import load_matrix
    from corrloss.plan.table_files import load_table
    from corrloss.tables.overhead import overhead_rows, to_markdown
    from corrloss.tables.reference import load_reference

    settings = load(root, pairs)
    matrix = load_matrix(settings)
    plan = load_table(settings.experiments, name, settings.scale, "overhead")
    reference = load_reference(settings.experiments)
    rows = []
    with on_gpus(min(1, matrix.most("gpus")), gpu_lease):
        from corrloss.engine.step_timing import clock, measure

        for _, group in itertools.groupby(plan.runs, key=lambda run: run.detector):
            runs = list(group)
            timings = measure([matrix.planned[run.name].config for run in runs], steps, log)
            rows += overhead_rows(runs, timings, reference)
        timed = clock()
    frame = pd.DataFrame(rows)
    settings.made_of(name).unlink(missing_ok=True)
    write_csv(settings.table(name), frame)
    page = settings.table(name).with_suffix(".md")
    write_text(page, to_markdown(frame, plan.title, timed))
    write_identity(
        settings.made_of(name),
        matrix.table_identity(name, settings.experiments.reference),
        [settings.table(name), page],
    )


@command
def report(pairs: Pairs = None, root: Root = HERE) -> None:
    """Make one page, which opens anywhere, from the tables of a scale and the files of its runs."""
    from corrloss.files import write_text
    from corrloss.plan.identity import read_identity, report_identity, write_identity
    from corrloss.report.page import render
    from corrloss.report.results import load_data_set, load_runs, load_tables
    from corrloss.tables.intervals import stored_intervals
    from corrloss.tables.records import read_runs

    settings = load(root, pairs)
    tables = load_tables(settings.experiments, settings.scale, settings.out / "tables")
    finished = load_runs(settings.runs_csv, settings.results)
    names = sorted({run.run.dataset for run in finished})
    data = {name: load_data_set(settings.data_root, settings.dataset(name)) for name in names}
    project = Path(os.path.relpath(root, settings.out)).as_posix()
    made = [read_identity(settings.made_of(table.plan.name)) for table in tables if table.plan.main]
    page = settings.out / "report.html"
    interval = stored_intervals(settings.results, read_runs(settings.runs_csv))
    write_text(page, render(settings.scale, tables, finished, data, project, interval))
    write_identity(page.with_suffix(".json"), report_identity(made), [page])


@command
def cost(
    pairs: Pairs = None,
    by: Annotated[str, typer.Option(help="A row for each table, detector or run.")] = "table",
    root: Root = HERE,
) -> None:
    """Print what each table costs: GPU hours, days, disk; from finished runs where there are any."""
    from corrloss.plan.matrix import load_matrix
    from corrloss.tables import cost as costs

    settings = load(root, pairs)
    matrix = load_matrix(settings)
    seconds = costs.load_seconds(settings.experiments.seconds)
    gpus = settings.gpus or matrix.most("gpus") or 1
    if by not in costs.BY:
        raise CorrLossError(f"--by: expected one of {', '.join(costs.BY)}, got {by!r}")
    measured = costs.run_costs(matrix, seconds, settings.results)
    print(costs.to_text(matrix, measured, gpus, settings.gpu_hour_price, by))


@command
def show(pairs: Pairs = None, root: Root = HERE) -> None:
    """Print the main tables of a scale, and the paths of runs.csv and of all tables."""
    from corrloss.tables.show import show as show_tables
    from corrloss.tables.terminal import WIDTH

    settings = load(root, pairs)
    width = max(WIDTH, shutil.get_terminal_size((WIDTH, 24)).columns)
    print(show_tables(settings.experiments, settings.scale, settings.results, width))


@command
def compare(
    results: Annotated[Path, typer.Argument(help="Folder of a scale's results.")] = Path("results/mini"),
    reference: Annotated[
        Path | None, typer.Argument(help="Folder of reference results; default: of that scale.")
    ] = None,
) -> None:
    """Compare finished runs with the committed reference results; exit status 1 if one is outside of them."""
    from corrloss.tables.comparison import OUTSIDE, compare_files

    reference = reference or Path("results/reference") / results.name
    if not reference.exists():
        print(f"{reference}: no reference results to compare with")
        return
    frame, text = compare_files(results / "runs.csv", reference / "runs.csv")
    print(text)
    if (frame["result"] == OUTSIDE).any():
        raise typer.Exit(1)


@command
def proxy(
    runs: Annotated[Path, typer.Argument(help="A scale's runs.csv.")] = Path("results/mini/runs.csv"),
    root: Root = HERE,
) -> None:
    """Print AP of the baselines beside the published AP of their detectors: how much a small scale tells."""
    from corrloss.plan.experiments import Experiments
    from corrloss.tables.proxy import to_markdown
    from corrloss.tables.records import read_runs

    print(to_markdown(read_runs(runs), Experiments(root)))


@functools.partial(command, hidden=True)
def readme(reference: Path = Path("results/reference/mini"), root: Root = HERE) -> None:
    """Rewrite the README's table from the reference results."""
    from corrloss.files import write_text
    from corrloss.plan.experiments import Experiments
    from corrloss.tables.excerpt import excerpt, with_excerpt

    path = root / "README.md"
    write_text(
        path, with_excerpt(path.read_text(encoding="utf-8"), excerpt(Experiments(root), root / reference))
    )


if __name__ == "__main__":
    app()
