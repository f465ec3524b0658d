import pytest
import torch
from mmengine.structures import InstanceData
from slow_positives import METAS, anchor_positives, check, losses_by_feat, matched_by, random_maps
from tiny_detectors import OBJECTS, dense_head, watched

from corrloss.loss import REDUCTIONS, SCOPES


def slow_positives(head, maps):
    def assign(priors, _counts, objects):
        return head.assigner.assign(InstanceData(priors=priors), objects, None)

    return anchor_positives(head, maps, OBJECTS, matched_by(head, maps, OBJECTS, METAS, assign))


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("detector", ["retinanet", "ap_loss_retinanet", "alrp_retinanet"])
def test_positives_equal_a_slow_computation(detector, scope, reduction):
    head = dense_head(detector, scope=scope, reduction=reduction)
    maps = random_maps(head)
    check(head, maps, OBJECTS, METAS, slow_positives(head, maps))


def test_positives_of_a_head_that_learns_decoded_boxes():
    head = dense_head("retinanet", dict(reg_decoded_bbox=True, loss_bbox=dict(type="GIoULoss")))
    maps = random_maps(head)
    check(head, maps, OBJECTS, METAS, slow_positives(head, maps))


def test_experiments_take_the_mean_over_the_levels_that_have_positives():
    head = dense_head("retinanet")
    small = tuple(((0, 10, 12, 30, 33), (1, 60, 66, 97, 99)) for _ in METAS)
    with watched(head.loss_corr) as calls:
        loss = losses_by_feat(head, random_maps(head), small, METAS)["loss_corr"]
    scores, ious, level = (calls[0][name] for name in ("scores", "ious", "level"))
    head.loss_corr.scope = "batch"
    of_each = torch.stack(
        [head.loss_corr(scores[level == one], ious[level == one]) for one in level.unique()]
    )
    assert 1 < len(of_each) < head.prior_generator.num_levels  # one level has none, and does not count
    torch.testing.assert_close(loss, of_each.mean())
