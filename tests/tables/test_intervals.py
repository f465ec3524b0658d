"""From the replicates that runs keep to the columns of a table, several seeds."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from corrloss.analysis.replicates import METRICS, Replicates
from corrloss.plan.runs import Run
from corrloss.plan.table_files import Table
from corrloss.tables.build import build_table
from corrloss.tables.intervals import stored_intervals
from corrloss.tables.records import runs_frame
from corrloss.tables.reference import COLUMNS

N_IMAGES = 300
BASE, LOSS = ([Run("mini", "mini_coco", "atss", *loss, seed) for seed in range(3)]
              for loss in (("none", 0.0), ("spearman", 0.2)))  # fmt: skip
#: AP of three seeds; gains of 1, 2 and 4.5.
AP = dict(zip([*BASE, *LOSS], (40.0, 41.0, 40.5, 41.0, 43.0, 45.0), strict=True))


@pytest.fixture
def results(tmp_path):
    """Replicates of every run: what the images do to all runs alike, and what they do to each."""
    rng = np.random.default_rng(0)
    shared = rng.normal(0, 1, 1000)
    for run, ap in AP.items():
        values = (ap + shared + rng.normal(0, 0.4, 1000))[:, None].repeat(len(METRICS), axis=1)
        run.folder(tmp_path).path.mkdir(parents=True)
        holding = np.full(len(METRICS), N_IMAGES)
        Replicates(np.full(len(METRICS), ap), values, N_IMAGES, 0, "a", holding, "0" * 12).save(
            run.folder(tmp_path).replicates()
        )
    return tmp_path


def tabulate(results, runs, failed=(), metrics=("AP",)):
    plan = Table("seeds", "Seeds", "coco", metrics, metrics[-1:], False, tuple(runs), {})
    records = [
        (run, {"metrics": dict.fromkeys(metrics, AP[run]), "train_seconds": 1.0, "identity": "0" * 12})
        if run not in failed
        else (run, {"metrics": {"AP": None}, "train_seconds": 1.0, "identity": "0" * 12, "failed": "nan"})
        for run in runs
    ]
    runs = runs_frame(records)
    reference = pd.DataFrame(columns=list(COLUMNS))
    return build_table(plan, runs, reference, stored_intervals(results, runs)).iloc[1]


def replicates(run, results):
    return Replicates.load(run.folder(results).replicates()).values[:, 0]


def test_errors_of_images_and_seeds_stand_apart_and_combined(results):
    row = tabulate(results, [*BASE, *LOSS])
    gains = np.array([1.0, 2.0, 4.5])
    baseline, other = (np.mean([replicates(run, results) for run in runs], axis=0) for runs in (BASE, LOSS))
    assert row["delta_AP"] == pytest.approx(gains.mean())
    each = np.array(
        [replicates(b, results) - replicates(a, results) for a, b in zip(BASE, LOSS, strict=True)]
    )
    interaction = (each - each.mean(axis=1, keepdims=True)).var(axis=0, ddof=1).mean()
    shared = (other - baseline).var(ddof=1) - interaction / 3
    assert row["se_images"] == pytest.approx(np.sqrt(max(0, shared)))
    assert row["se_seeds"] == pytest.approx(stats.sem(gains))
    assert (row["n_images"], row["n_seeds"]) == (N_IMAGES, 3)
    half = (row["ci_high"] - row["ci_low"]) / 2
    error = np.hypot(row["se_images"], row["se_seeds"])
    assert stats.norm.ppf(0.975) * error < half <= stats.t.ppf(0.975, 2) * error
    # What moves both runs of a pair cancels: alone, a run's AP is uncertain by more than twice as much.
    assert replicates(LOSS[0], results).std() > 2 * (other - baseline).std()


def test_one_seed_knows_nothing_of_the_others(results):
    row = tabulate(results, [BASE[0], LOSS[0]])
    assert np.isnan(row["se_seeds"]) and row["n_seeds"] == 1
    half = (row["ci_high"] - row["ci_low"]) / 2
    assert half == pytest.approx(stats.t.ppf(0.975, N_IMAGES - 1) * row["se_images"])


def test_a_seed_that_failed_is_left_out_of_both_errors(results):
    n = len(METRICS)
    unknown = np.full(n, np.nan), np.full((1000, n), np.nan)
    Replicates(*unknown, N_IMAGES, 0, "a", np.full(n, N_IMAGES), "0" * 12).save(
        LOSS[2].folder(results).replicates()
    )
    row = tabulate(results, [*BASE, *LOSS], failed=[LOSS[2]])
    assert row["delta_AP"] == pytest.approx(1.5)
    assert row["se_seeds"] == pytest.approx(stats.sem([1.0, 2.0])) and np.isfinite(row["ci_low"])


def test_a_run_without_replicates_has_a_delta_and_no_interval(results):
    LOSS[1].folder(results).replicates().unlink()
    row = tabulate(results, [*BASE, *LOSS])
    assert row["delta_AP"] == pytest.approx(2.5)
    assert row[["ci_low", "ci_high", "se_images", "se_seeds", "p_value"]].isna().all()


def test_the_other_metrics_with_replicates_have_an_interval_too(results):
    row = tabulate(results, [*BASE, *LOSS], metrics=("rho_img", "oLRP", "AP"))
    for name in ("rho_img", "oLRP"):  # the replicates of all metrics are the same here
        columns = [f"delta_{name}", f"ci_low_{name}", f"ci_high_{name}"]
        assert row[columns].tolist() == row[["delta_AP", "ci_low", "ci_high"]].tolist()


def test_the_gain_of_boxes_has_an_interval_beside_that_of_masks(results):
    for run in AP:
        run.folder(results).replicates("segm").write_bytes(run.folder(results).replicates().read_bytes())
    row = tabulate(results, [*BASE, *LOSS], metrics=("AP", "mask_AP"))
    assert row[["ci_low_AP", "ci_high_AP"]].tolist() == row[["ci_low", "ci_high"]].tolist()
    assert list(row.index).count("delta_AP") == 1


def test_runs_of_several_detectors_are_pooled_and_a_baseline_is_compared_with_its_control(results):
    more, rng = {}, np.random.default_rng(1)
    for detector, gain in (("paa", 0.5), ("gfl", 1.5)):
        for loss in (("none", 0.0), ("spearman", 0.2)):
            run = Run("mini", "mini_coco", detector, *loss, 0)
            more[run] = 30.0 + gain * bool(loss[1])
            values = (more[run] + rng.normal(0, 0.4, 1000))[:, None].repeat(len(METRICS), axis=1)
            values[:, METRICS.index("isotonic_AP")] -= 2
            estimate, holding = np.full(len(METRICS), more[run]), np.full(len(METRICS), N_IMAGES)
            estimate[METRICS.index("isotonic_AP")] -= 2
            run.folder(results).path.mkdir(parents=True)
            stored = Replicates(estimate, values, N_IMAGES, 0, "a", holding, "0" * 12)
            stored.save(run.folder(results).replicates())
    records = [
        (run, {"metrics": {"AP": ap}, "train_seconds": 1.0, "identity": "0" * 12})
        for run, ap in (AP | more).items()
    ]
    interval = stored_intervals(results, runs_frame(records))
    gains = [2.5, 0.5, 1.5]  # of atss the mean over its seeds
    mean = interval([*LOSS, *(run for run in more if run.has_loss)], "AP")
    assert (mean.delta, mean.n_detectors, mean.n_rose) == (pytest.approx(1.5), 3, 3)
    assert mean.se_detectors == pytest.approx(stats.sem(gains))
    control = interval([next(iter(more))], "AP")
    assert control.delta == -2 and control.ci_low == pytest.approx(-2) and control.n_seeds == 1
