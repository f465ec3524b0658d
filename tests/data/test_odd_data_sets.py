"""Odd data sets: refused by name, or read by mmdet and evaluated with the right figures.

``pytest -v tests/data/test_odd_data_sets.py`` prints the table of all inputs that are tried, with outcome.
"""

import contextlib
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from bad_input.odd_data_sets import ACCEPTED, ODD, PARTS
from mmdet.datasets import CocoDataset
from mmdet.evaluation import CocoMetric
from mmengine.structures import InstanceData

from corrloss.analysis.ap import BACKENDS, average_precision
from corrloss.analysis.tide import tide_errors
from corrloss.coco import DataSetError, load_detections, load_ground_truth
from corrloss.data.dataset import check_dataset
from corrloss.data.mini_coco import make_mini_coco

CLASSES = ("circle", "square", "triangle", "star")
SETTINGS = {
    "classes": CLASSES,
    "train": {"ann_file": f"annotations/{PARTS['train']}", "img": "train/"},
    "test": {"ann_file": f"annotations/{PARTS['val']}", "img": "val/"},
}


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    folder = tmp_path_factory.mktemp("odd") / "set"
    make_mini_coco(folder, train_images=6, val_images=4, seed=2)
    return folder


@pytest.mark.parametrize("name", ODD, ids=[f"{name} -> {outcome}" for name, (_, outcome) in ODD.items()])
def test_it_is_refused_by_name_or_gives_the_right_figures(good, tmp_path, name):
    change, outcome = ODD[name]
    root = Path(shutil.copytree(good, tmp_path / "set"))
    change(root)
    needs = {"masks": outcome.masks, "min_size": outcome.min_size}
    if outcome.kind != ACCEPTED:
        with pytest.raises(DataSetError, match=f"ERROR {outcome.kind}") as error:
            check_dataset(root, SETTINGS, **needs)
        assert [text for text in outcome.shown if text not in str(error.value)] == []
        assert "instances_" in str(error.value)
        return
    reports = check_dataset(root, SETTINGS, **needs)
    found = {kind for report in reports.values() for kind in report["warnings"]}
    assert found - outcome.warnings <= {"image_not_trained_on"} and found >= outcome.warnings
    reads_the_training_images(root, reports["train"], outcome)
    measures_right(root, tmp_path, outcome)


def dataset(root, part, masks, **options):
    """The images of a part, as the plan has mmdet read them."""
    steps = [
        {"type": "mmdet.LoadImageFromFile"},
        {"type": "mmdet.LoadAnnotations", "with_bbox": True, "with_mask": masks},
        {"type": "mmdet.PackDetInputs", "meta_keys": ("img_id", "ori_shape")},
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        return CocoDataset(
            data_root=f"{root}/",
            metainfo={"classes": CLASSES},
            pipeline=steps,
            **{"ann_file": SETTINGS[part]["ann_file"], "data_prefix": {"img": SETTINGS[part]["img"]}},
            **options,
        )


def reads_the_training_images(root, report, outcome):
    """mmdet trains on as many images as the check counts, and takes every object for one of its class."""
    filters = {"filter_empty_gt": True, "min_size": outcome.min_size}
    data = dataset(root, "train", outcome.masks, filter_cfg=filters)
    assert len(data) == report["counts"]["images"] - report["warnings"].get("image_not_trained_on", 0)
    document = json.loads((root / SETTINGS["train"]["ann_file"]).read_text())
    names = {category["id"]: category["name"] for category in document["categories"]}
    for k in range(len(data)):
        sample = data[k]
        image = data.get_data_info(k)["img_id"]
        assert sample["inputs"].shape[1:] == sample["data_samples"].ori_shape
        objects = [a for a in document["annotations"] if a["image_id"] == image and not a.get("ignore")]
        read = [CLASSES[label] for label in sample["data_samples"].gt_instances.labels]
        expected = [names[a["category_id"]] for a in objects if not a["iscrowd"]]
        assert sorted(read) == sorted(expected)


def measures_right(root, folder, outcome):
    """Detections that are the objects: AP 100 by both tools, on boxes and masks, no error by TIDE."""
    data = dataset(root, "test", outcome.masks, test_mode=True)
    kinds = ["bbox", "segm"] if outcome.masks else ["bbox"]
    ann_file, prefix = str(root / SETTINGS["test"]["ann_file"]), str(folder / "detections")
    metric = CocoMetric(ann_file=ann_file, metric=kinds, format_only=True, outfile_prefix=prefix)
    metric.dataset_meta = data.metainfo
    for k in range(len(data)):
        sample = data[k]["data_samples"]
        objects = sample.gt_instances
        found = InstanceData(bboxes=objects.bboxes.tensor, labels=objects.labels)
        found.scores = found.bboxes.new_ones(len(found.bboxes))
        if outcome.masks:
            found.masks = objects.masks.to_tensor(bool, "cpu")
        metric.process({}, [{**sample.metainfo, "pred_instances": found.to_dict()}])
    with contextlib.redirect_stdout(io.StringIO()):
        metric.compute_metrics(metric.results)
    truth = load_ground_truth(root / SETTINGS["test"]["ann_file"])
    for kind in kinds:
        detections = load_detections(folder / f"detections.{kind}.json", truth, kind)
        for backend in BACKENDS:
            assert average_precision(truth, detections, kind, backend)["AP"] == pytest.approx(100)
        assert np.allclose(list(tide_errors(truth, detections).values()), 0)
