from dataclasses import replace

import pytest
from made_tables import MAIN, REAL, figures, finished

from corrloss.plan.table_files import load_table
from corrloss.tables.build import columns
from corrloss.tables.intervals import DETECTORS
from corrloss.tables.intervals import ONE_PAIR as ONE
from corrloss.tables.terminal import to_text


def text_of(frame, width=100, title="T", question=""):
    plan = replace(load_table(REAL, "nms_free", "mini"), title=title, question=question)
    return to_text(frame, plan, width)


@pytest.mark.parametrize("name", MAIN)
def test_a_main_table_fits_a_hundred_columns_with_every_figure(name):
    text = to_text(finished(name), load_table(REAL, name, "mini"), 100)
    assert max(map(len, text.splitlines())) <= 100
    assert "…" not in text and text.startswith(load_table(REAL, name, "mini").title + "\n")
    plan = load_table(REAL, name, "mini")
    for run in plan.runs:
        for value in figures(run, columns(plan)).values():
            assert f"{value:.1f}" in text


def test_an_interval_stands_beside_its_delta_and_a_verdict_where_there_is_one():
    interval = {"ci_low": [None, -0.3, 0.5], "ci_high": [None, 1.2, 2.5], "interval_over": ["", ONE, ONE]}
    frame = finished("nms_free").assign(**interval)
    assert "verdict" not in text_of(frame)  # nowhere but at scale paper is anything compared
    frame["verdict"] = ["no reference", "inconclusive", "not reproduced"]
    lines = text_of(frame, 200).splitlines()
    assert f"95% over {ONE}" in lines[1] and "verdict" in lines[1]
    assert "-0.3 to +1.2" in lines[4] and lines[4].endswith("inconclusive")
    assert lines[5].endswith("+1.6   not reproduced")


def test_columns_of_the_paper_without_a_figure_are_left_out():
    assert "paper AP" in text_of(finished("instance_segmentation"), 200)
    assert "paper delta" not in text_of(finished("instance_segmentation"), 200)
    assert "paper delta" in text_of(finished("nms_free"), 200)


def test_what_gives_way_is_what_is_in_the_files_too():
    interval = {"ci_low": -0.3, "ci_high": 1.2, "interval_over": ONE}
    frame = finished("instance_segmentation").assign(**interval, paper_delta=0.7)
    wide, narrow = text_of(frame, 200), text_of(frame, 100)
    assert max(map(len, narrow.splitlines())) <= 100
    assert "28.3" in wide and "28.3" not in narrow  # the paper's AP
    assert "-0.3 to +1.2" in wide and "-0.3 to +1.2" in narrow


def test_lines_are_longer_rather_than_figures_cut():
    text = text_of(finished("instance_segmentation"), 40)
    assert "…" not in text and "concordance 0.4" in text


def test_a_detector_is_named_once_and_a_loss_with_its_options():
    frame = finished("nms_free").assign(gradient_to=[None, None, "both"])
    lines = [line for line in text_of(frame).splitlines() if "0.3" in line or "0.2" in line]
    assert [line.split()[:2] for line in lines] == [["concordance", "0.3"], ["spearman", "0.2"]]
    assert "spearman 0.2 gradient_to=both" in lines[1]


def test_missing_runs_are_named_and_their_cells_empty():
    run = "mini_coco/sparse_rcnn/none/seed0"
    text = text_of(finished("nms_free", but=[run]))
    assert text.splitlines()[-1] == f"Without these runs, not finished yet: {run}"
    baseline = next(line for line in text.splitlines() if " none" in line)
    assert baseline.split() == ["sparse_rcnn", "none", "37.7"]


def test_failed_and_mixed_runs_are_told_below_the_table():
    run = "mini_coco/sparse_rcnn/none/seed0"
    frame = finished("nms_free").assign(failed=[run] * 3, mixed=["", "threads: 1 / 2", "threads: 1 / 2"])
    frame.loc[0, ["AP", "n_seeds"]] = [None, 0]
    lines = text_of(frame).splitlines()
    assert lines[-2:] == [
        f"Without these runs, whose training failed: {run}",
        "Runs that are compared differ in more than the loss: threads: 1 / 2",
    ]
    assert next(line for line in lines if " none" in line).split()[:3] == ["sparse_rcnn", "none", "failed"]


def test_the_question_is_below_the_heading_and_the_notes_below_the_table():
    lines = text_of(finished("nms_free"), question="Does it help? " * 10).splitlines()
    assert lines[0] == "T" and lines[1].startswith("Does it help?") and max(map(len, lines)) <= 100
    assert any(line.startswith("Rows of one detector share its baseline") for line in lines[-3:])


def test_several_seeds_are_counted():
    assert "n_seeds" not in text_of(finished("nms_free"), 200)
    assert "n_seeds" in text_of(finished("nms_free").assign(n_seeds=3), 200)


def test_the_interval_of_a_mean_over_detectors_is_marked():
    interval = {
        "ci_low": [None, -0.3, 0.5],
        "ci_high": [None, 1.2, 2.5],
        "interval_over": ["", ONE, DETECTORS],
    }
    frame = finished("nms_free").assign(**interval)
    lines = text_of(frame, 200).splitlines()
    assert lines[1].count("95%") == 1 and "-0.3 to +1.2" in lines[4] and "+0.5 to +2.5 †" in lines[5]
    assert "† Over images, seeds and detectors." in lines
    alone = text_of(frame.assign(interval_over=["", DETECTORS, DETECTORS]), 200)
    assert "95% over images, seeds and detectors" in alone and "†" not in alone
