"""How much mini tells, against SciPy and counts by hand."""

from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from corrloss.plan.experiments import Experiments
from corrloss.tables.proxy import beside_published, known_differences, rank_correlation, to_markdown
from corrloss.tables.records import read_runs

REAL = Experiments(Path(__file__).parents[2])
AP = {
    "retinanet": [30, 31],
    "atss": [33, 35],
    "atss_no_aux": [32, 36],
    "paa": [20, 21],
    "paa_no_aux": [25, 26],
}


@pytest.fixture
def runs():
    """Baselines of two seeds; a run with the loss, one with an option and one of another data set."""
    rows = [
        {"dataset": "coco", "detector": detector, "coefficient": "none", "seed": seed, "AP": values[seed]}
        for (detector, values), seed in product(AP.items(), (0, 1))
    ]
    other = {"dataset": "coco", "detector": "atss", "coefficient": "none", "seed": 0, "AP": 90.0}
    rows += [other | {"coefficient": "spearman"}, other | {"length": 2.0}, other | {"dataset": "scenes"}]
    return pd.DataFrame(rows)


def test_ap_is_the_mean_over_seeds_of_plain_baselines(runs):
    beside = beside_published(runs, REAL).set_index("detector")
    assert beside["AP"].dropna().to_dict() == {name: np.mean(values) for name, values in AP.items()}
    assert (
        beside["published_AP"]["atss"] == 39.4
        and beside["source"]["atss"] == "mmdet: atss/atss_r50_fpn_1x_coco"
    )
    assert beside["published_AP"]["atss_no_aux"] == 38.7 and "note" in beside["source"]["atss_no_aux"]
    assert beside["published_AP"].is_monotonic_decreasing


def test_signs_of_known_differences(runs):
    found = known_differences(runs, beside_published(runs, REAL)).set_index("better")
    assert list(found.index) == ["atss", "paa"]  # the others are not trained
    assert found["sign"].to_dict() == {"atss": "not clear", "paa": "wrong"}
    assert found["here"].to_dict() == {"atss": 0.0, "paa": -5.0}
    assert found["published"]["atss"] == pytest.approx(0.7)
    one_seed = runs[runs["seed"] == 0]
    alone = known_differences(one_seed, beside_published(one_seed, REAL))
    assert list(alone["sign"]) == ["right", "wrong"] and alone["low"].isna().all()


def test_the_rank_correlation_is_scipys_and_its_interval_holds_it():
    random = np.random.default_rng(1)
    beside = pd.DataFrame({"AP": random.normal(size=12), "published_AP": random.normal(size=12)})
    value, low, high = rank_correlation(beside)
    assert value == spearmanr(beside["AP"], beside["published_AP"]).statistic and low < value < high
    assert rank_correlation(beside) == (value, low, high)
    assert np.isnan(rank_correlation(beside[:2])).all()


def test_a_perfect_order_has_no_other_resample():
    assert rank_correlation(pd.DataFrame({"AP": [1, 2, 3, 4], "published_AP": [5, 6, 7, 8]})) == (1, 1, 1)


def test_what_is_not_trained_is_named(runs):
    text = to_markdown(runs, REAL)
    assert (
        "over dense detectors with a ResNet-50 and 12 epochs, 5 of them" in text
        and "Not trained here: " in text
        and "tood" in text
    )


def test_the_docs_show_the_reference():
    folder = REAL.root / "results" / "reference" / "mini"
    if not folder.exists():
        pytest.skip("no reference results in this copy")
    shown = (folder / "proxy.md").read_text(encoding="utf-8")
    assert shown == to_markdown(read_runs(folder / "runs.csv"), REAL) + "\n"  # `make reference`
