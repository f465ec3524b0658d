"""What a scale costs: GPU hours, days and disk of each table, by a table of seconds or by finished runs."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from corrloss.coco.published import PUBLISHED
from corrloss.errors import CorrLossError
from corrloss.plan.data_files import is_sample, sampled_part
from corrloss.plan.runs import Run
from corrloss.tables.csv_file import read_csv, refuse
from corrloss.tables.records import read_finished
from corrloss.tables.rehearsals import read_rehearsals

if TYPE_CHECKING:  # mmengine's Config takes a second to load
    from corrloss.plan.matrix import Matrix, Planned
    from corrloss.plan.table_files import Table

COLUMNS = (
    "detector", "dataset", "images_per_process", "seconds_per_iteration", "parameters_millions", "megapixels",
    "gflops", "kind", "source",
)  # fmt: skip
NUMBERS = COLUMNS[2:7]
KINDS = ("published", "measured", "estimate")
TIMED_SCALES = ("paper", "small")  # whose recipes the table of seconds is of
# From the seconds of the table, from a rehearsal on this machine, from other runs of the detector on the data
# set, or from the run itself.
TABLE, REHEARSAL, SIBLINGS, RECORD = "table", "rehearsal", "siblings", "record"
BY = ("table", "detector", "run")
CHECKPOINTS = 2  # the last two are kept beside the final weights
STATES = {"AdamW": 2, "Adam": 2}  # numbers of the optimiser's state for each weight; momentum alone is 1
BYTES_PER_DETECTION = 120  # of a list in COCO's format
DETECTION_FILES = 3  # as they are, and in the best and the worst order


class SecondsError(CorrLossError):
    """The table of seconds is broken; the message names file, line and column."""


@dataclass(frozen=True)
class RunCost:
    """What one run costs.

    Attributes:
        run: The run.
        gpu_hours: Hours of one GPU (of one processor core where the scale has none); None if unknown.
        gigabytes: Disk that the run's folder takes; None if unknown.
        basis: Where the hours come from: ``table``, ``rehearsal``, ``siblings`` or ``record``; empty if
            unknown.
    """

    run: Run
    gpu_hours: float | None
    gigabytes: float | None
    basis: str


def load_seconds(path: Path) -> pd.DataFrame:
    """Read ``experiments/reference/seconds.csv``.

    Returns:
        A row a detector and data set: seconds of one training iteration of ``images_per_process`` images,
        parameters in millions, and what an estimate was scaled by: the recipe's mean image in megapixels, and
        10⁹ floating-point operations of one such image forward. Indexed by detector and data set.

    Raises:
        SecondsError: A column or a source is missing, a figure is not a positive number, a kind is unknown,
            or a detector has two rows for one data set.
    """
    frame = read_csv(path, SecondsError, COLUMNS)
    numbers = frame[list(NUMBERS)].apply(pd.to_numeric, errors="coerce")
    wrong_numbers = ~((numbers > 0) & (numbers < float("inf")))
    rules = [
        *((name, wrong_numbers[name], "a number above 0") for name in NUMBERS),
        ("kind", ~frame["kind"].isin(KINDS), f"one of {', '.join(KINDS)}"),
        ("source", frame["source"].str.strip() == "", "a source for every figure"),
        ("detector", frame.duplicated(["detector", "dataset"]), "each detector once for a data set"),
    ]
    for column, wrong, needed in rules:
        refuse(path, frame, wrong, column, needed, SecondsError)
    frame[list(NUMBERS)] = numbers
    return frame.set_index(["detector", "dataset"])


def run_costs(matrix: Matrix, seconds: pd.DataFrame, results: Path) -> dict[Run, RunCost]:
    """What each run of a scale costs.

    The cost of a finished run is in its record. A run of a detector with finished runs on the data set costs
    their average. A run that was rehearsed costs its updates at the measured seconds. The others are
    estimated from the table of seconds. Prediction and evaluation are not counted; they add a percent or two
    of the training.

    Args:
        matrix: What there is to be run.
        seconds: From `load_seconds`; it holds for the recipes of `TIMED_SCALES`.
        results: Folder of all results.

    Raises:
        RecordError: A record is damaged.
    """
    finished = {run: record["train_seconds"] for run, record in read_finished(matrix, results)}
    runs = dict.fromkeys(run for table in _tables_of_runs(matrix) for run in table.runs)
    rehearsed = rehearsed_hours(matrix, read_rehearsals(matrix, results, runs))
    return {
        run: _run_cost(matrix.planned[run.name], matrix, seconds, finished, rehearsed, results)
        for run in runs
    }


def rehearsed_hours(matrix: Matrix, reports: dict[Run, dict]) -> dict[Run, float]:
    """GPU hours of a whole training (core hours without a GPU) at the seconds of its rehearsal.

    Args:
        matrix: What there is to be run.
        reports: From `corrloss.tables.rehearsals.read_rehearsals`.
    """
    hours = {}
    for run, report in reports.items():
        config = matrix.planned[run.name].config
        bench = config["bench"]
        if "failed" not in report:
            batch = bench["processes"] * config["train_dataloader"]["batch_size"] * bench.get("accumulate", 1)
            updates = -(-_images(matrix, run, "train") // batch) * config["train_cfg"]["max_epochs"]
            hours[run] = updates * report["seconds_per_update"] * max(bench["gpus"], 1) / 3600
    return hours


def _tables_of_runs(matrix: Matrix) -> list[Table]:
    """Tables whose runs are trained to their end; that of overhead times a few steps."""
    return [table for table in matrix.tables.values() if table.runs and table.kind == "results"]


def cost_table(
    matrix: Matrix, costs: dict[Run, RunCost], gpus: int, price: float | None = None
) -> pd.DataFrame:
    """One row a table, and one for all of them, in which a run that tables share counts once.

    Args:
        matrix: What there is to be run.
        costs: From `run_costs`.
        gpus: GPUs that train at the same time (cores, where the scale trains on none).
        price: Of an hour of one GPU, in any currency.

    Returns:
        ``table, runs, seeds, finished, gpu_hours, to_go_gpu_hours, to_go_days, disk_gb, unknown``: runs in
        all, the most seeds of a row, runs that are finished, hours of all runs and of those that are left,
        days of the latter on all GPUs, disk of all runs, and the number of runs of which nothing is known.
        Those count as nothing in a sum; a sum of them alone is empty. With a price also ``to_go_price``.
    """
    rows = {table.name: table.runs for table in _tables_of_runs(matrix)}
    rows["all, each run once"] = tuple(costs)
    frame = pd.DataFrame([_row(name, [costs[run] for run in runs], gpus) for name, runs in rows.items()])
    return frame if price is None else frame.assign(to_go_price=frame["to_go_gpu_hours"] * price)


def run_cost_table(costs: dict[Run, RunCost]) -> pd.DataFrame:
    """One row a run, those of one detector together.

    Returns:
        ``run, gpu_hours, disk_gb, basis`` (see `RunCost`); empty where nothing is known.
    """
    ordered = sorted(costs.values(), key=lambda cost: cost.run)
    rows = [(cost.run.name, cost.gpu_hours, cost.gigabytes, cost.basis) for cost in ordered]
    return pd.DataFrame(rows, columns=["run", "gpu_hours", "disk_gb", "basis"]).astype({"gpu_hours": float})


def detector_cost_table(costs: dict[Run, RunCost]) -> pd.DataFrame:
    """One row a detector and data set.

    Returns:
        ``detector, dataset, runs, gpu_hours``, and ``gpu_hours_a_run``, the mean; empty if nothing is known.
    """
    frame = pd.DataFrame(
        [(cost.run.detector, cost.run.dataset, cost.gpu_hours) for cost in costs.values()],
        columns=["detector", "dataset", "gpu_hours"],
    ).astype({"gpu_hours": float})
    hours = frame.groupby(["detector", "dataset"])["gpu_hours"]
    return pd.DataFrame(
        {"runs": hours.size(), "gpu_hours": hours.sum(min_count=1), "gpu_hours_a_run": hours.mean()}
    ).reset_index()


def to_text(
    matrix: Matrix, costs: dict[Run, RunCost], gpus: int, price: float | None = None, by: str = "table"
) -> str:
    """The costs for a terminal, in Markdown, and what the figures rest on; ``by`` is one of `BY`."""
    if by == "table":
        frame = cost_table(matrix, costs, gpus, price)
    else:
        frame = detector_cost_table(costs) if by == "detector" else run_cost_table(costs)
    hours = frame.select_dtypes("float").columns
    shown = frame.assign(**{name: frame[name].map(_shown) for name in hours})
    count = Counter(cost.basis for cost in costs.values())
    lines = [
        f"Scale {matrix.scale}, {gpus} GPUs used at a time. Hours of {len(costs)} runs: {count[RECORD]} are "
        "from their own records,",
        f"{count[SIBLINGS]} from finished runs of the same detector, {count[REHEARSAL]} from rehearsals, "
        f"{count[TABLE]} by",
        f"experiments/reference/seconds.csv (which says for which GPU), {count['']} unknown. Training alone; "
        "data sets come on top.",
    ]
    unknown = sorted({f"{run.dataset}/{run.detector}" for run, cost in costs.items() if not cost.basis})
    if unknown:
        lines.append(f"Unknown, and not counted: {', '.join(unknown)}.")
    return "\n".join([shown.to_markdown(index=False, disable_numparse=True), "", *lines])


def without_gpus(matrix: Matrix, names: Iterable[str], seconds: pd.DataFrame) -> str:
    """Why runs are not started on a machine without GPUs, how long they would take there, and the way out.

    Args:
        matrix: What there is to be run.
        names: Names of the runs that would be trained.
        seconds: From `load_seconds`.

    Returns:
        The message; empty where none of the runs is planned for a GPU.
    """
    runs = [matrix.planned[name] for name in names if matrix.planned[name].config["bench"]["gpus"]]
    if not runs:
        return ""
    operations = sum(filter(None, (_training_gflops(one, matrix, seconds) for one in runs)))
    speed = _gflops_per_second()
    days = f"at least {operations / speed / 86400:,.0f} days" if operations else "unknown"
    return (
        f"scale {matrix.scale}: expected a GPU for {len(runs)} trainings, found none on this machine (no"
        f" nvidia-smi). Time on its processor, at the {speed:,.0f} GFLOP/s that it reached just now: {days}."
        " Nothing was started. Use a machine with a GPU, or a cluster (--workflow-profile slurm,"
        " docs/clusters.md). --config scale=mini shows the workflow in minutes; on_cpu=true trains on this"
        " processor"
    )


def _training_gflops(planned: Planned, matrix: Matrix, seconds: pd.DataFrame) -> float | None:
    """10⁹ operations of a training: backward costs twice what forward does."""
    run = planned.run
    if (run.detector, run.dataset) not in seconds.index:
        return None
    images = _images(matrix, run, "train") * planned.config["train_cfg"]["max_epochs"]
    return 3 * seconds.loc[(run.detector, run.dataset), "gflops"] * images


def _gflops_per_second(size: int = 1024, at_least: float = 0.2) -> float:
    """What this machine's processor reaches in products of matrices, the best case of a convolution."""
    matrix = np.ones((size, size), np.float32)
    products, start = 0, time.perf_counter()
    while (spent := time.perf_counter() - start) < at_least:
        matrix @ matrix
        products += 1
    return products * 2 * size**3 / spent / 1e9


def _row(name: str, costs: list[RunCost], gpus: int) -> dict:
    left = [cost for cost in costs if cost.basis != RECORD]
    rows = Counter((cost.run.dataset, cost.run.detector, cost.run.variant) for cost in costs)
    hours, to_go = (_total([cost.gpu_hours for cost in group]) for group in (costs, left))
    return {
        "table": name,
        "runs": len(costs),
        "seeds": max(rows.values(), default=0),
        "finished": len(costs) - len(left),
        "gpu_hours": hours,
        "to_go_gpu_hours": to_go,
        "to_go_days": to_go / gpus / 24,
        "disk_gb": _total([cost.gigabytes for cost in costs]),
        "unknown": sum(cost.gpu_hours is None for cost in costs),
    }


def _total(values: list[float | None]) -> float:
    """Sum of what is known; NaN if there are values and none is known."""
    known = [value for value in values if value is not None]
    return sum(known, 0.0) if known or not values else float("nan")


def _shown(value: float) -> str:
    return "unknown" if np.isnan(value) else f"{value:,.1f}"


def _run_cost(
    planned: Planned,
    matrix: Matrix,
    seconds: pd.DataFrame,
    finished: dict[Run, float],
    rehearsed: dict[Run, float],
    results: Path,
) -> RunCost:
    run, bench = planned.run, planned.config["bench"]
    alike = [
        spent
        for other, spent in finished.items()
        if (other.detector, other.dataset) == (run.detector, run.dataset)
    ]
    known = matrix.scale in TIMED_SCALES and (run.detector, run.dataset) in seconds.index
    row = seconds.loc[(run.detector, run.dataset)] if known else None
    disk = None if row is None else _gigabytes(planned.config, row, _images(matrix, run, "test"))
    devices = max(bench["gpus"], 1)
    if run in finished:
        folder = run.folder(results).path
        disk = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e9
        return RunCost(run, finished[run] * devices / 3600, disk, RECORD)
    if alike:
        return RunCost(run, sum(alike) / len(alike) * devices / 3600, disk, SIBLINGS)
    if run.rehearsed in rehearsed:
        return RunCost(run, rehearsed[run.rehearsed], disk, REHEARSAL)
    if row is None:
        return RunCost(run, None, None, "")
    per_image = row["seconds_per_iteration"] / row["images_per_process"]
    images = _images(matrix, run, "train") * planned.config["train_cfg"]["max_epochs"]
    return RunCost(run, per_image * images / 3600, disk, TABLE)


def _images(matrix: Matrix, run: Run, part: str) -> int:
    data = matrix.datasets[run.dataset]
    if is_sample(data) and sampled_part(data) == part:
        return data["sample"]["images"]
    if "make" in data:
        return data["make"][{"train": "train_images", "test": "val_images"}[part]]
    return PUBLISHED[data[part]["expected"]].images


def _gigabytes(config: dict, row: pd.Series, test_images: int) -> float:
    """Weights, checkpoints with the optimiser's state, and detections."""
    states = STATES.get(config["optim_wrapper"]["optimizer"]["type"], 1)
    weights = 4 * row["parameters_millions"] * 1e6
    test = config["model"].get("test_cfg", {})
    per_image = (test.get("rcnn") or test).get("max_per_img", 100)
    detections = BYTES_PER_DETECTION * DETECTION_FILES * per_image * test_images
    return (weights * (1 + CHECKPOINTS * (1 + states)) + detections) / 1e9
