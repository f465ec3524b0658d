"""What would wait for a GPU, counted on the CPU: values read, shapes that depend on them, copies to it."""

from collections import Counter

import pytest
import torch
from tiny_detectors import build, losses_of, model_config
from torch.utils._python_dispatch import TorchDispatchMode

import corrloss.coefficients
import corrloss.heads.head_positives
import corrloss.loss
import corrloss.ranks

WAITING = (
    "_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_dim", "unique_consecutive",
    "lift_fresh",  # a tensor from values of the host
)  # fmt: skip
NONE_ADDED = [
    "foveabox", "atss", "atss_no_aux", "paa", "sparse_rcnn", "gfl", "vfnet", "detr", "deformable_detr",
    "fcos", "tood",
]  # fmt: skip


class Waits(TorchDispatchMode):
    """Counts operations after which the host knows more than before."""

    def __init__(self):
        super().__init__()
        self.counted = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        if name in WAITING:
            self.counted[name] += 1
        if name in ("index", "index_put_", "index_put"):
            masks = [at for at in args[1] if at is not None and at.dtype in (torch.bool, torch.uint8)]
            self.counted["boolean index"] += len(masks)
        return function(*args, **(kwargs or {}))


def added_waits(detector, monkeypatch, **options):
    """What the losses with Correlation Loss wait for more often than those without, in one step."""
    monkeypatch.setattr(corrloss.heads.head_positives, "on_host", lambda tensor: False)  # as on a GPU
    for module in (corrloss.coefficients, corrloss.loss, corrloss.ranks):
        monkeypatch.setattr(module, "is_readable", lambda tensor: False)
    counts = []
    for coefficient, weight in (("none", 0.0), ("concordance", 0.2)):
        model = build(model_config(detector, coefficient, weight, **(options if weight else {})))
        torch.manual_seed(1)
        with Waits() as waits:
            losses_of(model)
        counts.append(waits.counted)
    without, with_loss = counts
    assert sum(without.values()) > 10, "nothing is seen"
    with_loss.subtract(without)
    return {name: count for name, count in with_loss.items() if count}


@pytest.mark.parametrize("detector", NONE_ADDED)
def test_the_loss_and_its_positives_wait_for_nothing(detector, monkeypatch):
    assert added_waits(detector, monkeypatch) == {}


def test_retinanet_looks_for_its_positives_once_a_level(monkeypatch):
    added = added_waits("retinanet", monkeypatch)
    assert added.pop("nonzero") == 3
    assert set(added) <= {"lift_fresh"}  # the box coder's own constants


@pytest.mark.parametrize("detector", ["faster_rcnn", "cascade_rcnn"])
def test_heads_of_two_stages_add_the_box_coder_s_constants_alone(detector, monkeypatch):
    assert set(added_waits(detector, monkeypatch)) <= {"lift_fresh"}
