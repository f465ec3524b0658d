import shutil
from dataclasses import replace

import pandas as pd
import pytest
from synthetic_coco import load, make_dataset, make_detections, write

from corrloss.analysis.ap import average_precision
from corrloss.analysis.differences import paired_difference
from corrloss.analysis.gain_parts import PARTS, exchange, gain_parts
from corrloss.analysis.replicates import bootstrap_ap
from corrloss.coco import load_detections, load_ground_truth
from corrloss.plan.identity import evaluation_identity
from corrloss.plan.runs import Run
from corrloss.plan.table_files import Table
from corrloss.run import PREDICTION_KEYS, StageReportError
from corrloss.tables.build import build_table
from corrloss.tables.intervals import stored_intervals
from corrloss.tables.pairs import with_parts
from corrloss.tables.records import runs_frame
from corrloss.tables.reference import COLUMNS

RUNS = [
    Run("mini", "mini_coco", "atss", *loss, seed)
    for loss in (("none", 0.0), ("spearman", 0.2))
    for seed in range(2)
]


@pytest.fixture
def finished(tmp_path):
    """Two seeds of a detector with and without the loss: their folder, records and detections."""
    dataset = make_dataset(7, images=20)
    truth, _ = load(tmp_path, dataset, [])
    records, found = [], {}
    for number, run in enumerate(RUNS):
        folder = run.folder(tmp_path)
        folder.path.mkdir(parents=True)
        write(folder.detections(), make_detections(number, dataset, correlation=0.3 + 2 * run.weight))
        found[run] = load_detections(folder.detections(), truth)
        predicted = dict.fromkeys(PREDICTION_KEYS) | {"identity": f"{number:012d}"}
        run.folder(tmp_path).write_prediction(predicted)
        metrics = {"AP": average_precision(truth, found[run])["AP"]}
        identity = evaluation_identity(predicted["identity"], "hotcoco")
        records.append((run, {"metrics": metrics, "train_seconds": 1.0} | {"identity": identity}))
    return tmp_path, runs_frame(records), found


def table_of(*metrics):
    return Table("parts", "Parts", "coco", metrics, ("AP",), False, tuple(RUNS), {})


def test_parts_of_each_run_and_its_baseline_are_columns(finished):
    folder, runs, found = finished
    table = table_of("AP", *PARTS)
    frame, replicated = with_parts(runs, table, folder, folder / "annotations.json")
    frame = frame.set_index("run")
    truth = load_ground_truth(folder / "annotations.json")
    for run in RUNS:
        expected = gain_parts(truth, found[run.baseline], found[run])
        assert frame.loc[run.name, list(PARTS)].to_dict() == pytest.approx(expected)
        assert run.is_baseline or replicated[run.name, "boxes_AP"][0] == pytest.approx(expected["boxes_AP"])
        if run.is_baseline:
            assert frame["order_AP"][run.name] == pytest.approx(frame["AP"][run.name])
    shown = build_table(table, frame.reset_index(), pd.DataFrame(columns=list(COLUMNS)))
    gain = frame["order_AP"].iloc[2:].mean() - frame["AP"].iloc[:2].mean()
    assert shown["delta_order_AP"][1] == pytest.approx(gain)
    assert {"delta_AP", "delta_boxes_AP", "matched"} <= {*shown} and shown["ci_low_order_AP"].isna().all()


def test_parts_have_intervals_on_the_resamples_of_ap(finished):
    folder, runs, found = finished
    truth = load_ground_truth(folder / "annotations.json")
    identities = dict(zip(runs["run"], runs["identity"], strict=True))
    for run in RUNS:
        own = replace(bootstrap_ap(truth, found[run]), identity=identities[run.name])
        own.save(run.folder(folder).replicates())
    frame, replicated = with_parts(runs, table_of("AP", *PARTS), folder, folder / "annotations.json")
    interval = stored_intervals(folder, frame, replicated)
    losses = RUNS[2:]
    hybrids = [exchange(truth, found[run.baseline], found[run]).order_AP for run in losses]
    sides = ([found[run.baseline] for run in losses], hybrids)
    expected = paired_difference(*([bootstrap_ap(truth, one) for one in side] for side in sides))["AP"]
    assert interval(losses, "order_AP") == expected and expected.n_seeds == 2
    assert stored_intervals(folder, frame)(losses, "order_AP") is None
    shown = build_table(table_of("AP", *PARTS), frame, pd.DataFrame(columns=list(COLUMNS)), interval)
    assert shown["ci_low_order_AP"][1] == expected.ci_low < shown["delta_order_AP"][1]


def test_a_missing_run_leaves_cells_empty_and_other_tables_are_left_alone(finished):
    folder, runs, _ = finished
    assert with_parts(runs, table_of("AP"), folder, folder / "nowhere.json")[0] is runs
    without = runs[runs["run"] != RUNS[0].name]
    frame, _ = with_parts(without, table_of("AP", *PARTS), folder, folder / "annotations.json")
    frame = frame.set_index("run")
    assert frame.loc[RUNS[2].name, list(PARTS)].isna().all()
    assert frame.loc[[RUNS[1].name, RUNS[3].name], list(PARTS)].notna().all(axis=None)


def test_detections_of_another_run_are_refused_by_name(finished):
    folder, runs, _ = finished
    one, other = (RUNS[number].folder(folder) for number in (2, 3))
    shutil.copy(other.detections(), one.detections())
    for foreign, message in (one.detections(), "files beside it"), (one.prediction, "was evaluated with"):
        shutil.copy(other.path / foreign.name, foreign)
        with pytest.raises(StageReportError, match=message):
            with_parts(runs, table_of("AP", *PARTS), folder, folder / "annotations.json")
