from dataclasses import replace

import numpy as np
import pytest
from synthetic_coco import load, make_dataset, make_detections

from corrloss.analysis.ap import average_precision
from corrloss.analysis.calibration import calibrated, match_for_calibration
from corrloss.analysis.differences import paired_difference
from corrloss.analysis.replicates import (
    METRICS,
    Replicates,
    ReplicatesError,
    bootstrap_ap,
    count_holding,
    hash_images,
    of_control,
)


def test_a_size_without_annotations_is_nan(tmp_path):
    dataset = make_dataset(0)
    dataset["annotations"] = [a for a in dataset["annotations"] if a["area"] > 32**2]
    run = bootstrap_ap(*load(tmp_path, dataset, make_detections(1, dataset)), n_replicates=5)
    assert np.isnan(run.estimate[3])
    assert np.isnan(run.values[:, 3]).all()
    unknown = [METRICS.index(name) for name in ("AP_S", "rho_img", "isotonic_AP")]
    assert np.isnan(run.values[:, unknown]).all()  # neither positives nor other scores were given
    assert np.isfinite(np.delete(run.values, unknown, axis=1)).all()
    interval = paired_difference([run], [run])["AP_S"]
    assert np.isnan([interval.delta, interval.ci_low, interval.p_value, interval.se_images]).all()


def test_a_run_that_detects_nothing_has_zeros(tmp_path):
    run = bootstrap_ap(*load(tmp_path, make_dataset(0), []), n_replicates=5)
    for figures in (*run.values, run.estimate):
        np.testing.assert_array_equal(figures, [0] * 6 + [100, np.nan, np.nan, np.nan])


def test_ap_after_isotonic_regression_is_resampled_like_ap(tmp_path):
    dataset = make_dataset(0, images=20)
    truth, found = load(tmp_path, dataset, make_detections(1, dataset))
    mended = calibrated(truth, found, match_for_calibration(truth, found))
    run = bootstrap_ap(truth, found, n_replicates=20, mended=mended)
    alone = bootstrap_ap(truth, mended, n_replicates=20)
    control, ap = of_control(run), METRICS.index("AP")
    np.testing.assert_allclose(control.values[:, ap], alone.values[:, ap], atol=1e-9)
    assert control.estimate[ap] == pytest.approx(average_precision(truth, mended)["AP"])
    assert np.isnan(np.delete(control.values, ap, axis=1)).all()
    gain = paired_difference([run], [control])["AP"]
    assert gain.ci_low < gain.delta < gain.ci_high and gain.delta == control.estimate[ap] - run.estimate[ap]


def test_replicates_survive_the_file_and_a_broken_file_is_named(tmp_path):
    truth, found = load(tmp_path, make_dataset(0, images=8), make_detections(1, make_dataset(0, images=8)))
    run = bootstrap_ap(truth, found, n_replicates=5, seed=3)
    run.save(tmp_path / "bootstrap.npz")
    again = Replicates.load(tmp_path / "bootstrap.npz")
    np.testing.assert_array_equal(again.values, run.values)
    assert (again.n_images, again.seed, again.images) == (8, 3, hash_images(truth))
    assert again.n_holding.tolist() == run.n_holding.tolist()
    replace(run, values=run.values[:, :6]).save(tmp_path / "bootstrap.npz")  # of an older version
    with pytest.raises(ReplicatesError, match=r"10 figures a resample.*Evaluate the run again"):
        Replicates.load(tmp_path / "bootstrap.npz")
    (tmp_path / "bootstrap.npz").write_bytes(b"PK\x03\x04")
    with pytest.raises(ReplicatesError, match=r"bootstrap\.npz: expected bootstrap replicates"):
        Replicates.load(tmp_path / "bootstrap.npz")


def test_the_hash_is_of_images_and_annotations_in_any_order(tmp_path):
    dataset = make_dataset(0, images=8)
    truth, _ = load(tmp_path, dataset, [])
    turned = dataset | {"annotations": dataset["annotations"][::-1], "images": dataset["images"][::-1]}
    assert hash_images(load(tmp_path, turned, [])[0]) == hash_images(truth)
    dataset["annotations"][0]["area"] += 1
    assert hash_images(load(tmp_path, dataset, [])[0]) != hash_images(truth)


def test_images_that_hold_annotations_of_each_size_are_counted(tmp_path):
    dataset = make_dataset(0, crowd=0.3)
    truth, _ = load(tmp_path, dataset, [])
    counted = [a for a in dataset["annotations"] if not a["iscrowd"]]
    limits = [(0, 1e10)] * 3 + [(0, 32**2), (32**2, 96**2), (96**2, 1e10)] + [(0, 1e10)] * 4
    expected = [len({a["image_id"] for a in counted if low <= a["area"] <= high}) for low, high in limits]
    assert count_holding(truth).tolist() == expected and len(set(expected)) > 2
