import pytest
import torch
from mmengine.structures import InstanceData
from slow_positives import (
    METAS,
    Maps,
    Positive,
    check,
    iou,
    losses_by_feat,
    part,
    pearson_loss,
    places,
    probability,
    random_maps,
)
from tiny_detectors import OBJECTS, dense_head, ground_truth

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
    logits = part(maps.cls[level], image, 0, head.cls_out_channels, row, column)
    return Positive(level, image, probability(logits, label, True), ious[head.correlated_box])


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("box", ["initial", "refined"])
def test_positives_equal_a_slow_computation(box, scope):
    head = dense_head("vfnet", dict(correlated_box=box), scope=scope)
    maps = maps_of(head)
    check(head, maps, OBJECTS, METAS, slow_positives(head, maps))


@pytest.mark.parametrize("scope", SCOPES)
def test_mean_is_the_mean_of_the_losses_of_both_boxes(scope):
    head = dense_head("vfnet", dict(correlated_box="mean"), scope=scope)
    maps = maps_of(head)
    found = losses_by_feat(head, maps, OBJECTS, METAS)["loss_corr"].item()
    losses = []
    for head.correlated_box in ("initial", "refined"):
        losses.append(pearson_loss(list(slow_positives(head, maps)), head.loss_corr))
    assert found == pytest.approx(sum(losses) / 2, rel=1e-5)
    assert abs(losses[0] - losses[1]) > 0.01


def test_mean_of_two_points_and_boxes_worked_out_by_hand():
    head = dense_head("vfnet", dict(correlated_box="mean"), coefficient="concordance", weight=1.0)
    target = torch.tensor([[0.0, 0, 10, 10]]).repeat(2, 1)
    initial = torch.tensor([[0.0, 0, 10, 2], [0, 0, 10, 6]])  # IoU 0.2, 0.6
    refined = torch.tensor([[0.0, 0, 10, 8], [0, 0, 10, 4]])  # IoU 0.8, 0.4
    loss = head.correlation_loss(torch.tensor([0.2, 0.6]), [initial, target, refined, target], {})
    # 1 - 2 cov / (var + var + (mean - mean)^2) with n - 1: cov 0.08 and -0.08, each var 0.08, means 0.4 of
    # the scores, 0.4 and 0.6 of the IoUs: 1 - 0.16 / 0.16 = 0 and 1 + 0.16 / (0.16 + 0.04) = 1.8.
    # The loss of the mean IoUs (0.5 and 0.5) would be 1.
    assert loss.item() == pytest.approx((0 + 1.8) / 2)


def test_the_box_that_is_predicted_is_correlated_unless_another_is_named():
    assert dense_head("vfnet").correlated_box == "refined"
    with pytest.raises(
        ValueError, match="CorrelationVFNetHead: correlated_box must be one of initial, refined"
    ):
        dense_head("vfnet", dict(correlated_box="both"))
