"""Every detector with the loss on a GPU: `pytest -m gpu` where there is one; skipped elsewhere."""

import warnings

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from tiny_detectors import DETECTORS, batch, build, flat, losses_of, model_config

import corrloss.engine.accumulation  # noqa: F401 -- registers the wrapper of a precision

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
]

# Waits of the loss: a search for positives in each of three levels or images, and two constants for each box
# coder.
SEARCHES = {"retinanet": 5, "ap_loss_retinanet": 5, "alrp_retinanet": 5, "yolact": 5}
ADDED = {**SEARCHES, "faster_rcnn": 2, "cascade_rcnn": 6}


def waits(model) -> int:
    """How often the host waits for the GPU in the losses of one batch."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        losses_of(model)
        torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(each.message) for each in caught)


@pytest.mark.parametrize("detector", DETECTORS)
def test_the_loss_waits_no_more_often_than_is_said(detector):
    counts = []
    for coefficient, weight in (("none", 0.0), ("concordance", 0.2)):
        model = build(model_config(detector, coefficient, weight)).cuda()
        losses_of(model)  # what is copied to the GPU once
        torch.manual_seed(1)
        counts.append(waits(model))
    print(f"{detector}: {counts[0]} waits without the loss, {counts[1]} with it")
    assert counts[0] > 0 and counts[1] - counts[0] <= ADDED.get(detector, 0)


@pytest.mark.parametrize("detector", DETECTORS)
def test_losses_are_those_of_the_cpu(detector, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    model = build(model_config(detector, "concordance", 0.2))
    torch.manual_seed(1)
    here = flat(losses_of(model))
    torch.manual_seed(1)
    there = flat(losses_of(model.cuda()))
    assert any("loss_corr" in name and value.is_cuda for name, value in there.items())
    losses = [name for name in here if "loss" in name]
    for name in losses:
        print(f"{detector} {name}: {there[name].item():.6f} on the GPU, {here[name].item():.6f} on the CPU")
    for name in losses:
        torch.testing.assert_close(there[name].cpu(), here[name], rtol=1e-3, atol=1e-4)
    sum(there[name] for name in losses).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


# mmdet's VFNet writes IoUs in float32 into a bfloat16 tensor, which PyTorch refuses.
@pytest.mark.parametrize("detector", sorted({*DETECTORS} - {"vfnet"}))
def test_a_step_in_bfloat16(detector):
    """PyTorch's autocast refuses functions on a GPU that it knows on a CPU."""
    model = build(model_config(detector, "concordance", 0.2)).cuda()
    optimiser = dict(type="AutocastOptimWrapper", optimizer=dict(type="SGD", lr=1e-6))
    losses = model.train_step(batch(), build_optim_wrapper(model, optimiser))
    assert all(value.isfinite() for value in losses.values()), losses
    assert any("loss_corr" in name for name in losses)
