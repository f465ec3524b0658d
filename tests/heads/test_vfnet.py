import pytest
import torch
from mmengine.structures import InstanceData
from slow_positives import METAS, Maps, Positive, check, iou, part, places, probability, random_maps
from tiny_detectors import OBJECTS, dense_head, ground_truth

from corrloss.heads.vfnet import BOXES
from corrloss.loss import SCOPES


def maps_of(head):
    """Random logits, and distances of the sides of both boxes."""
    maps = random_maps(head, third=4)
    strides = [stride for stride, _ in head.prior_generator.strides]
    boxes = [
        [
            (level.detach().exp() * 2 * stride).requires_grad_()
            for level, stride in zip(levels, strides, strict=True)
        ]
        for levels in (maps.reg, maps.third)
    ]
    return Maps(maps.cls, *boxes)


def slow_positives(head, maps):
    _, flags = head.get_anchors(maps.sizes, METAS, device="cpu")
    priors = torch.cat(head.atss_prior_generator.grid_priors(maps.sizes, device="cpu"))
    for image, objects in enumerate(OBJECTS):
        valid = torch.cat(flags[image]).bool()
        counts = [int(level.sum()) for level in flags[image]]
        owners = torch.zeros(len(priors), dtype=torch.long)
        owners[valid] = head.assigner.assign(
            InstanceData(priors=priors[valid]), counts, ground_truth(objects), None
        ).gt_inds
        for (level, row, column, _), owner in zip(places(maps), owners.tolist(), strict=True):
            if owner:
                label, *target = objects[owner - 1]
                yield positive(head, maps, image, level, row, column, label, target)


def positive(head, maps, image, level, row, column, label, target):
    x, y = (place * head.strides[level] for place in (column, row))
    ious = {}
    for name, levels in (("initial", maps.reg), ("refined", maps.third)):
        left, top, right, down = part(levels[level], image, 0, 4, row, column)
        ious[name] = iou((x - left, y - top, x + right, y + down), target)
    ious["mean"] = (ious["initial"] + ious["refined"]) / 2
    logits = part(maps.cls[level], image, 0, head.cls_out_channels, row, column)
    return Positive(level, image, probability(logits, label, True), ious[head.correlated_box])


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("box", BOXES)
def test_positives_equal_a_slow_computation(box, scope):
    head = dense_head("vfnet", dict(correlated_box=box), scope=scope)
    maps = maps_of(head)
    check(head, maps, OBJECTS, METAS, slow_positives(head, maps))


def test_the_box_that_is_predicted_is_correlated_unless_another_is_named():
    assert dense_head("vfnet").correlated_box == "refined"
    with pytest.raises(
        ValueError, match="CorrelationVFNetHead: correlated_box must be one of initial, refined"
    ):
        dense_head("vfnet", dict(correlated_box="both"))
