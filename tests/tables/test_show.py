from pathlib import Path

import pytest

from corrloss.plan.experiments import Experiments
from corrloss.plan.schema import ExperimentError
from corrloss.plan.table_files import load_table
from corrloss.tables.build import build_table
from corrloss.tables.records import runs_frame
from corrloss.tables.reference import load_reference
from corrloss.tables.show import NoTableError, read_table, show, to_text

ROOT = Path(__file__).parents[2]
REAL = Experiments(ROOT)
REFERENCE = load_reference(ROOT / "experiments" / "reference" / "paper.csv")
MAIN = ("instance_segmentation", "nms_based", "nms_free")


def figures(run, metrics):
    """Two-digit figures, each different."""
    return {name: 20 + 3 * position + run.weight for position, name in enumerate(metrics)}


def finished(name, scale="mini", but=()):
    """A table as the bench makes it, with all runs finished but some."""
    plan = load_table(REAL, name, scale)
    records = [
        (run, {"metrics": figures(run, plan.metrics), "train_seconds": 1.0, "config_hash": "0" * 12})
        for run in plan.runs
        if run.name not in but
    ]
    return build_table(plan, runs_frame(records), REFERENCE)


@pytest.fixture
def results(tmp_path):
    """A results folder in which some tables are made."""

    def make(*names, scale="mini"):
        for name in names:
            path = tmp_path / scale / "tables" / f"{name}.csv"
            path.parent.mkdir(parents=True, exist_ok=True)
            finished(name, scale).to_csv(path, index=False, float_format="%.6g")
        return tmp_path

    return make


@pytest.mark.parametrize("name", MAIN)
def test_a_main_table_fits_a_hundred_columns_with_every_figure(name):
    text = to_text(finished(name), "Title", 100)
    assert max(map(len, text.splitlines())) <= 100
    assert "…" not in text and text.startswith("Title\n")
    plan = load_table(REAL, name, "mini")
    for run in plan.runs:
        for value in figures(run, plan.metrics).values():
            assert f"{value:.1f}" in text


def test_an_interval_stands_beside_its_delta_and_a_verdict_where_there_is_one():
    frame = finished("nms_free").assign(ci_low=[None, -0.3, 0.5], ci_high=[None, 1.2, 2.5])
    assert "verdict" not in to_text(frame, "T")  # nowhere but at scale paper is anything compared
    frame["verdict"] = ["no reference", "inconclusive", "not reproduced"]
    lines = to_text(frame, "T", 140).splitlines()
    assert "95% interval" in lines[1] and "verdict" in lines[1]
    assert "-0.3 +1.2" in lines[4] and lines[4].endswith("inconclusive")
    assert lines[5].endswith("+1.6   not reproduced")


def test_columns_of_the_paper_without_a_figure_are_left_out():
    assert "paper AP" in to_text(finished("instance_segmentation"), "T", 200)
    assert "paper delta" not in to_text(finished("instance_segmentation"), "T", 200)
    assert "paper delta" in to_text(finished("nms_free"), "T", 200)


def test_what_gives_way_is_what_is_in_the_files_too():
    frame = finished("instance_segmentation").assign(ci_low=-0.3, ci_high=1.2, paper_delta=0.7)
    wide, narrow = to_text(frame, "T", 200), to_text(frame, "T", 100)
    assert max(map(len, narrow.splitlines())) <= 100
    assert "28.3" in wide and "28.3" not in narrow  # the paper's AP
    assert "-0.3 +1.2" in wide and "-0.3 +1.2" in narrow


def test_lines_are_longer_rather_than_figures_cut():
    text = to_text(finished("instance_segmentation"), "Title", 40)
    assert "…" not in text and "concordance 0.4" in text


def test_a_detector_is_named_once_and_a_loss_with_its_options():
    frame = finished("nms_free").assign(gradient_to=[None, None, "both"])
    lines = [line for line in to_text(frame, "T").splitlines() if "0.3" in line or "0.2" in line]
    assert [line.split()[:2] for line in lines] == [["concordance", "0.3"], ["spearman", "0.2"]]
    assert "spearman 0.2 gradient_to=both" in lines[1]


def test_missing_runs_are_named_and_their_cells_empty():
    run = "mini_coco/sparse_rcnn/none/seed0"
    text = to_text(finished("nms_free", but=[run]), "T")
    assert text.splitlines()[-1] == f"without these runs, not finished yet: {run}"
    baseline = next(line for line in text.splitlines() if " none" in line)
    assert baseline.split() == ["sparse_rcnn", "none", "37.7"]


def test_failed_and_mixed_runs_are_told_below_the_table():
    run = "mini_coco/sparse_rcnn/none/seed0"
    frame = finished("nms_free").assign(failed=[run] * 3, mixed=["", "threads: 1 / 2", "threads: 1 / 2"])
    frame.loc[0, ["AP", "n_seeds"]] = [None, 0]
    lines = to_text(frame, "T").splitlines()
    assert lines[-2:] == [
        f"without these runs, whose training failed: {run}",
        "runs that are compared differ in more than the loss: threads: 1 / 2",
    ]
    assert next(line for line in lines if " none" in line).split()[:3] == ["sparse_rcnn", "none", "failed"]


def test_a_table_is_read_back_as_it_was_made(results):
    path = results("nms_based") / "mini" / "tables" / "nms_based.csv"
    assert to_text(read_table(path), "T") == to_text(finished("nms_based"), "T")


def test_all_tables_the_warning_and_the_places_are_shown(results):
    folder = results(*MAIN)
    (folder / "mini" / "runs.csv").touch()
    text = show(REAL, "mini", folder)
    for name in MAIN:
        assert load_table(REAL, name, "mini").title in text
        assert str(folder / "mini" / "tables" / f"{name}.csv") in text
    assert f"runs:   {folder / 'mini' / 'runs.csv'}\n" in text
    assert "no evidence about the" in text


def test_at_the_papers_scale_nothing_is_said_of_evidence(results):
    assert "evidence" not in show(REAL, "paper", results("nms_free", scale="paper"))


def test_tables_that_are_not_made_yet_are_named(results):
    text = show(REAL, "mini", results("nms_free"))
    assert "nms_based (`snakemake nms_based` makes it)" in text
    assert load_table(REAL, "nms_based", "mini").title not in text
    assert "runs.csv (not made yet)" in text


def test_where_nothing_is_made_the_command_that_makes_it_is_said(tmp_path):
    with pytest.raises(NoTableError, match=r"mini/tables: no table yet; .*`snakemake --config scale=mini`"):
        show(REAL, "mini", tmp_path)
    with pytest.raises(ExperimentError, match=r"huge\.yaml: no such file; there are mini, paper"):
        show(REAL, "huge", tmp_path)


def test_a_damaged_table_is_refused_with_its_line(results):
    folder = results("nms_free")
    path = folder / "mini" / "tables" / "nms_free.csv"
    path.write_text(path.read_text().rpartition(",")[0])
    with pytest.raises(NoTableError, match=f"^{path}: line 4: "):
        show(REAL, "mini", folder)
