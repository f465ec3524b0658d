"""Every detector of scales paper and small at full width, random weights: tiny images through data and model.

The slow cases also hold experiments/reference/seconds.csv to the models that it speaks of.
"""

import json
import os
from contextlib import contextmanager, nullcontext
from itertools import product
from pathlib import Path

import cv2
import mmdet.models  # noqa: F401 -- registers mmdet's own detectors
import numpy as np
import pytest
import torch
from mmcv.ops import DeformConv2d, ModulatedDeformConv2d
from mmdet.registry import DATASETS, MODELS
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.config import Config
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData
from torch.utils.flop_counter import FlopCounterMode

import corrloss.heads  # noqa: F401 -- registers the heads with the loss
from corrloss.engine.accumulation import lift_operators
from corrloss.plan.configs import resolve
from corrloss.plan.experiments import Experiments
from corrloss.plan.table_files import load_table
from corrloss.tables.cost import load_seconds

ROOT = Path(__file__).parents[2]
EXPERIMENTS = Experiments(ROOT)
# What `make test` does; `make test-slow` does all.
LIGHT_MODELS = {("coco", "retinanet"), ("coco_small", "sparse_rcnn")}
LIGHT_DATA = LIGHT_MODELS | {
    ("coco", "sparse_rcnn"), ("coco", "yolact"), ("coco", "sparse_rcnn_x101_dcn"),
    ("cityscapes", "sparse_rcnn"), ("coco_small", "yolact"), ("coco_small", "sparse_rcnn_r50_3x"),
}  # fmt: skip
SECONDS = load_seconds(ROOT / "experiments" / "reference" / "seconds.csv")


def runs_of_scales():
    """Of every detector on every data set one run, with the loss where there is one."""
    runs = {}
    for scale, name in product(("paper", "small"), EXPERIMENTS.tables):
        for run in load_table(EXPERIMENTS, name, scale).runs:
            if not runs.setdefault((run.dataset, run.detector), run).has_loss:
                runs[run.dataset, run.detector] = run
    return runs


RUNS = runs_of_scales()


def cases(light):
    return [
        pytest.param(pair, id="-".join(pair), marks=[] if pair in light else pytest.mark.slow)
        for pair in sorted(RUNS)
    ]


@pytest.fixture(autouse=True)
def mmdet_scope():
    MessageHub.get_current_instance().update_info("epoch", 0)  # a runner's, which TOOD asks for
    MMLogger.get_current_instance().setLevel("WARNING")  # else a line for each initialised tensor
    with DefaultScope.overwrite_default_scope("mmdet"):
        yield


@pytest.fixture(scope="session")
def resolved(tmp_path_factory):
    """The config of a case's run; what was loaded once is loaded for all tests of all workers."""
    base = tmp_path_factory.getbasetemp()
    cache = (base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base) / "configs" / ".cache"
    return lambda pair: Config(resolve(EXPERIMENTS, RUNS[pair], Path("data"), cache))


# Data ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """One image of 64 x 48 pixels with a person and a car, as polygons."""
    folder = tmp_path_factory.mktemp("tiny")
    pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    cv2.imwrite(str(folder / "1.jpg"), pixels)

    def annotation(number, category, x, y, width, height):
        corners = [x, y, x + width, y, x + width, y + height, x, y + height]
        shape = {"segmentation": [corners], "bbox": [x, y, width, height], "area": width * height}
        return {"id": number, "image_id": 1, "category_id": category, "iscrowd": 0, **shape}

    document = {
        "images": [{"id": 1, "file_name": "1.jpg", "width": 64, "height": 48}],
        "annotations": [annotation(1, 1, 4, 6, 30, 36), annotation(2, 3, 30, 10, 28, 30)],
        "categories": [{"id": 1, "name": "person"}, {"id": 3, "name": "car"}],
    }
    (folder / "instances.json").write_text(json.dumps(document))
    return folder


def tiny_dataset(config, folder):
    settings = config.dataset
    while "dataset" in settings:  # one that wraps another
        settings = settings.dataset
    settings.update(data_root=f"{folder}/", ann_file="instances.json", data_prefix=dict(img=""))
    return DATASETS.build(config.dataset)


@pytest.mark.parametrize("pair", cases(LIGHT_DATA))
def test_the_data_pipeline_turns_a_file_into_what_the_model_takes(pair, tiny, resolved):
    config = resolved(pair)
    item = tiny_dataset(config.train_dataloader, tiny)[0]
    assert item["inputs"].dtype in (torch.uint8, torch.float32)  # the latter where colours are distorted
    assert item["inputs"].shape[0] == 3
    truth = item["data_samples"].gt_instances
    assert 0 < len(truth.bboxes) <= 2
    assert hasattr(truth, "masks") == config.bench.masks
    height, width = item["data_samples"].img_shape
    assert item["inputs"].shape[1:] == (height, width)
    tested = tiny_dataset(config.test_dataloader, tiny)[0]
    assert {"img_id", "ori_shape", "scale_factor"} <= set(tested["data_samples"].metainfo_keys())
    assert min(tested["inputs"].shape[1:]) > 48


# Models --------------------------------------------------------------------------------------------


@pytest.fixture
def build(resolved):
    """The model of a case's run, its backbone from random numbers."""

    def build(pair):
        config = resolved(pair).model
        config.backbone.init_cfg = None
        torch.manual_seed(0)
        model = MODELS.build(config)
        model.init_weights()
        return model

    return build


@pytest.fixture
def precision(resolved):
    """The context of a case's forward pass; on a GPU mmcv's operators meet what they meet here."""

    def context(pair):
        if resolved(pair).bench.get("precision") != "bf16":
            return nullcontext()
        lift_operators()
        return torch.autocast("cpu", dtype=torch.bfloat16)

    return context


def batch_of_one(size):
    """Noise for pixels, and two objects whose masks are their boxes."""
    boxes = torch.tensor([[0.1, 0.15, 0.55, 0.85], [0.4, 0.2, 0.95, 0.9]]) * size
    masks = np.zeros((2, size, size), np.uint8)
    for mask, (left, top, right, bottom) in zip(masks, boxes.int().tolist(), strict=True):
        mask[top:bottom, left:right] = 1
    truth = InstanceData(bboxes=boxes, labels=torch.tensor([0, 2]), masks=BitmapMasks(masks, size, size))
    shape = dict(img_shape=(size, size), ori_shape=(size, size), scale_factor=(1.0, 1.0), img_id=1)
    shape |= dict(batch_input_shape=(size, size), pad_shape=(size, size))
    sample = DetDataSample(gt_instances=truth, metainfo=shape)
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (3, size, size), dtype=torch.uint8, generator=generator)
    return {"inputs": [pixels], "data_samples": [sample]}


def gflops(model, size):
    """10⁹ floating-point operations of one square image forward; multiplying and adding are two."""
    data = model.data_preprocessor(batch_of_one(size), training=False)
    model.eval().requires_grad_(False)  # the counter trips over parameters that are inputs
    with torch.no_grad(), FlopCounterMode(display=False) as counter, deformable(model) as uncounted:
        model(**data, mode="predict")
    return (counter.get_total_flops() + sum(uncounted)) / 1e9


@contextmanager
def deformable(model):
    """Operations of deformable convolutions, which are mmcv's own and no convolutions to torch's counter."""
    counts = []

    def count(module, inputs, output):
        counts.append(2 * output.numel() * module.weight[0].numel())

    layers = [layer for layer in model.modules() if isinstance(layer, DeformConv2d | ModulatedDeformConv2d)]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    yield counts
    for hook in hooks:
        hook.remove()


def gflops_at(model, megapixels):
    """The same at the size of a recipe: convolutions grow with the pixels, heads of proposals do not."""
    small, large = (gflops(model, size) for size in (128, 256))
    per_pixel = (large - small) / (256**2 - 128**2)
    return small + per_pixel * (megapixels * 1e6 - 128**2)


@pytest.mark.parametrize("pair", cases(LIGHT_MODELS))
def test_a_tiny_image_goes_through_forward_loss_and_backward(pair, build, precision):
    model = build(pair)
    model.train()
    with precision(pair):
        losses = model(**model.data_preprocessor(batch_of_one(128), training=True), mode="loss")
    total, named = model.parse_losses(losses)
    assert all(torch.isfinite(value) for value in named.values()), named
    assert any("loss_corr" in name for name in named) == RUNS[pair].has_loss
    total.backward()
    trained = {name: p.grad for name, p in model.named_parameters() if p.requires_grad}
    assert [name for name, grad in trained.items() if grad is not None and not grad.isfinite().all()] == []
    reached = [name for name, grad in trained.items() if grad is not None and grad.abs().sum() > 0]
    assert any("backbone.layer4" in name for name in reached)
    deformable = [name for name in trained if "conv_offset" in name and "backbone" in name]
    assert bool(deformable) == ("dcn" in pair[1])


def test_the_anchors_of_a_small_yolact_are_as_many_as_its_features(build):
    model = build(("coco_small", "yolact"))
    with torch.no_grad():
        features = [tuple(level.shape[2:]) for level in model.extract_feat(torch.zeros(1, 3, 275, 275))]
    generator = model.bbox_head.prior_generator
    assert features == [(round(275 / stride),) * 2 for stride, _ in generator.strides]
    last = [level[-1] for level in generator.grid_priors(features, device="cpu")]  # of the last cell
    assert all((corner[:2] + corner[2:]).max() / 2 < 275 for corner in last)


@pytest.mark.slow
@pytest.mark.parametrize("pair", [case for case in cases(set()) if case.values[0][::-1] in SECONDS.index])
def test_the_table_of_seconds_speaks_of_these_models(pair, build):
    row, model = SECONDS.loc[pair[::-1]], build(pair)
    parameters = sum(p.numel() for p in model.parameters()) / 1e6
    assert row["parameters_millions"] == pytest.approx(parameters, abs=0.051)
    assert row["gflops"] == pytest.approx(gflops_at(model, row["megapixels"]), rel=0.02)
