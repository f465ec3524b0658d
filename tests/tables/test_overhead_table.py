from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from corrloss.plan.experiments import Experiments
from corrloss.plan.runs import Run
from corrloss.tables.overhead import overhead_rows, to_markdown
from corrloss.tables.reference import load_reference

ROOT = Path(__file__).parents[2]


@dataclass
class Timing:
    steps: list
    own: list


@pytest.fixture(scope="module")
def reference():
    return load_reference(Experiments(ROOT))


def runs(detector):
    return (
        Run("mini", "mini_coco", detector, "none", 0.0, 0),
        Run("mini", "mini_coco", detector, "spearman", 0.2, 0, (("strength", 0.1),)),
    )


def timings(generator, factor=1.02, steps=60):
    """A machine that gets slower and faster, a variant that takes 2% more, of which 1.5% are its own."""
    pace = generator.uniform(0.5, 1.5, steps)
    noise = generator.normal(1, 0.005, (3, steps))
    first, second, third = pace * noise
    return Timing(first, []), Timing(second, []), Timing(third * factor, 0.015 * first)


def test_ratios_are_taken_step_by_step_so_that_the_machines_pace_cancels(reference):
    baseline, variant = overhead_rows(runs("atss"), timings(np.random.default_rng(0)), reference)
    assert baseline["ratio_low"] < 1 < baseline["ratio_high"] < 1.005
    assert variant["ratio_low"] < 1.02 < variant["ratio_high"] < 1.025
    assert variant["ratio"] == pytest.approx(1.02, abs=0.003)
    assert variant["share_percent"] == pytest.approx(1.5, abs=0.01)
    assert baseline["share_percent"] is None
    assert (variant["detector"], variant["weight"], variant["strength"]) == ("atss", 0.2, 0.1)
    assert variant["steps"] == 60


def test_the_interval_holds_the_median_in_19_of_20_cases(reference):
    held = 0
    for seed in range(200):
        _, variant = overhead_rows(runs("atss"), timings(np.random.default_rng(seed)), reference)
        held += variant["ratio_low"] <= 1.02 <= variant["ratio_high"]
    assert 0.9 <= held / 200 <= 0.99


def test_published_seconds_stand_beside_sparse_rcnn_alone(reference):
    rows = overhead_rows(runs("sparse_rcnn"), timings(np.random.default_rng(0)), reference)
    assert "paper_source" not in rows[0]
    assert (rows[1]["paper_seconds_without"], rows[1]["paper_seconds_with"]) == (0.50, 0.51)
    assert "second-hand" in rows[1]["paper_source"]
    assert "paper_source" not in overhead_rows(runs("atss"), timings(np.random.default_rng(0)), reference)[1]


def test_markdown_says_what_its_columns_are_and_leaves_unknown_cells_empty(reference):
    rows = overhead_rows(runs("atss"), timings(np.random.default_rng(0)), reference)
    text = to_markdown(pd.DataFrame(rows), "What it costs", "CPU time, 1 thread")
    assert text.startswith("# What it costs\n")
    assert "Clock: CPU time, 1 thread." in text
    for name in rows[0]:
        assert f" {name} " in text
    assert "nan" not in text.lower() and "None" not in text
