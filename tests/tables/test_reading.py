"""Counts of the main tables, against a small table counted by hand."""

from pathlib import Path

import pandas as pd
import pytest

from corrloss.plan.experiments import Experiments
from corrloss.plan.table_files import load_table
from corrloss.tables.reading import mean_gains, reading

PLAN = load_table(Experiments(Path(__file__).parents[2]), "nms_free", "mini")


@pytest.fixture
def runs():
    """Sparse R-CNN: none, concordance, spearman."""
    names = [run.name for run in PLAN.runs]
    return pd.DataFrame(
        {"run": names, "rho_img": [30, 31, 32], "rho_cls": [30, 29, None], "AP": [10, 12, 9.5]}
    )


@pytest.fixture
def table():
    return pd.DataFrame(
        {
            "detector": ["sparse_rcnn", "sparse_rcnn", "sparse_rcnn", "mean of 1"],
            "coefficient": ["none", "concordance", "spearman", "spearman"],
            "ci_low": ["", 0.1, -1, 5],
            "ci_high": ["", 3.9, 0.2, 6],
        }
    )


def test_what_rose_and_which_intervals_exclude_zero(runs, table):
    assert reading([PLAN], runs, {"nms_free": table}) == (
        "Runs with the loss that are higher than their baseline of the same seed: ρ_img in 2 of 2, "
        "ρ_cls in 0 of 1, AP of boxes in 1 of 2. Of the 2 intervals of 95% of the difference in AP, "
        "1 are above 0 and 0 below."
    )


def test_with_a_difference_of_masks_first_the_interval_is_that_of_boxes(runs, table):
    table = table.assign(ci_low_AP=["", -3, -2, 5], ci_high_AP=["", -1, 2, 6])
    assert "0 are above 0 and 1 below" in reading([PLAN], runs, {"nms_free": table})


def test_only_figures_that_exist_are_counted(runs, table):
    text = reading([PLAN], runs.drop(columns="rho_img"), {"nms_free": table})
    assert "ρ_img" not in text and "AP of boxes in 1 of 2" in text
    assert reading([PLAN], runs.assign(AP=None), {"nms_free": table}) == ""
    assert reading([PLAN], runs[1:], {"nms_free": table}) == ""  # without a baseline
    assert reading([PLAN], runs, {}) == ""


def test_mean_gains_are_those_of_the_rows_of_means(table):
    means = table.assign(delta_AP=["", 2, -0.5, 5.5], n_seeds=[1, 1, 1, 1])
    over = "interval of 95% over images, seeds and detectors"
    assert mean_gains(means) == (
        f"Mean gain over 1 detectors, 1 seed of each, and its {over}: AP of boxes +5.5 (+5.0 to +6.0) with "
        "spearman."
    )
    assert mean_gains(means[:3]) == ""
    means = means.assign(delta_rho_img=2, ci_low_rho_img=-1, ci_high_rho_img=5, n_seeds=5)
    assert "5 seeds of each" in mean_gains(means)
    assert f"{over}: ρ_img +2.0 (-1.0 to +5.0) with spearman; AP of boxes +5.5" in mean_gains(means)
