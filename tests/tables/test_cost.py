"""What a scale costs, against sums done by hand; and broken tables of seconds."""

import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from corrloss.plan.matrix import Matrix, Planned
from corrloss.plan.runs import Run
from corrloss.plan.table_files import Table
from corrloss.tables.cost import (
    BY,
    COLUMNS,
    SecondsError,
    cost_table,
    detector_cost_table,
    load_seconds,
    run_cost_table,
    run_costs,
    to_text,
    without_gpus,
)

ROOT = Path(__file__).parents[2]
HEADER = ",".join(COLUMNS)
TOY = "toy,coco,4,0.50,25.0,0.853,200.0,estimate,a guess"


def planned(detector, coefficient="none", scale="paper", dataset="coco", **config):
    run = Run(scale, dataset, detector, coefficient, 0.0 if coefficient == "none" else 0.2, 0)
    whole = {
        "bench": {"gpus": 4 if scale == "paper" else 0, "identity": {"evaluation": "0123456789ab"}},
        "train_cfg": {"max_epochs": 12},
        "optim_wrapper": {"optimizer": {"type": "SGD"}},
        "model": {"test_cfg": {"max_per_img": 100}},
        **config,
    }
    return Planned(run, whole)


def matrix_of(scale, *tables, make=None):
    """Each table is a list of planned runs."""
    part = {"expected": "coco_2017_train"}
    data = {"train": part, "test": {"expected": "coco_2017_val"}} if make is None else {"make": make}
    made = {
        f"table{number}": Table(
            f"table{number}", "", "coco", ("AP",), ("AP",), True, tuple(p.run for p in runs), {}
        )
        for number, runs in enumerate(tables)
    }
    return Matrix(scale, made, {p.run.name: p for runs in tables for p in runs}, {"coco": data})


def finish(run, results, seconds):
    folder = run.folder(results)
    folder.path.mkdir(parents=True)
    record = {"run": run.name, "identity": "0123456789ab", "train_seconds": seconds, "metrics": {}}
    folder.record.write_text(json.dumps(record))
    folder.weights.write_bytes(bytes(1_000_000))


@pytest.fixture
def seconds(tmp_path):
    path = tmp_path / "seconds.csv"
    path.write_text(f"{HEADER}\n{TOY}\n")
    return load_seconds(path)


def test_hours_follow_from_seconds_images_and_epochs(seconds, tmp_path):
    toy = planned("toy")
    (cost,) = run_costs(matrix_of("paper", [toy]), seconds, tmp_path).values()
    # 118,287 images of 12 epochs, an eighth of a second each on one GPU
    assert cost.gpu_hours == pytest.approx(118_287 * 12 * 0.125 / 3600)
    assert cost.basis == "table"
    # weights, two checkpoints with momentum, three files of 100 detections for each of 5,000 images
    assert cost.gigabytes == pytest.approx(0.1 + 2 * 0.2 + 3 * 100 * 5000 * 120 / 1e9)


def test_an_optimiser_with_two_states_and_more_detections_take_more_room(seconds, tmp_path):
    adam = planned(
        "toy",
        optim_wrapper={"optimizer": {"type": "AdamW"}},
        model={"test_cfg": {"rpn": None, "rcnn": {"max_per_img": 300}}},
    )
    (cost,) = run_costs(matrix_of("paper", [adam]), seconds, tmp_path).values()
    assert cost.gigabytes == pytest.approx(0.1 + 2 * 0.3 + 3 * 300 * 5000 * 120 / 1e9)


def test_finished_runs_tell_their_own_cost_and_that_of_their_siblings(seconds, tmp_path):
    base, loss, other = planned("toy"), planned("toy", "spearman"), planned("unknown")
    matrix = matrix_of("paper", [base, loss, other])
    finish(base.run, tmp_path, 7200.0)
    costs = run_costs(matrix, seconds, tmp_path)
    assert (costs[base.run].gpu_hours, costs[base.run].basis) == (8.0, "record")  # two hours on four GPUs
    assert costs[base.run].gigabytes == pytest.approx(0.001, rel=0.01)
    assert (costs[loss.run].gpu_hours, costs[loss.run].basis) == (8.0, "siblings")
    assert (costs[other.run].gpu_hours, costs[other.run].basis) == (None, "")


def test_a_record_of_another_config_tells_nothing(seconds, tmp_path):
    toy = planned("toy")
    finish(toy.run, tmp_path, 7200.0)
    record = toy.run.folder(tmp_path).record
    record.write_text(record.read_text().replace("0123456789ab", "older"))
    (cost,) = run_costs(matrix_of("paper", [toy]), seconds, tmp_path).values()
    assert cost.basis == "table"


def test_a_run_that_tables_share_counts_once_in_all(seconds, tmp_path):
    base, loss = planned("toy"), planned("toy", "spearman")
    matrix = matrix_of("paper", [base, loss], [base])
    costs = run_costs(matrix, seconds, tmp_path)
    frame = cost_table(matrix, costs, gpus=8).set_index("table")
    one = costs[base.run].gpu_hours
    assert list(frame["runs"]) == [2, 1, 2]
    assert list(frame["gpu_hours"]) == pytest.approx([2 * one, one, 2 * one])
    assert list(frame["seeds"]) == [1, 1, 1]
    assert frame["to_go_days"]["table0"] == pytest.approx(2 * one / 8 / 24)


def test_the_seeds_of_a_row_are_counted(seconds, tmp_path):
    runs = [planned("toy"), planned("toy", "spearman")]
    more = [replace(one, run=replace(one.run, seed=seed)) for one in runs[:1] for seed in (1, 2)]
    matrix = matrix_of("paper", [*runs, *more], runs)
    frame = cost_table(matrix, run_costs(matrix, seconds, tmp_path), gpus=1)
    assert list(frame["seeds"]) == [3, 1, 3]


def test_runs_that_are_only_timed_cost_nothing(seconds, tmp_path):
    trained, timed = planned("toy"), planned("toy", "spearman")
    matrix = matrix_of("paper", [trained], [trained, timed])
    matrix.tables["table1"] = replace(matrix.tables["table1"], kind="overhead")
    costs = run_costs(matrix, seconds, tmp_path)
    assert list(costs) == [trained.run]
    assert list(cost_table(matrix, costs, gpus=4)["runs"]) == [1, 1]


def test_what_is_finished_is_no_longer_to_go(seconds, tmp_path):
    base, loss = planned("toy"), planned("toy", "spearman")
    matrix = matrix_of("paper", [base, loss])
    finish(base.run, tmp_path, 3600.0)
    row = cost_table(matrix, run_costs(matrix, seconds, tmp_path), gpus=4).iloc[0]
    assert (row["finished"], row["gpu_hours"], row["to_go_gpu_hours"]) == (1, 8.0, 4.0)
    assert row["to_go_days"] == pytest.approx(1 / 24)


def test_what_is_unknown_is_not_printed_as_nothing(seconds, tmp_path):
    known, other = planned("toy"), planned("unknown")
    matrix = matrix_of("paper", [known], [other], [known, other])
    costs = run_costs(matrix, seconds, tmp_path)
    frame = cost_table(matrix, costs, gpus=1, price=2.5).set_index("table")
    assert frame["gpu_hours"].isna().tolist() == [False, True, False, False]
    assert frame["to_go_price"]["table0"] == pytest.approx(2.5 * costs[known.run].gpu_hours)
    lines = {
        line.split("|")[1].strip(): line for line in to_text(matrix, costs, 1).splitlines() if "|" in line
    }
    assert "unknown" in lines["table1"] and "unknown" not in lines["table2"]
    assert " 0.0 " not in lines["table1"]


def test_the_cost_of_each_detector_and_run(seconds, tmp_path):
    runs = [planned("toy"), planned("toy", "spearman"), planned("unknown")]
    costs = run_costs(matrix_of("paper", runs), seconds, tmp_path)
    one = costs[runs[0].run].gpu_hours
    rows = detector_cost_table(costs).set_index("detector")
    assert rows.loc["toy", ["runs", "gpu_hours", "gpu_hours_a_run"]].tolist() == [2, 2 * one, one]
    assert rows.loc["unknown", ["gpu_hours", "gpu_hours_a_run"]].isna().all()
    each = run_cost_table(costs)
    assert list(each["run"]) == sorted(one.run.name for one in runs)
    assert each["gpu_hours"].isna().sum() == 1
    for by in BY:
        assert "unknown" in to_text(matrix_of("paper", runs), costs, 1, by=by)


def test_figures_of_gpus_are_not_taken_for_those_of_a_cpu(seconds, tmp_path):
    mini = planned("toy", scale="mini")
    matrix = matrix_of("mini", [mini], make={"train_images": 400, "val_images": 200})
    costs = run_costs(matrix, seconds, tmp_path)
    assert costs[mini.run].gpu_hours is None
    said = to_text(matrix, costs, 1)
    assert "unknown" in said and "coco/toy" in said
    finish(mini.run, tmp_path, 90.0)
    assert run_costs(matrix, seconds, tmp_path)[mini.run].gpu_hours == pytest.approx(0.025)


def test_a_machine_without_gpus_is_told_the_days_that_its_processor_would_take(seconds, monkeypatch):
    base, loss = planned("toy"), planned("toy", "spearman")
    matrix = matrix_of("paper", [base, loss])
    monkeypatch.setattr("corrloss.tables.cost._gflops_per_second", lambda: 100.0)
    days = 2 * 3 * 200.0 * 118_287 * 12 / 100.0 / 86400  # two trainings, three times forward
    said = without_gpus(matrix, [base.run.name, loss.run.name], seconds)
    assert "expected a GPU for 2 trainings, found none on this machine (no nvidia-smi)" in said
    assert f"at the 100 GFLOP/s that it reached just now: at least {days:,.0f} days" in said
    assert all(way in said for way in ("slurm", "scale=mini", "on_cpu=true"))


def test_the_days_of_a_detector_that_nothing_is_known_of_are_unknown(seconds):
    other = planned("unknown")
    assert "just now: unknown" in without_gpus(matrix_of("paper", [other]), [other.run.name], seconds)


def test_runs_without_gpus_are_started_anywhere(seconds):
    mini = planned("toy", scale="mini")
    matrix = matrix_of("mini", [mini], make={"train_images": 400, "val_images": 200})
    assert without_gpus(matrix, [mini.run.name], seconds) == without_gpus(matrix, [], seconds) == ""


def test_a_sample_has_as_many_images_as_its_file_says(seconds, tmp_path):
    toy = planned("toy", scale="small")
    matrix = matrix_of("small", [toy])
    matrix.datasets["coco"]["sample"] = {"images": 10_000}
    (cost,) = run_costs(matrix, seconds, tmp_path).values()
    assert cost.gpu_hours == pytest.approx(10_000 * 12 * 0.125 / 3600)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("detector\n", "line 1: no column dataset"),
        (f"{HEADER}\n{TOY}\n{TOY}\n", "line 3, detector: 'toy'; needs each detector once"),
        (f"{HEADER}\n{TOY.replace('0.50', '0')}\n", "line 2, seconds_per_iteration: '0'; needs a number"),
        (f"{HEADER}\n{TOY.replace('0.50', 'nan')}\n", "line 2, seconds_per_iteration"),
        (f"{HEADER}\n{TOY.replace('0.50', 'half')}\n", "line 2, seconds_per_iteration: 'half'"),
        (f"{HEADER}\n{TOY.replace('estimate', 'rumour')}\n", "needs one of published, measured, estimate"),
        (f"{HEADER}\n{TOY.replace('a guess', ' ')}\n", "line 2, source: ' '; needs a source"),
        (f"{HEADER}\n{TOY},more\n", "line 2: has 10 fields, the header 9"),
    ],
)
def test_a_broken_table_of_seconds_is_refused_with_its_place(tmp_path, text, said):
    path = tmp_path / "seconds.csv"
    path.write_text(text)
    with pytest.raises(SecondsError) as caught:
        load_seconds(path)
    assert str(path) in str(caught.value) and said in str(caught.value)


# The real table.


@pytest.fixture(scope="module")
def real():
    return load_seconds(ROOT / "experiments" / "reference" / "seconds.csv")


def test_one_figure_is_published_and_estimates_are_scaled_from_it(real):
    (known,) = real[real["kind"] == "published"].itertuples()
    assert known.Index == ("sparse_rcnn", "coco") and known.seconds_per_iteration == 0.50
    paper = pd.read_csv(ROOT / "experiments" / "reference" / "paper.csv")
    cell = paper[(paper["metric"] == "sec_per_iter_V100") & (paper["variant"] == "baseline")]
    assert float(cell["value"].item()) == known.seconds_per_iteration
    estimates = real[real["kind"] == "estimate"]
    work = estimates["gflops"] * estimates["images_per_process"] / (known.gflops * known.images_per_process)
    assert list(estimates["seconds_per_iteration"]) == pytest.approx(list(0.5 * work), abs=0.0051)


def test_what_was_measured_names_gpu_and_command(real):
    """Rows of one scale are measured or not: a sum over two GPUs would be the cost of neither."""
    measured = real[real["kind"] == "measured"]
    assert set(measured.index.get_level_values("dataset")) == {"coco_small"}
    assert (real.loc[real.index.get_level_values("dataset") == "coco_small", "kind"] == "measured").all()
    assert measured["source"].str.match(r"H200, .*: python benchmarks/full_width\.py").all()
