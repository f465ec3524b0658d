import json
import math
import subprocess
import sys

import numpy as np
import pytest
from synthetic_coco import make_dataset, make_detections, with_masks, write

from corrloss.analysis.ap import METRICS, average_precision
from corrloss.analysis.correlation import SWEEP
from corrloss.analysis.metrics import metric_names, run_metrics
from corrloss.analysis.stored_run import load_run
from corrloss.coco import DetectionsError, load_detections, load_ground_truth
from corrloss.run import RunFolder


def measured(folder, *arguments, **options):
    return run_metrics(load_run(RunFolder(folder), folder / "annotations.json"), *arguments, **options)


@pytest.fixture
def run(tmp_path):
    """A run's folder with all that the predict stage can leave."""
    dataset = make_dataset(0, masks=True)
    write(tmp_path / "annotations.json", dataset)
    entries = make_detections(1, dataset)
    write(tmp_path / "detections.bbox.json", entries)
    write(tmp_path / "detections.segm.json", with_masks(entries, dataset))
    write(tmp_path / "detections_best.bbox.json", make_detections(1, dataset, correlation=0.9))
    write(tmp_path / "detections_worst.bbox.json", make_detections(1, dataset, correlation=0.1))
    objects = [a for a in dataset["annotations"] if not a["iscrowd"]] * 3
    rng = np.random.default_rng(0)
    np.savez(
        tmp_path / "positives.npz",
        image_id=np.array([a["image_id"] for a in objects]),
        category_id=np.array([a["category_id"] for a in objects]),
        annotation_id=np.array([a["id"] for a in objects]),
        score=rng.random(len(objects), dtype=np.float32),
        iou=rng.uniform(0.3, 1, len(objects)).astype(np.float32),
        min_iou=0.3,
    )
    return tmp_path


def test_a_whole_run_has_every_figure(run):
    metrics = measured(run)
    groups = ("AP", "mask_AP", "oLRP", "oLRP_Loc", "tide_Cls", "rho_img", "rho_cls", "rho_img_kendall",
              "rho_cls_left_out", "rho_img_top10", "rho_img_top10_positives",
              "rho_cls_positives", "bound_img_best_AP", "bound_cls_worst_AP",
              "bound_cls_failures", "bound_img_failures", "iou_scores_AP")  # fmt: skip
    assert set(groups) <= metrics.keys()
    assert metrics["bound_cls_worst_AP"] < metrics["AP"] < metrics["bound_cls_best_AP"]
    assert metrics["rho_img_used"] + metrics["rho_img_left_out"] <= 40
    truth = load_ground_truth(run / "annotations.json")
    masks = load_detections(run / "detections.segm.json", truth, "segm")
    reference = average_precision(truth, masks, "segm", "pycocotools")
    assert [metrics[f"mask_{m}"] for m in METRICS] == pytest.approx(list(reference.values()))


def test_the_names_of_all_figures_are_known_without_a_run(run):
    assert set(measured(run)) == set(metric_names(masks=True))
    (run / "detections.segm.json").unlink()
    names = metric_names(masks=False)
    assert set(measured(run)) == set(names) and len(set(names)) == len(names)


def test_every_run_is_measured_at_several_thresholds(run):
    metrics = measured(run)
    for name in ("rho_img", "rho_cls"):
        assert metrics[f"{name}_at_0.5"] == metrics[name]
        assert metrics[f"{name}_left_out_at_0.5"] == metrics[f"{name}_left_out"]
        left_out = [metrics[f"{name}_left_out_at_{threshold}"] for threshold in SWEEP]
        assert left_out == sorted(left_out)
        other = measured(run, threshold=0.7)
        assert metrics[f"{name}_at_0.7"] == other[name] and metrics[name] != other[name]


def test_below_the_iou_from_which_positives_are_stored_rho_is_unknown(run):
    whole = measured(run)
    with np.load(run / "positives.npz") as file:
        arrays = dict(file)
    kept = arrays["iou"] >= 0.45
    names = ("image_id", "category_id", "annotation_id", "score", "iou")
    np.savez(run / "positives.npz", **{name: arrays[name][kept] for name in names}, min_iou=0.45)
    metrics = measured(run)
    assert metrics["rho_img_at_0.4"] is None and metrics["rho_img_left_out_at_0.3"] is None
    assert metrics["rho_img_at_0.6"] == whole["rho_img_at_0.6"]


def test_both_backends_give_the_same_run(run):
    fast = measured(run, "hotcoco")
    assert measured(run, "pycocotools") == pytest.approx(fast)


def test_what_a_run_lacks_is_absent_and_not_invented(run):
    whole = measured(run)
    for name in ("detections.segm.json", "detections_best.bbox.json", "detections_worst.bbox.json"):
        (run / name).unlink()
    (run / "positives.npz").unlink()
    metrics = measured(run)
    assert not [m for m in metrics if m.startswith(("mask_", "rho_img", "bound_img"))]
    assert metrics == {name: value for name, value in whole.items() if name in metrics}


def test_undefined_values_are_none_so_that_the_record_is_json(run):
    dataset = json.loads((run / "annotations.json").read_text())
    dataset["annotations"] = [a for a in dataset["annotations"] if a["area"] > 32**2]
    (run / "positives.npz").unlink()
    write(run / "annotations.json", dataset)
    metrics = measured(run)
    assert metrics["AP_S"] is None
    assert metrics["AP_L"] > 0
    assert all(value is None or math.isfinite(value) for value in metrics.values())
    json.dumps(metrics, allow_nan=False)


def test_a_run_that_detects_nothing_has_an_ap_of_zero(run):
    write(run / "detections.bbox.json", [])
    metrics = measured(run)
    assert metrics["AP"] == metrics["bound_cls_best_AP"] == 0
    assert metrics["oLRP"] == 100
    assert metrics["rho_cls"] is None


def test_a_run_without_detections_is_refused(run):
    (run / "detections.bbox.json").unlink()
    with pytest.raises(DetectionsError, match=r"detections\.bbox\.json: cannot read"):
        measured(run)


def test_the_analysis_floor_imports_neither_torch_nor_mmdet_nor_plots():
    code = (
        "import builtins, sys, corrloss; wanted = set(); original = builtins.__import__\n"
        "def spy(name, *rest): wanted.add(name.split('.')[0]); return original(name, *rest)\n"
        "builtins.__import__ = spy\n"
        "import corrloss.analysis.metrics\n"
        "print(sorted(wanted & {'torch', 'mmdet', 'mmcv', 'mmengine', 'pandas', 'matplotlib', 'snakemake'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
