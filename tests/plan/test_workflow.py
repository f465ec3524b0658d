"""What the rules look up, without Snakemake."""

from dataclasses import replace

import pytest
from toy_project import ROOT

from corrloss.plan.identity import write_identity
from corrloss.plan.matrix import load_matrix
from corrloss.plan.schema import ExperimentError
from corrloss.plan.settings import Settings
from corrloss.plan.workflow import Plan

BASELINE, WITH_LOSS = "shapes/toy/none/seed0", "shapes/toy/spearman_w0.2/seed0"


@pytest.fixture(scope="module")
def paper(configs_cache):
    settings = Settings.load(ROOT, [f"results={configs_cache}", "scale=paper"])
    return Plan(settings, load_matrix(settings))


@pytest.fixture
def toy(project, tmp_path):
    """The small project, which has two runs."""
    settings = Settings.load(project, [f"data_root={tmp_path / 'data'}", f"results={tmp_path / 'results'}"])
    return Plan(settings, load_matrix(settings))


@pytest.mark.parametrize(
    ("targets", "tables"),
    [
        ([], "main"),
        (["main"], "main"),
        (["paper"], "main"),
        (["report"], "main"),
        (["OUT/report.html"], "main"),
        (["nms_free"], ["nms_free"]),
        (["OUT/tables/nms_free.csv", "weight"], ["nms_free", "weight"]),
        (["nms_based/atss"], ["nms_based"]),
        (["overhead"], []),
        (["main", "weight"], "main and weight"),
        (["all"], "all"),
        (["OUT/runs.csv"], "all"),
        (["weight", "OUT/runs.csv"], "all"),
    ],
)
def test_the_targets_of_a_call_request_tables(paper, targets, tables):
    main, everything = paper.matrix.main_tables, paper.matrix.result_tables
    expected = {"main": main, "main and weight": [*main, "weight"], "all": everything}
    targets = tuple(target.replace("OUT", str(paper.settings.out)) for target in targets)
    requested = replace(paper, targets=targets).requested
    assert requested == (expected[tables] if isinstance(tables, str) else tables)


def test_a_target_may_be_one_detector_of_a_table(paper):
    targets = ("nms_based/atss", "nms_free", "results/paper/runs.csv", "main")
    rows = replace(paper, targets=targets).rows
    assert list(rows) == ["nms_based/atss"]
    table = rows["nms_based/atss"]
    assert {run.detector for run in table.runs} == {"atss"} and len(table.runs) == 9  # three seeds
    assert set(table.runs) < set(paper.matrix.tables["nms_based"].runs)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (
            "nms_based/yolact",
            r"nms_based/yolact: expected <table>/<detector> with a detector of retinanet, fov",
        ),
        ("nms_besed/atss", r"nms_besed/atss: expected <table>/<detector> with a table of .*nms_based"),
        ("overhead/atss", r"overhead/atss: expected <table>/<detector> with a table of"),
    ],
)
def test_a_row_that_is_not_there_is_refused(paper, target, message):
    with pytest.raises(ExperimentError, match=message):
        _ = replace(paper, targets=(target,)).rows


def test_what_a_machine_lacks_is_listed(paper, tmp_path):
    every = replace(paper, settings=replace(paper.settings, data_root=tmp_path), targets=("all",))
    assert [line.partition(" ")[0].replace(f"{tmp_path}/", "") for line in every.missing(has_gpus=False)] == [
        "cityscapes/gtFine/train",
        "cityscapes/gtFine/val",
        "coco/annotations/instances_train2017.json",
        "coco/annotations/instances_val2017.json",
        "GPUs:",
    ]
    asked = list(replace(every, targets=("nms_free",)).missing(has_gpus=True))
    assert asked and not any("cityscapes" in line for line in asked)
    for part in ("train", "val"):
        (tmp_path / "cityscapes" / "gtFine" / part).mkdir(parents=True)
        path = tmp_path / "coco" / "annotations" / f"instances_{part}2017.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert list(every.missing(has_gpus=True)) == []


@pytest.mark.parametrize("scale", ["mini", "small"])
def test_nothing_is_lacking_that_rules_make_or_fetch(real_settings, tmp_path, scale):
    settings = real_settings(f"scale={scale}", f"data_root={tmp_path}")
    assert list(Plan(settings, load_matrix(settings), ("all",)).missing(has_gpus=True)) == []


def test_the_files_that_jobs_read(toy):
    runs = toy.settings.out / "runs"
    assert [folder.path for folder in toy.folders(["toys"])] == [runs / BASELINE, runs / WITH_LOSS]
    assert toy.checked("toys") == [toy.settings.checked("shapes")]


def test_what_a_table_reads_of_its_runs(toy):
    folders = toy.folders(["toys"])
    replicates = [folder.replicates() for folder in folders]
    assert toy.read_by("toys", ["order_AP"]) == replicates
    detections = [file for folder in folders for file in (folder.prediction, folder.detections())]
    assert toy.read_by("toys", ["AP"]) == replicates + detections  # as if AP were of pairs of detections


def test_one_seed_of_a_run_is_rehearsed(paper):
    reports = paper.rehearsals(["nms_based"])
    rows = {(run.detector, run.variant) for run in paper.matrix.tables["nms_based"].runs}
    assert len(reports) == len(set(reports)) == len(rows) < len(paper.folders(["nms_based"]))
    assert paper.settings.out / "rehearsal/coco/atss/none/seed0/rehearsal.json" in reports


def test_the_identity_of_the_report_is_that_of_its_tables(toy, project):
    path = project / "experiments/reference/paper.csv"
    path.parent.mkdir()
    path.write_text("")
    before = toy.report_identity(), toy.table_identity("toys")
    path.write_text("\n")
    after = toy.report_identity(), toy.table_identity("toys")
    assert before[0] != after[0] and before[1] != after[1]


def test_runs_csv_is_current_with_every_requested_run_and_no_other_identity(toy):
    path = toy.settings.runs_csv
    path.parent.mkdir(parents=True)
    planned = {name: one.identity["evaluation"] for name, one in toy.matrix.planned.items()}

    def is_current(rows):
        path.write_text("run,identity\n" + "".join(f"{run},{identity}\n" for run, identity in rows.items()))
        write_identity(path.with_suffix(".json"), "", [path])
        return toy.has_current_runs()

    assert not toy.has_current_runs()
    assert is_current(planned)
    assert not is_current({BASELINE: planned[BASELINE]})
    assert not is_current(planned | {WITH_LOSS: "stale"})
    assert not is_current(planned | {"shapes/toy/none/seed1": "unplanned"})
    assert is_current(planned)
    path.write_text(path.read_text() + "\n")  # not as it was written
    assert not toy.has_current_runs()


@pytest.mark.parametrize(
    ("reference", "seconds"),
    [
        (None, [0, 0, 0]),
        ("detector,train_seconds\ntoy,much\n", [0, 0, 0]),
        ("detector,train_seconds\ntoy,10\ntoy,21\nother,99\n", [16, 46, 0]),
    ],
)
def test_seconds_of_a_detector_are_a_mean_and_nothing_where_none_are_known(toy, project, reference, seconds):
    path = project / "results/reference/mini/runs.csv"
    path.parent.mkdir(parents=True)
    if reference is not None:
        path.write_text(reference)
    run = toy.matrix.run(BASELINE).run
    runs = [run, replace(run, options=(("length", 3),)), replace(run, detector="new")]
    assert [toy.seconds(one) for one in runs] == seconds
