"""Runs against a reference: identical, within what seeds differ by, outside."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm, t
from typer.testing import CliRunner

from corrloss.cli import app
from corrloss.tables.comparison import ALONE, IDENTICAL, OUTSIDE, SPREAD, WITHIN, compare

FIGURES = 2  # of a run below: AP and rho_img


def limit(runs, freedom=np.inf):
    """Largest difference that is within, in standard deviations."""
    tail = 0.01 / (runs * FIGURES) / 2
    return (-norm.ppf(tail) if freedom == np.inf else -t.ppf(tail, freedom)) * np.sqrt(2)


def frame(ap, seeds=(0,), environment="torch=2.13.0", **more):
    rows = [
        {
            "run": f"mini_coco/{detector}/none/seed{seed}", "scale": "mini", "dataset": "mini_coco",
            "detector": detector, "coefficient": "none", "weight": 0.0, "seed": seed, "AP": value,
            "AP50": 50.0, "rho_img": 40.0, "train_seconds": 30.0, "identity": "0123456789ab",
            "status": "ok", "environment": environment, **more,
        }
        for detector in ("atss", "paa", "gfl")
        for seed, value in zip(seeds, np.atleast_1d(ap), strict=True)
    ]  # fmt: skip
    return pd.DataFrame(rows)


@pytest.mark.parametrize(
    ("ap", "more", "result"),
    [
        (30.0, {}, IDENTICAL),
        (30.0, {"train_seconds": 99.0, "identity": "another"}, IDENTICAL),
        (30.0, {"AP50": 50.1}, WITHIN),
        (30.0 + 0.99 * limit(3) * SPREAD, {}, WITHIN),
        (30.0 - 1.01 * limit(3) * SPREAD, {}, OUTSIDE),
        (30.0, {"rho_img": 50.0}, OUTSIDE),
    ],
)
def test_the_result_of_one_seed(ap, more, result):
    assert set(compare(frame(ap, **more), frame(30.0))["result"]) == {result}


def test_the_spread_of_several_seeds_is_that_of_the_reference():
    values = [29.7, 30.0, 30.3]  # standard deviation 0.3
    reference = frame(values, seeds=(0, 1, 2))
    largest = limit(9, freedom=6) * 0.3  # three variants of two degrees each
    shifted = compare(frame([29.7, 30.0, 30.3 + 1.01 * largest], seeds=(0, 1, 2)), reference)
    assert list(shifted["result"]) == [IDENTICAL, IDENTICAL, OUTSIDE] * 3
    assert shifted["limit"].max() == pytest.approx(largest)


def test_the_spread_of_a_detector_with_several_variants_is_its_own():
    """Three variants of atss, one of them by its option alone, spread by 0.1; two other detectors by 3."""
    calm = frame([29.9, 30.0, 30.1], seeds=(0, 1, 2))
    calm = calm[calm["detector"] == "atss"]
    late = calm.assign(coefficient="pearson", weight=0.2, onset="ramp", AP=calm["AP"] + 5)
    variants = [calm, calm.assign(coefficient="pearson", weight=0.2), late]
    wild = frame([27.0, 30.0, 33.0], seeds=(0, 1, 2))
    reference = pd.concat([*variants, wild[wild["detector"] != "atss"]], ignore_index=True)
    reference["run"] = [f"{run} {number}" for number, run in enumerate(reference["run"])]
    moved = reference.assign(AP=reference["AP"] + 1)
    limits = compare(moved, reference).groupby(reference["detector"])["limit"].first()
    assert limits["atss"] == pytest.approx(limit(len(moved), freedom=6) * 0.1)
    spread = np.sqrt((3 * 0.1**2 + 2 * 3**2) / 5)
    assert limits["paa"] == pytest.approx(limit(len(moved), freedom=10) * spread)


def test_a_run_that_the_reference_lacks_and_another_environment_are_named():
    runs = pd.concat([frame(30.5, environment="torch=2.14.0"), frame(1.0, seeds=(7,))])
    compared = compare(runs, frame(30.0)).set_index("run")
    assert compared.loc["mini_coco/paa/none/seed7", "result"] == ALONE
    assert "here torch=2.14.0; reference torch=2.13.0" in compared["environment"].iloc[0]


@pytest.mark.parametrize(("ap", "status"), [(30.0, 0), (31.0, 0), (40.0, 1)])
def test_the_command_says_so(tmp_path, ap, status):
    for name, value in (("mini", ap), ("reference", 30.0)):
        (tmp_path / name).mkdir()
        frame(value).to_csv(tmp_path / name / "runs.csv", index=False)
    done = CliRunner().invoke(app, ["compare", str(tmp_path / "mini"), str(tmp_path / "reference")])
    assert done.exit_code == status and "3 runs against" in done.output, done.output
    nothing = CliRunner().invoke(app, ["compare", str(tmp_path / "mini"), str(tmp_path / "nowhere")])
    assert nothing.exit_code == 0 and "no reference results" in nothing.output
