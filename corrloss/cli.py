"""Thin commands that the rules call; each imports only what it needs, for every job pays for the start-up."""

from __future__ import annotations

import contextlib
import errno
import functools
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import typer

from corrloss.errors import CorrLossError

app = typer.Typer(
    help="Commands of CorrLoss Bench. The Snakemake rules call them; most people want `snakemake`.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # a plain traceback: it goes to a log
)

Scale = Annotated[str, typer.Option(help="Name of a file in experiments/scales.")]
Existing = typer.Option(exists=True, readable=True, help="An input file.")
DataRoot = Annotated[Path, typer.Option(help="Folder that holds the data sets.")]
Results = Annotated[Path, typer.Option(help="Folder of all results.")]
Root = Annotated[Path, typer.Option(help="The project's root.")]
Gpus = Annotated[int, typer.Option(help="How many GPUs to take where --gpu-lease is given.")]
GpuLease = Annotated[str, typer.Option(help="Folder of locks: wait for free GPUs and use them alone.")]

BatchPlan = Annotated[str, typer.Option(help="Processes and images: see corrloss.plan.batch_plan.BatchPlan.")]

HERE = Path()


def clear_errors(command: Callable) -> Callable:
    """Show errors in what a user wrote as one message, without a traceback; exit code 1."""

    @functools.wraps(command)
    def wrapped(*args, **kwargs):
        try:
            return command(*args, **kwargs)
        except (CorrLossError, OSError) as error:
            advice = ""
            if getattr(error, "errno", None) == errno.ENOSPC:
                advice = ". Make room and start again: finished runs are kept, trainings resume"
            elif not isinstance(error, CorrLossError) and error.filename is None:
                raise  # no file to name: a defect, and its traceback is needed
            print(f"error: {error}{advice}", file=sys.stderr)
            raise typer.Exit(1) from error

    return wrapped


def leased(gpus: int, folder: str) -> contextlib.AbstractContextManager:
    """GPUs of this machine for one job alone, where a folder of locks is given."""
    from corrloss.engine.lease import lease

    return lease(Path(folder), gpus, log) if folder else contextlib.nullcontext()


def log(line: str) -> None:
    """Show one line of progress at once, past the redirection of what libraries print."""
    print(line, file=sys.__stdout__, flush=True)


@app.command()
@clear_errors
def make_data(dataset: str, data_root: DataRoot, root: Root = HERE) -> None:
    """Make an embedded (synthetic) data set."""
    from corrloss.data.dataset import make_dataset
    from corrloss.plan.detectors import load_settings

    settings = load_settings(root / "experiments" / "datasets" / f"{dataset}.py")
    make_dataset(data_root / settings["folder"], settings["make"])


@app.command()
@clear_errors
def download(
    dataset: Annotated[str, typer.Argument(help="coco, coco_test_dev or cityscapes.")],
    data_root: DataRoot,
    host: Annotated[str, typer.Option(help="A mirror of COCO's host.")] = "http://images.cocodataset.org",
    root: Root = HERE,
) -> None:
    """Fetch a published data set; goes on where an earlier call stopped. Cityscapes asks for your login."""
    from corrloss.data.download import PARTS, DownloadError, download_cityscapes, download_coco
    from corrloss.plan.detectors import load_settings

    if dataset not in (*PARTS, "cityscapes"):
        raise DownloadError(f"{dataset!r} cannot be fetched; choose one of {', '.join(PARTS)}, cityscapes")
    settings = load_settings(root / "experiments" / "datasets" / f"{dataset}.py")
    folder = data_root / settings["folder"]
    if dataset == "cityscapes":
        download_cityscapes(folder)
    else:
        download_coco(folder, PARTS[dataset], host=host)


@app.command()
@clear_errors
def fetch_weights(url: str, out: Path) -> None:
    """Fetch published weights and check them by the checksum in their name."""
    from corrloss.data.weights import fetch_weights as fetch

    if not fetch(url, out):
        print(f"{out}: nothing to check it by: {url} names no checksum", file=sys.stderr)


@app.command()
@clear_errors
def convert_cityscapes(
    folder: Annotated[Path, typer.Argument(help="Folder with leftImg8bit and gtFine.")],
    split: Annotated[str, typer.Argument(help="train or val.")],
    out: Annotated[Path, typer.Argument(help="The annotation file.")],
    workers: Annotated[int, typer.Option(help="Processes; 0 for one a core.")] = 0,
) -> None:
    """Write the instances of Cityscapes' gtFine as COCO annotations."""
    from corrloss.data.cityscapes import convert_cityscapes as convert

    convert(folder, split, out, workers=workers or None, progress=True)


@app.command()
@clear_errors
def check_data(
    dataset: str,
    data_root: DataRoot,
    report: Annotated[Path, typer.Option(help="Where counts and stated warnings go.")],
    root: Root = HERE,
) -> None:
    """Check a data set, every image and annotation, before anything is trained on it."""
    from corrloss.data.dataset import check_dataset
    from corrloss.files import write_json
    from corrloss.plan.detectors import load_settings

    settings = load_settings(root / "experiments" / "datasets" / f"{dataset}.py")
    write_json(report, check_dataset(data_root / settings["folder"], settings))


@app.command()
@clear_errors
def resolve(
    run: Annotated[str, typer.Argument(help="Name of the run.")],
    scale: Scale,
    data_root: DataRoot,
    results: Results,
    config: Annotated[Path, typer.Option(help="Where the config goes.")],
    config_hash: Annotated[str, typer.Option(help="Hash that it must have: that of the plan.")] = "",
    root: Root = HERE,
    spread: BatchPlan = "",
) -> None:
    """Write the resolved config of one run."""
    from corrloss.files import atomic_write
    from corrloss.plan import batch_plan
    from corrloss.plan.configs import dump
    from corrloss.plan.matrix import plan_run
    from corrloss.plan.schema import ExperimentError

    planned = plan_run(root, scale, data_root, results, run, batch_plan.BatchPlan.parse(spread))
    if config_hash not in ("", planned.hash):
        raise ExperimentError(
            f"{run}: experiments/ or the code of the loss changed since this was planned (hash "
            f"{config_hash}, now {planned.hash}); run snakemake again"
        )
    with atomic_write(config) as temporary:
        temporary.write_text(dump(planned.config), encoding="utf-8")


@app.command()
@clear_errors
def train(
    config: Annotated[Path, Existing],
    work_dir: Annotated[Path, typer.Option(help="Folder for checkpoints.")],
    weights: Annotated[Path, typer.Option(help="Where the weights go.")],
    report: Annotated[Path, typer.Option(help="Where seconds, memory and loss curve go.")],
    detections: Annotated[
        Path | None,
        typer.Option(help="Predict too, as `corrloss predict` does: start-up costs more than a prediction."),
    ] = None,
    prediction: Annotated[Path | None, typer.Option(help="The report of that prediction.")] = None,
    gpus: Gpus = 0,
    gpu_lease: GpuLease = "",
) -> None:
    """Train one run, and predict with its weights where asked to."""
    with leased(gpus, gpu_lease), contextlib.redirect_stdout(sys.stderr):
        from corrloss.engine.train import Places  # not earlier: what it imports asks CUDA for devices
        from corrloss.engine.train import train as train_run

        train_run(Places(config, work_dir, weights, report), log)
        if detections is not None:
            from corrloss.engine.predict import predict as predict_run

            prediction = prediction or detections.with_name("prediction.json")
            predict_run(config, weights, report, detections, prediction, log, detections.parent)


@app.command()
@clear_errors
def predict(
    config: Annotated[Path, Existing],
    weights: Annotated[Path, Existing],
    training: Annotated[Path, Existing],
    detections: Annotated[
        Path,
        typer.Option(help="Where the boxes go; masks and what post-processing started from go beside them."),
    ],
    report: Annotated[Path, typer.Option(help="Where seconds and memory go.")],
    gpus: Gpus = 0,
    gpu_lease: GpuLease = "",
) -> None:
    """Detect objects in the test images with the weights of one run."""
    with leased(gpus, gpu_lease), contextlib.redirect_stdout(sys.stderr):
        from corrloss.engine.predict import predict as predict_run  # not earlier, as in train

        predict_run(config, weights, training, detections, report, log, candidates=detections.parent)


@app.command()
@clear_errors
def predict_test_dev(
    dataset: Annotated[str, typer.Argument(help="The data set whose test images are predicted.")],
    config: Annotated[Path, Existing],
    weights: Annotated[Path, Existing],
    training: Annotated[Path, Existing],
    data_root: DataRoot,
    folder: Annotated[Path, typer.Argument(help="Where the zip file goes.")],
    root: Root = HERE,
    gpus: Gpus = 0,
    gpu_lease: GpuLease = "",
) -> None:
    """Detect objects in images without ground truth and pack them for the evaluation server."""
    with leased(gpus, gpu_lease), contextlib.redirect_stdout(sys.stderr):
        from corrloss.engine.evaluation_server import TrainedRun  # not earlier, as in train
        from corrloss.engine.evaluation_server import predict_test_dev as predict_and_pack
        from corrloss.plan.detectors import load_settings

        settings = load_settings(root / "experiments" / "datasets" / f"{dataset}.py")
        packed = predict_and_pack(TrainedRun(config, weights, training), settings, data_root, folder, log)
    log(f"{packed}: for the evaluation server; the AP of test-dev is the server's to say")


@app.command()
@clear_errors
def evaluate(
    run: Annotated[str, typer.Option(help="Name of the run.")],
    config_hash: Annotated[str, typer.Option(help="Hash of its config.")],
    folder: Annotated[Path, Existing],
    annotations: Annotated[Path, Existing],
    record: Annotated[Path, typer.Option(help="Where the record goes.")],
    ap: Annotated[
        Literal["hotcoco", "pycocotools"],
        typer.Option(help="What computes AP; pycocotools is the reference."),
    ] = "hotcoco",
) -> None:
    """Measure the detections of one run; write its record and, beside it, its bootstrap replicates."""
    from corrloss.analysis.record import make_record, write_replicates
    from corrloss.analysis.stored_run import load_run
    from corrloss.run import RunFolder

    files = RunFolder(folder)
    with files.exclusive(log):
        stored = load_run(files, annotations)
        write_replicates(files, stored)
        files.write_record(make_record(run, config_hash, files, stored, ap))


@app.command()
@clear_errors
def collect(
    scale: Scale, data_root: DataRoot, results: Results, out: Path, root: Root = HERE, spread: BatchPlan = ""
) -> None:
    """Gather the records of all finished runs of a scale into runs.csv."""
    from corrloss.files import atomic_write
    from corrloss.plan import batch_plan
    from corrloss.plan.matrix import load_matrix
    from corrloss.tables.records import read_finished, runs_frame

    matrix = load_matrix(root, scale, data_root, results, batch_plan.BatchPlan.parse(spread))
    frame = runs_frame(read_finished(matrix, results))
    with atomic_write(out) as temporary:
        frame.to_csv(temporary, index=False, float_format="%.6g")


@app.command()
@clear_errors
def table(name: str, scale: Scale, runs: Annotated[Path, Existing], out: Path, root: Root = HERE) -> None:
    """Make one table from runs.csv, as CSV and, beside it, Markdown and LaTeX."""
    from corrloss.files import atomic_write
    from corrloss.plan.table_files import Experiments, load_table
    from corrloss.tables.build import build_table
    from corrloss.tables.intervals import stored_intervals
    from corrloss.tables.records import read_runs
    from corrloss.tables.reference import load_reference
    from corrloss.tables.render import to_latex, to_markdown

    experiments = Experiments(root)
    plan = load_table(experiments, name, scale)
    reference = load_reference(experiments.folder / "reference" / "paper.csv")
    frame = build_table(plan, read_runs(runs), reference, stored_intervals(runs.parent.parent))
    with atomic_write(out) as temporary:
        frame.to_csv(temporary, index=False, float_format="%.6g")
    for suffix, to_text in ((".md", to_markdown), (".tex", to_latex)):
        with atomic_write(out.with_suffix(suffix)) as temporary:
            temporary.write_text(to_text(frame, plan.title, scale), encoding="utf-8")


@app.command()
@clear_errors
def report(
    scale: Scale,
    data_root: DataRoot,
    results: Results,
    runs: Annotated[Path, Existing],
    out: Path,
    root: Root = HERE,
) -> None:
    """Make one page, which opens anywhere, from the tables of a scale and what its runs left."""
    from corrloss.files import atomic_write
    from corrloss.plan.detectors import read_settings
    from corrloss.plan.table_files import Experiments
    from corrloss.report.page import render
    from corrloss.report.results import load_data_set, load_runs, load_tables

    experiments = Experiments(root)
    tables = load_tables(experiments, scale, results / scale / "tables")
    finished = load_runs(runs, results)
    names = sorted({run.run.dataset for run in finished})
    settings = {name: read_settings(experiments, "dataset", name, results / ".cache") for name in names}
    data = {name: load_data_set(data_root, settings[name]) for name in names}
    with atomic_write(out) as temporary:
        temporary.write_text(render(scale, tables, finished, data), encoding="utf-8")


@app.command()
@clear_errors
def cost(
    scale: Scale,
    data_root: DataRoot,
    results: Results,
    root: Root = HERE,
    spread: BatchPlan = "",
    gpus: Annotated[int, typer.Option(min=0, help="GPUs that train side by side; 0: those of one run.")] = 0,
) -> None:
    """Print what each table costs: GPU hours, days, disk; from finished runs where there are any."""
    from corrloss.plan import batch_plan
    from corrloss.plan.matrix import load_matrix
    from corrloss.tables import cost as costs

    matrix = load_matrix(root, scale, data_root, results, batch_plan.BatchPlan.parse(spread))
    seconds = costs.load_seconds(root / "experiments" / "reference" / "seconds.csv")
    gpus = gpus or max(planned.config["bench"]["gpus"] or 1 for planned in matrix.planned.values())
    print(costs.to_text(matrix, costs.run_costs(matrix, seconds, results), gpus))


@app.command()
@clear_errors
def overhead(
    name: str,
    scale: Scale,
    data_root: DataRoot,
    results: Results,
    out: Path,
    root: Root = HERE,
    spread: BatchPlan = "",
    steps: Annotated[int, typer.Option(min=2, help="Training steps of each model that are timed.")] = 40,
    gpus: Gpus = 0,
    gpu_lease: GpuLease = "",
) -> None:
    """Time training with and without the loss; make the table as CSV and, beside it, Markdown."""
    import itertools

    import pandas as pd

    from corrloss.files import atomic_write
    from corrloss.plan import batch_plan
    from corrloss.plan.matrix import load_matrix
    from corrloss.tables.overhead import overhead_rows, to_markdown
    from corrloss.tables.reference import load_reference

    matrix = load_matrix(root, scale, data_root, results, batch_plan.BatchPlan.parse(spread))
    plan = matrix.tables[name]
    reference = load_reference(root / "experiments" / "reference" / "paper.csv")
    rows = []
    with leased(gpus, gpu_lease), contextlib.redirect_stdout(sys.stderr):
        from corrloss.engine.step_timing import clock, measure  # not earlier, as in train

        for _, group in itertools.groupby(plan.runs, key=lambda run: run.detector):
            runs = list(group)
            timings = measure([matrix.planned[run.name].config for run in runs], steps, log)
            rows += overhead_rows(runs, timings, reference)
        timed = clock()
    frame = pd.DataFrame(rows)
    with atomic_write(out) as temporary:
        frame.to_csv(temporary, index=False, float_format="%.6g")
    with atomic_write(out.with_suffix(".md")) as temporary:
        temporary.write_text(to_markdown(frame, plan.title, timed), encoding="utf-8")


@app.command()
@clear_errors
def show(scale: Scale = "mini", results: Results = Path("results"), root: Root = HERE) -> None:
    """Print the main tables of a scale, and where runs.csv and all tables are."""
    from corrloss.plan.table_files import Experiments
    from corrloss.tables.show import WIDTH
    from corrloss.tables.show import show as show_tables

    wide = shutil.get_terminal_size((WIDTH, 24)).columns
    print(show_tables(Experiments(root), scale, results, max(WIDTH, wide)))


if __name__ == "__main__":
    app()
