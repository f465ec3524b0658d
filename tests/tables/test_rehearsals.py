"""Reports of rehearsals as a table, and as hours."""

import json
from pathlib import Path

import pytest

from corrloss.plan.matrix import Matrix, Planned
from corrloss.plan.runs import Run
from corrloss.plan.table_files import Table
from corrloss.tables.cost import REHEARSAL, load_seconds, rehearsed_hours, run_costs
from corrloss.tables.rehearsals import read_rehearsals, rehearsal_table, to_text

ROOT = Path(__file__).parents[2]
WORKING = {
    "identity": "0123456789ab", "seconds_per_update": 2.0, "loading_share": 0.1, "peak_memory_mb": 9000.0,
    "predict_seconds": 0.5,
}  # fmt: skip


@pytest.fixture
def matrix():
    """A baseline with two seeds, and a run with the loss: 100 images, 16 an update, on 2 GPUs."""
    bench = {"gpus": 2, "processes": 2, "accumulate": 2, "identity": {"training": "0123456789ab"}}
    bench["identity"]["evaluation"] = "ba9876543210"
    config = {
        "bench": bench,
        "train_dataloader": {"batch_size": 4},
        "train_cfg": {"max_epochs": 12},
        "optim_wrapper": {"optimizer": {"type": "SGD"}},
        "model": {},
    }
    runs = [Run("toy", "made", "atss", "none", 0.0, seed) for seed in (0, 1)]
    runs.append(Run("toy", "made", "atss", "concordance", 0.2, 0))
    table = Table("main", "", "coco", ("AP",), ("AP",), True, tuple(runs), {})
    data = {"make": {"train_images": 100, "val_images": 10}}
    return Matrix("toy", {"main": table}, {run.name: Planned(run, config) for run in runs}, {"made": data})


def report(run, results, content):
    path = run.rehearsal_folder(results).rehearsal
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(content))


def test_hours_are_updates_at_the_measured_seconds(matrix, tmp_path):
    first, second, _ = matrix.tables["main"].runs
    report(first, tmp_path, WORKING)
    reports = read_rehearsals(matrix, tmp_path, matrix.tables["main"].runs)
    expected = 7 * 12 * 2.0 * 2 / 3600  # 7 updates of 16 images an epoch, 12 epochs, 2 GPUs
    assert rehearsed_hours(matrix, reports) == {first: pytest.approx(expected)}
    costs = run_costs(matrix, load_seconds(ROOT / "experiments/reference/seconds.csv"), tmp_path)
    assert [cost.basis for cost in costs.values()] == [REHEARSAL, REHEARSAL, ""]  # all seeds cost the same
    assert costs[second].gpu_hours == pytest.approx(expected)


@pytest.mark.parametrize(
    "content", [{**WORKING, "identity": "another"}, [], {}], ids=["foreign", "list", "empty"]
)
def test_a_rehearsal_of_something_else_counts_for_nothing(matrix, tmp_path, content):
    runs = matrix.tables["main"].runs
    report(runs[0], tmp_path, content)
    assert read_rehearsals(matrix, tmp_path, runs) == {}


@pytest.mark.parametrize(
    ("changes", "way"),
    [
        ({"failed": "torch.OutOfMemoryError: CUDA out of memory. Tried"}, "precision=bf16"),
        ({"failed": "the loss is not finite at iteration 3: loss_cls nan"}, "precision=fp32"),
        ({"failed": "expected a GPU, PyTorch finds none"}, ""),
        ({"loading_share": 0.6}, "num_workers"),
        ({}, ""),
    ],
)
def test_a_row_has_the_cause_and_a_way_out(matrix, tmp_path, changes, way):
    run = matrix.tables["main"].runs[2]
    frame = rehearsal_table({run: WORKING | changes}, {})
    row = frame.iloc[0]
    assert row["run"] == "made/atss/concordance_w0.2/seed0"
    assert row["result"] == ("fails" if "failed" in changes else "works")
    assert row["cause"] == changes.get("failed", "")
    assert way in row["way_out"] and bool(way) == bool(row["way_out"])
    assert f"{int('failed' not in changes)} of 1 rehearsed runs work" in to_text(frame)
