import math

import pytest
import torch
from mmengine.structures import InstanceData
from slow_positives import METAS, anchor_positives, check, losses_by_feat, matched_by, random_maps
from tiny_detectors import OBJECTS, dense_head

from corrloss.loss import SCOPES


def slow_positives(head, maps):
    def assign(priors, counts, objects):
        return head.assigner.assign(InstanceData(priors=priors), counts, objects, None)

    return anchor_positives(head, maps, OBJECTS, matched_by(head, maps, OBJECTS, METAS, assign))


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("detector", ["atss", "atss_no_aux", "qfl_atss", "rs_atss"])
def test_positives_equal_a_slow_computation(detector, scope):
    head = dense_head(detector, scope=scope)
    maps = random_maps(head, third=1)
    check(head, maps, OBJECTS, METAS, slow_positives(head, maps))


def centerness_sum(head, maps):
    """Sum of the centerness targets of all positives (Zhang et al. 2020, FCOS's definition)."""

    def assign(priors, counts, objects):
        return head.assigner.assign(InstanceData(priors=priors), counts, objects, None)

    priors = torch.cat(head.prior_generator.grid_priors(maps.sizes, device="cpu")).tolist()
    total = 0.0
    for objects, matched in zip(OBJECTS, matched_by(head, maps, OBJECTS, METAS, assign), strict=True):
        for (x1, y1, x2, y2), match in zip(priors, matched, strict=True):
            if match >= 0:
                x, y = (x1 + x2) / 2, (y1 + y2) / 2
                _, left, top, right, bottom = objects[match]
                across, down = sorted((x - left, right - x)), sorted((y - top, bottom - y))
                total += math.sqrt(across[0] / across[1] * down[0] / down[1])
    return total


def losses_with(normaliser, images=OBJECTS, **changes):
    head = dense_head("atss", dict(normaliser=normaliser, **changes))
    maps = random_maps(head, third=1)
    return head, maps, losses_by_feat(head, maps, images, METAS)


def test_released_normaliser_is_the_sum_of_this_process(monkeypatch):
    for module in ("mmdet.models.dense_heads.atss_head", "corrloss.heads.atss"):
        monkeypatch.setattr(f"{module}.reduce_mean", lambda value: value / 4)  # three processes without any
    head, maps, released = losses_with("released")
    mmdet = losses_with("mmdet")[2]
    total = centerness_sum(head, maps)
    assert total > 4
    for ours, theirs in zip(released["loss_bbox"], mmdet["loss_bbox"], strict=True):
        assert ours.item() * total == pytest.approx(theirs.item() * total / 4, rel=1e-4)
    for name in ("loss_cls", "loss_centerness"):
        assert [loss.item() for loss in released[name]] == [loss.item() for loss in mmdet[name]]


def test_released_normaliser_drops_the_classification_loss_of_an_empty_batch():
    _, maps, losses = losses_with("released", images=((), (), ()))
    assert sum(losses["loss_cls"]).item() == sum(losses["loss_bbox"]).item() == 0
    (sum(losses["loss_cls"]) + sum(losses["loss_bbox"])).backward()
    assert not any(level.grad.any() for level in (*maps.cls, *maps.reg))
    assert sum(losses_with("mmdet", images=((), (), ()))[2]["loss_cls"]) > 0


def test_released_normaliser_changes_nothing_without_the_loss():
    for images in (OBJECTS, ((), (), ())):
        released, mmdet = (losses_with(name, images, loss_corr=None)[2] for name in ("released", "mmdet"))
        assert all(released[name] == mmdet[name] for name in mmdet)


def test_an_unknown_normaliser_is_refused():
    with pytest.raises(ValueError, match="normaliser must be one of mmdet, released, got 'local'"):
        losses_with("local")
