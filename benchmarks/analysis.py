"""Time and memory of the analysis on data of the size of COCO minival, beside hotcoco's own.

    python benchmarks/analysis.py [--repeats 3] [--replicates 1000] [--workers 2] [--records 2000]

5,000 images, 80 classes, 36 thousand boxes and 460 thousand detections a model, made from a seed (half a
minute); then runs.csv and all tables from made-up records. What is compared runs interleaved in this one
process, all that two models take in two more; seconds are medians, of wall time and, where other processes
want the machine too, of CPU time. The long ones, the bootstraps and the whole, run once; hotcoco's with a
tenth of the replicates, and its time is scaled up.
"""

import argparse
import os
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import hotcoco
import numpy as np
import yaml

from corrloss.analysis.ap import average_precision, hotcoco_evaluation
from corrloss.analysis.bounds import ORDERS, bound_after_nms
from corrloss.analysis.calibration import calibration_curves
from corrloss.analysis.correlation import load_positives, rho_cls, rho_img
from corrloss.analysis.differences import paired_difference
from corrloss.analysis.gain_parts import gain_parts
from corrloss.analysis.matching import match
from corrloss.analysis.metrics import metric_names, run_metrics
from corrloss.analysis.replicates import METRICS, Replicates, bootstrap_ap
from corrloss.analysis.stored_run import load_run
from corrloss.coco import load_detections, load_ground_truth
from corrloss.plan.experiments import Experiments
from corrloss.plan.matrix import Matrix, Planned
from corrloss.plan.runs import Run
from corrloss.plan.table_files import load_table
from corrloss.run import KINDS, RunFolder
from corrloss.tables.build import build_table
from corrloss.tables.intervals import stored_intervals
from corrloss.tables.records import read_finished, read_runs, runs_frame
from corrloss.tables.reference import load_reference
from corrloss.tables.render import to_latex, to_markdown

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from synthetic_coco import make_dataset, make_detections, write

ROOT = Path(__file__).parents[1]
POSITIVES_PER_BOX = 30


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--replicates", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=2, help="threads of the bootstrap")
    parser.add_argument("--records", type=int, default=2000, help="runs of which the tables are made")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        make_data(Path(folder))
        print(
            "| what | wall | CPU | beside | wall | CPU | ratio of wall | of CPU |",
            "| --- " * 8 + "|",
            sep="\n",
        )
        bench_ap(Path(folder), arguments.repeats)
        bench_measures(Path(folder), arguments.repeats)
        bench_bootstrap(Path(folder), arguments.replicates, arguments.workers)
        bench_whole(Path(folder))
        bench_tables(Path(folder) / "project", arguments.records, arguments.repeats)
    print(f"\nPeak memory of this process: {peak_memory():.2f} GiB")


def make_data(folder: Path) -> None:
    dataset = make_dataset(0, images=5000, categories=80, objects=7.3)
    write(folder / "annotations.json", dataset)
    counts = []
    for name, correlation in (("a", 0.5), ("b", 0.55)):
        entries = make_detections(1, dataset, correlation=correlation, background=82)
        write(folder / f"{name}.json", entries)
        counts.append(len(entries))
    objects = [a for a in dataset["annotations"] if not a["iscrowd"]] * POSITIVES_PER_BOX
    rng = np.random.default_rng(0)
    iou = rng.uniform(0.3, 1, len(objects)).astype(np.float32)
    np.savez(
        folder / "positives.npz",
        image_id=np.array([a["image_id"] for a in objects]),
        category_id=np.array([a["category_id"] for a in objects]),
        annotation_id=np.array([a["id"] for a in objects]),
        score=np.clip(iou + rng.normal(0, 0.3, len(iou)), 0, 1).astype(np.float32),
        iou=iou,
        min_iou=0.3,
    )
    print(
        f"{len(dataset['images'])} images, {len(dataset['annotations'])} boxes, {counts} detections, "
        f"{len(objects)} positives before post-processing\n"
    )


def seconds(function: Callable, *arguments) -> np.ndarray:
    """Wall time, and CPU time of this process and of those that it started and that ended."""
    start = np.array([time.perf_counter(), sum(os.times()[:4])])
    function(*arguments)
    return np.array([time.perf_counter(), sum(os.times()[:4])]) - start


def medians(functions: list[Callable], repeats: int) -> list[np.ndarray]:
    """Seconds of each function, taken in turns."""
    times = [[seconds(function) for function in functions] for _ in range(repeats)]
    return list(np.median(times, axis=0))


def row(what: str, own: np.ndarray, beside: str = "", other: np.ndarray | None = None) -> None:
    figures = [*own] if other is None else [*own, beside, *other, *(own / other)]
    cells = [figure if isinstance(figure, str) else f"{figure:.2f}" for figure in figures]
    print(f"| {what} | {' | '.join(cells + [''] * (7 - len(cells)))} |", flush=True)


def bench_ap(folder: Path, repeats: int) -> None:
    """Load, check and score one file, beside hotcoco's loading and scoring without the checks."""

    def own() -> None:
        truth = load_ground_truth(folder / "annotations.json")
        average_precision(truth, load_detections(folder / "a.json", truth))

    def theirs() -> None:
        truth = hotcoco.COCO(str(folder / "annotations.json"))
        evaluation = hotcoco.COCOeval(truth, truth.load_res(str(folder / "a.json")), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()

    own_median, their_median = medians([own, theirs], repeats)
    row("AP, loaded and checked", own_median, "hotcoco, loaded", their_median)


def bench_measures(folder: Path, repeats: int) -> None:
    """Everything of the correlations and the bounds, loading included."""

    def measures() -> None:
        truth = load_ground_truth(folder / "annotations.json")
        found = load_detections(folder / "a.json", truth)
        matches = match(truth, found, [0.5], ("all",))
        rho_cls(matches, truth)
        for order in ORDERS:
            average_precision(truth, bound_after_nms(found, matches, order))
        rho_img(load_positives(folder / "positives.npz", truth), truth)
        for name in ("a", "b"):  # stand in for the two that the predict stage reassigned before NMS
            average_precision(truth, load_detections(folder / f"{name}.json", truth))

    row("ρ_img, ρ_cls and four bounds, loaded", *medians([measures], repeats))


def bench_bootstrap(folder: Path, replicates: int, workers: int) -> None:
    """The paired bootstrap of two loaded models, beside hotcoco's compare of two evaluated ones."""
    truth = load_ground_truth(folder / "annotations.json")
    models = [load_detections(folder / f"{name}.json", truth) for name in ("a", "b")]
    intervals = {}

    def own() -> None:
        runs = [bootstrap_ap(truth, found, replicates, seed=0, workers=workers) for found in models]
        intervals["own"] = paired_difference(runs[:1], runs[1:])["AP"]

    def theirs(n: int) -> None:
        intervals["hotcoco"] = hotcoco.compare(*evaluations, n_bootstrap=n)

    evaluations = [hotcoco_evaluation(truth, found) for found in models]
    for evaluation in evaluations:
        evaluation.accumulate()
    once, some = seconds(theirs, 0), seconds(theirs, replicates // 10)
    row(
        f"{replicates} replicates of ΔAP, {workers} threads",
        seconds(own),
        "hotcoco compare, scaled",
        once + 10 * (some - once),
    )
    own_interval, other = intervals["own"], intervals["hotcoco"]["ci"]["AP"]
    width = own_interval.ci_high - own_interval.ci_low
    other_width = 100 * (other["upper"] - other["lower"])
    print(
        f"\nΔAP {own_interval.delta:.2f}; width of its 95% interval {width:.3f}, hotcoco's {other_width:.3f}"
    )


def bench_whole(folder: Path) -> None:
    """All that two runs and their comparison take, each run in a process of its own, as in the workflow."""
    for name in ("a", "b"):
        run = RunFolder(folder / name)
        run.path.mkdir()
        (run.detections()).symlink_to(folder / f"{name}.json")
        for order in ORDERS:
            run.bound(order).symlink_to(folder / f"{name}.json")
        run.positives.symlink_to(folder / "positives.npz")

    def everything() -> None:
        with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
            done = list(pool.map(evaluate, [folder / "annotations.json"] * 2, [folder / "a", folder / "b"]))
        replicates, peaks = zip(*done, strict=True)
        gains.update(paired_difference(replicates[:1], replicates[1:]))
        truth = load_ground_truth(folder / "annotations.json")
        gain_parts(truth, *(load_detections(folder / f"{name}.json", truth) for name in ("a", "b")))
        gains["memory"] = sum(peaks) + peak_memory()

    gains: dict = {}
    row("everything of two models and their comparison, 2 processes", seconds(everything))
    print(f"\nPeak memory of the three processes together: {gains['memory']:.2f} GiB")


def evaluate(annotations: Path, folder: Path) -> tuple[Replicates, float]:
    """All figures and replicates of a run, and the peak memory of this process, in GiB."""
    stored = load_run(RunFolder(folder), annotations)
    run_metrics(stored)
    for matches in (stored.calibration_matches, stored.calibrated[1]):
        calibration_curves(matches, stored.ground_truth)
    mended = stored.calibrated[0]
    found = bootstrap_ap(stored.ground_truth, stored.boxes, positives=stored.positives, mended=mended)
    return found, peak_memory()


def peak_memory() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def bench_tables(root: Path, records: int, repeats: int) -> None:
    """runs.csv, and every table of experiments/ with as many seeds as it takes, from stored records."""
    experiments, runs = make_project(root, records)
    write_records(root, runs)
    matrix = Matrix(
        "mini",
        {},
        {run.name: Planned(run, {"bench": {"identity": {"evaluation": "0" * 12}}}) for run in runs},
        {},
    )
    reference = load_reference(Experiments(ROOT))

    def tables() -> None:
        runs_frame(read_finished(matrix, root)).to_csv(root / "runs.csv", index=False, float_format="%.6g")
        measured = read_runs(root / "runs.csv")
        interval = stored_intervals(root, measured)
        for plan in plans(experiments):
            frame = build_table(plan, measured, reference, interval)
            frame.to_csv(root / f"{plan.name}.csv", index=False, float_format="%.6g")
            for suffix, to_text in ((".md", to_markdown), (".tex", to_latex)):
                (root / f"{plan.name}{suffix}").write_text(to_text(frame, plan, "mini"))

    row(
        f"runs.csv and {len(plans(experiments))} tables from {len(runs)} records", *medians([tables], repeats)
    )


def plans(experiments: Experiments) -> list:
    loaded = [load_table(experiments, name, "mini") for name in experiments.tables]
    return [plan for plan in loaded if plan.runs and plan.headlines]  # not those of what the loss costs


def make_project(root: Path, records: int) -> tuple[Experiments, list[Run]]:
    """The bench's own tables, with seeds until there are enough runs."""
    for name in ("experiments", "workflows/schemas"):
        shutil.copytree(ROOT / name, root / name)
    n_variants = len({run.name for plan in plans(Experiments(ROOT)) for run in plan.runs if run.seed == 0})
    for path in (root / "experiments" / "tables").glob("*.yaml"):
        seeds = {"seeds": {"mini": list(range(-(-records // n_variants)))}}
        path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | seeds))
    experiments = Experiments(root)
    runs = {run.name: run for plan in plans(experiments) for run in plan.runs}
    return experiments, list(runs.values())


def write_records(root: Path, runs: list[Run]) -> None:
    rng, names, n = np.random.default_rng(0), metric_names(masks=True), len(METRICS)
    environment = {"device": "cpu", "threads": 1, "versions": {"torch": "1", "mmdet": "2", "numpy": "3"}}
    common = {"train_seconds": 60.0, "identity": "0" * 12}
    common["environment"] = {"train": environment, "predict": environment}
    for run in runs:
        folder = run.folder(root)
        folder.path.mkdir(parents=True)
        metrics = dict(zip(names, (100 * rng.random(len(names))).tolist(), strict=True))
        folder.write_record({"run": run.name, "metrics": metrics, **common})
        holding = np.full(n, 200)
        for kind, prefix in zip(KINDS, ("", "mask_"), strict=True):
            estimate = np.array([metrics.get(f"{prefix}{name}", np.nan) for name in METRICS])
            values = estimate + rng.normal(0, 1, (1000, n))
            stored = Replicates(estimate, values, 200, 0, "a", holding, "0" * 12)
            stored.save(folder.replicates(kind))


if __name__ == "__main__":
    main()
