import pytest
import torch
from mmdet.models.dense_heads import PAAHead
from slow_positives import METAS, anchor_positives, check, random_maps
from tiny_detectors import OBJECTS, dense_head, ground_truth

from corrloss.loss import SCOPES


def slow_positives(head, maps):
    return anchor_positives(head, maps, OBJECTS, reassigned(head, maps))


@torch.no_grad()
def reassigned(head, maps):
    """For each image the object of each anchor that PAA's own reassignment leaves to it, -1 for none."""
    anchors, flags = head.get_anchors(maps.sizes, METAS, device="cpu")
    objects = [ground_truth(of_image) for of_image in OBJECTS]
    targets = head.get_targets(anchors, flags, objects, METAS)
    matched = []
    for image, (labels, weights, boxes, box_weights, index, owner) in enumerate(zip(*targets, strict=True)):
        logits, offsets = rows(maps.cls, image, head.cls_out_channels), rows(maps.reg, image, 4)
        losses = head.get_pos_loss(
            anchors[image], logits, offsets, labels, weights, boxes, box_weights, index
        )
        left = head.paa_reassign(losses[0], labels, weights, box_weights, index, owner, anchors[image])[0]
        assert (left < head.num_classes).sum() < len(index)  # some were positives before
        owners = torch.full_like(labels, -1)
        owners[index] = owner
        matched.append(torch.where(left < head.num_classes, owners, -1).tolist())
    return matched


def rows(levels, image, size):
    return torch.cat([level[image].permute(1, 2, 0).reshape(-1, size) for level in levels])


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("detector", ["paa", "paa_no_aux", "qfl_paa", "rs_paa"])
def test_positives_are_those_left_by_the_reassignment(detector, scope):
    head = dense_head(detector, scope=scope)
    maps = random_maps(head, third=1)
    check(head, maps, OBJECTS, METAS, slow_positives(head, maps))


def test_reassignment_goes_on_where_mmdets_stops():
    head = dense_head("paa")
    losses = torch.tensor([1.0, 50.0, 50.0001, 50.0002, 50.0003, 50.0004, 50.0005])
    count, labels = len(losses), torch.zeros(len(losses), dtype=torch.long)
    candidates = (
        *(labels, torch.ones(count), torch.ones(count, 4)),  # all of class 0, of weight 1
        *(torch.arange(count), labels, [torch.zeros(count, 4)]),  # all of object 0, on one level
    )
    with pytest.raises(ValueError, match="ill-defined empirical covariance"):
        PAAHead.paa_reassign(head, losses, *candidates)
    expected = PAAHead.paa_reassign(head, losses.double(), *candidates)
    *actual, positives = head.paa_reassign(losses, *candidates)
    assert all(torch.equal(one, other) for one, other in zip(actual, expected[:3], strict=True))
    assert positives == expected[3] == 1
    assert actual[0].tolist() == [0] + [head.num_classes] * (count - 1)


def test_losses_that_are_not_numbers_still_stop_the_training():
    head = dense_head("paa")
    labels = torch.zeros(3, dtype=torch.long)
    losses = torch.tensor([1.0, 2.0, float("nan")])
    candidates = labels, torch.ones(3), torch.ones(3, 4), torch.arange(3), labels, [torch.zeros(3, 4)]
    with pytest.raises(ValueError, match="NaN"):
        head.paa_reassign(losses, *candidates)
