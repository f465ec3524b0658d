import numpy as np
import pytest
from synthetic_coco import load, make_dataset, make_detections, with_copies

from corrloss.analysis.correlation import Positives, rho_cls, rho_img
from corrloss.analysis.matching import match
from corrloss.analysis.replicates import METRICS, bootstrap_ap, resample
from corrloss.analysis.weighted_correlation import weighted_rho_cls, weighted_rho_img


def positives_of(truth, folder, seed=0, each=4):
    """Positives of every annotation, with scores that tie."""
    rng = np.random.default_rng(seed)
    chosen = np.repeat(np.flatnonzero(~truth.is_crowd), each)
    iou = rng.uniform(0.3, 1, len(chosen)).astype(np.float32)
    score = np.clip(iou + rng.normal(0, 0.3, len(iou)), 0, 1).round(1).astype(np.float32)
    ids = truth.image_id[chosen], truth.category_id[chosen], truth.annotation_id[chosen]
    return Positives(folder / "positives.npz", *ids, score, iou, 0.3)


def copied(positives, weights):
    """Positives of a data set in which each image is as often as its weight says, ids as in `with_copies`."""
    rows, image_ids = [], []
    for row, image in enumerate(positives.image_id.tolist()):
        rows += [row] * weights[image]
        image_ids += [100 * image + copy for copy in range(weights[image])]
    columns = (getattr(positives, name)[rows] for name in ("category_id", "annotation_id", "score", "iou"))
    return Positives(positives.path, np.array(image_ids), *columns, positives.min_iou)


@pytest.mark.parametrize("digits", [1, 8])
def test_weights_are_the_same_as_physical_copies_of_the_images(tmp_path, digits):
    dataset = make_dataset(0, images=25, crowd=0.15)
    entries = [e | {"score": round(e["score"], digits)} for e in make_detections(0, dataset, ties=True)]
    truth, found = load(tmp_path, dataset, entries)
    positives = positives_of(truth, tmp_path)
    weights = resample(25, 6, seed=0)
    by_class = weighted_rho_cls(match(truth, found), weights)
    by_image = weighted_rho_img(positives, truth, weights)
    for row, of_class, of_image in zip(weights, by_class, by_image, strict=True):
        by_id = dict(zip(truth.image_ids.tolist(), row.tolist(), strict=True))
        other, others = load(tmp_path, *with_copies(dataset, entries, by_id))
        assert of_class == pytest.approx(rho_cls(match(other, others), other).spearman, abs=1e-9)
        assert of_image == pytest.approx(rho_img(copied(positives, by_id), other).spearman, abs=1e-9)


def test_replicates_hold_the_figures_of_the_data_themselves(tmp_path):
    dataset = make_dataset(1, images=12)
    truth, found = load(tmp_path, dataset, make_detections(1, dataset))
    positives = positives_of(truth, tmp_path)
    run = bootstrap_ap(truth, found, n_replicates=3, positives=positives)
    estimate = dict(zip(METRICS, run.estimate.tolist(), strict=True))
    assert estimate["rho_cls"] == pytest.approx(rho_cls(match(truth, found), truth).spearman, abs=1e-9)
    assert estimate["rho_img"] == pytest.approx(rho_img(positives, truth).spearman, abs=1e-9)


def test_without_a_defined_coefficient_there_is_no_number(tmp_path):
    truth, found = load(tmp_path, make_dataset(0, images=8), [])
    weights = np.ones((2, 8), dtype=np.int32)
    assert np.isnan(weighted_rho_cls(match(truth, found), weights)).all()
    assert np.isnan(weighted_rho_img(positives_of(truth, tmp_path, each=1), truth, 0 * weights)).all()
