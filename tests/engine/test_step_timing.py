"""Timed steps: that they are taken in turns, and that what counts as the loss's own is the loss's own."""

import time
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from corrloss.data.mini_coco import make_mini_coco
from corrloss.engine import step_timing
from corrloss.plan.configs import resolve
from corrloss.plan.experiments import Experiments
from corrloss.plan.runs import Run

ROOT = Path(__file__).parents[2]
DETECTORS = ["retinanet", "atss_no_aux", "sparse_rcnn", "faster_rcnn", "detr"]  # one of each kind of head


@pytest.fixture(scope="module")
def data_root(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    make_mini_coco(root / "smoke_coco", train_images=8, val_images=2, seed=1)
    return root


def config_of(data_root, detector, coefficient):
    run = Run("smoke", "smoke_coco", detector, coefficient, 0.2 if coefficient != "none" else 0.0, 0)
    return resolve(Experiments(ROOT), run, data_root)


def test_models_are_timed_in_turns_on_the_same_batches(data_root, monkeypatch):
    begun, batches = [], []
    timed_step = step_timing.Trained.timed_step

    def spy(model, batch):
        begun.append(model)
        batches.append(torch.stack(batch["inputs"]).float().sum().item())
        return timed_step(model, batch)

    monkeypatch.setattr(step_timing.Trained, "timed_step", spy)
    monkeypatch.setattr(step_timing, "WARM_UP", 1)
    said = []
    configs = [config_of(data_root, "atss", coefficient) for coefficient in ("none", "concordance")]
    timings = step_timing.measure(configs, 4, said.append)
    assert [len(timing.steps) for timing in timings] == [4, 4, 4]
    assert [len(timing.own) for timing in timings] == [0, 0, 4]
    assert all(0 < own < step for own, step in zip(timings[2].own, timings[2].steps, strict=True))
    turns = [begun[start : start + 3] for start in range(0, 15, 3)]
    assert all(len({id(model) for model in turn}) == 3 for turn in turns)
    assert len({id(turn[0]) for turn in turns}) == 3  # each begins at times
    assert all(len(set(batches[start : start + 3])) == 1 for start in range(0, 15, 3))
    assert len(said) == 1 and "3 models" in said[0]


@pytest.mark.parametrize("detector", DETECTORS)
def test_what_the_loss_takes_counts_and_what_mmdet_takes_does_not(data_root, detector, monkeypatch):
    model = step_timing.Trained(Config(config_of(data_root, detector, "concordance")))
    batch = next(step_timing.batches(Config(config_of(data_root, detector, "concordance"))))
    now = [0.0]
    monkeypatch.setattr(model, "_now", lambda: now[0])

    def takes(module, seconds):
        def pass_time(*_arguments):
            now[0] += seconds

        return module.register_forward_hook(pass_time)

    takes(model.model.backbone, 1000.0)
    for head in model.heads:
        takes(head.loss_cls, 100.0)
        takes(head.loss_corr, 1.0)
    calls = 3 if detector in ("sparse_rcnn", "detr") else 1  # stages, or decoder layers
    assert model.timed_loss(batch) == pytest.approx(calls)


@pytest.mark.parametrize("detector", ["sparse_rcnn", "vfnet"])
def test_the_gradient_ends_at_the_predictions(data_root, detector, monkeypatch):
    """VFNet's refined predictions come from its first ones by way of convolutions, which are mmdet's."""
    config = Config(config_of(data_root, detector, "concordance"))
    asked = []
    grad = torch.autograd.grad

    def spy(loss, predictions, **kwargs):
        asked.extend(predictions)
        return grad(loss, predictions, **kwargs)

    monkeypatch.setattr(torch.autograd, "grad", spy)
    step_timing.Trained(config).timed_loss(next(step_timing.batches(config)))
    assert asked and all(prediction.is_leaf for prediction in asked)


def test_timing_the_loss_leaves_the_weights_alone(data_root):
    config = Config(config_of(data_root, "retinanet", "spearman"))
    model = step_timing.Trained(config)
    before = [parameter.clone() for parameter in model.model.parameters()]
    model.timed_loss(next(step_timing.batches(config)))
    assert all(torch.equal(*pair) for pair in zip(before, model.model.parameters(), strict=True))
    assert all(parameter.grad is None for parameter in model.model.parameters())


def test_the_clock_is_named():
    assert "CPU time of the process" in step_timing.clock() or torch.cuda.is_available()
    assert time.process_time() > 0
