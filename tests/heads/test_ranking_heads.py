"""What the heads with a ranking loss or Quality Focal Loss report, against loops over their logits."""

import math
from typing import NamedTuple

import numpy as np
import pytest
import torch
from mmengine.structures import InstanceData
from slow_positives import METAS, decoded, iou, losses_by_feat, part, places, random_maps
from test_paa import reassigned
from tiny_detectors import OBJECTS, dense_head, ground_truth

DETECTORS = ["ap_loss_retinanet", "alrp_retinanet", "qfl_atss", "qfl_paa", "rs_atss", "rs_paa"]
NONE, IGNORED = -1, -2  # in place of the number of an anchor's object


class Slow(NamedTuple):
    """A batch in plain numbers, anchors in the order image, level, row, column, shape.

    Attributes:
        logits: (n, classes), of the anchors that are not ignored.
        classes: (n,), -1 without an object.
        ious, gious: Of the decoded boxes of the positives.
        offsets, aims: Of the positives, as the regressor gives them and should.
        places: Of the positives: image, level, row, column, shape.
        priors: Anchors of the positives.
        targets: Ground-truth boxes of the positives.
    """

    logits: np.ndarray
    classes: np.ndarray
    ious: np.ndarray
    gious: np.ndarray
    offsets: np.ndarray
    aims: np.ndarray
    places: np.ndarray
    priors: np.ndarray
    targets: np.ndarray

    @property
    def is_positive(self):
        """Of each logit, flattened."""
        return (self.classes[:, None] == np.arange(self.logits.shape[1])).reshape(-1)

    @property
    def best_scores(self):
        return 1 / (1 + np.exp(-self.logits[self.classes >= 0].max(axis=1)))


def objects_of_anchors(head, maps):
    """For each image the object of each anchor, NONE or IGNORED, as the head's own assigner says."""
    anchors, flags = head.get_anchors(maps.sizes, METAS, device="cpu")
    if hasattr(head, "paa_reassign"):
        matched = [torch.tensor(of_image) for of_image in reassigned(head, maps)]
    else:
        matched = [assigned(head, *image) for image in zip(anchors, flags, OBJECTS, strict=True)]
    valid = [torch.cat(levels).bool() for levels in flags]
    return [torch.where(ok, objects, IGNORED) for ok, objects in zip(valid, matched, strict=True)]


def assigned(head, anchors, flags, objects):
    valid = torch.cat(flags).bool()
    counts = [[int(level.sum()) for level in flags]] if "atss_cls" in dict(head.named_children()) else []
    priors = InstanceData(priors=torch.cat(anchors)[valid])
    result = torch.full((len(valid),), IGNORED)
    result[valid] = head.assigner.assign(priors, *counts, ground_truth(objects), None).gt_inds - 1
    return result


def slow_batch(head, maps):
    """All anchors of three images one by one."""
    priors = torch.cat(head.prior_generator.grid_priors(maps.sizes, device="cpu")).tolist()
    logits, classes, positives = [], [], []
    for image, objects in enumerate(objects_of_anchors(head, maps)):
        for place, prior, match in zip(places(maps), priors, objects.tolist(), strict=True):
            if match == IGNORED:
                continue
            level, row, column, shape = place
            logits.append(part(maps.cls[level], image, shape, head.cls_out_channels, row, column))
            classes.append(-1 if match == NONE else OBJECTS[image][match][0])
            if match >= 0:
                offsets = part(maps.reg[level], image, shape, 4, row, column)
                target = OBJECTS[image][match][1:]
                positives.append((*located(head, prior, offsets, target), (image, *place), prior, target))
    assert len(positives) > 10
    return Slow(np.array(logits), np.array(classes), *map(np.array, zip(*positives, strict=True)))


def located(head, prior, offsets, target):
    stds = head.bbox_coder.stds
    box = decoded(prior, [offset * std for offset, std in zip(offsets, stds, strict=True)])
    aims = [aim / std for aim, std in zip(encoded(prior, target), stds, strict=True)]
    return iou(box, target), giou(box, target), offsets, aims


def encoded(anchor, box):
    (width, height), (x, y) = size(anchor), middle(anchor)
    (wide, high), (u, v) = size(box), middle(box)
    return (u - x) / width, (v - y) / height, math.log(wide / width), math.log(high / height)


def size(box):
    return box[2] - box[0], box[3] - box[1]


def middle(box):
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def giou(box, other):
    hull = [min(box[0], other[0]), min(box[1], other[1]), max(box[2], other[2]), max(box[3], other[3])]
    shared = math.prod(max(min(box[i + 2], other[i + 2]) - max(box[i], other[i]), 0) for i in (0, 1))
    union = math.prod(size(box)) + math.prod(size(other)) - shared
    return shared / union - (math.prod(size(hull)) - union) / math.prod(size(hull))


def step(difference, delta):
    return np.clip(difference / (2 * delta) + 0.5, 0, 1)


@pytest.fixture(scope="module", params=DETECTORS)
def case(request):
    """A detector's name, its head, its maps, the losses that it reports, and the batch in plain numbers."""
    head = dense_head(request.param)
    maps = random_maps(head, third="retinanet" not in request.param)
    losses = losses_by_feat(head, maps, OBJECTS, METAS)
    return request.param, head, maps, losses, slow_batch(head, maps)


def test_reported_losses_are_those_of_loops_over_the_logits(case):
    detector, _, _, losses, batch = case
    expected = SLOW_LOSSES[detector.split("_")[0]](batch)
    reported = {name: float(sum(torch.as_tensor(loss).flatten())) for name, loss in scalars(losses).items()}
    assert reported.pop("loss_corr") > 0
    assert reported == pytest.approx(expected(detector) if callable(expected) else expected, rel=2e-5)


def scalars(losses):
    return {
        name: torch.stack([*loss]).sum() if isinstance(loss, list) else loss for name, loss in losses.items()
    }


def slow_ap(batch):
    x, positive = batch.logits.reshape(-1), batch.is_positive
    errors = []
    for i in np.flatnonzero(positive)[x[positive].argsort()]:  # from the lowest on
        above = step(x - x[i], delta=1.0)
        false_positives = above[~positive].sum()
        errors.append(false_positives / (0.5 + above[positive].sum() + false_positives))
    interpolated = np.minimum.accumulate(errors)  # the best precision at this recall or a higher one
    difference = np.abs(batch.offsets - batch.aims)
    smooth = np.where(difference < 1, difference**2 / 2, difference - 0.5)
    return {"loss_cls": interpolated.mean(), "loss_bbox": smooth.mean()}


def slow_alrp(batch):
    x, positive = batch.logits.reshape(-1), batch.is_positive
    errors = 1 - batch.gious
    classification = localisation = 0.0
    for i in np.flatnonzero(positive):
        above = step(x - x[i], delta=1.0)
        above[i] = 1.0
        rank = above.sum()
        classification += above[~positive].sum() / rank / len(errors)
        localisation += (above[positive] @ errors) / rank / len(errors)
    return {"loss_cls": classification, "loss_bbox": 50 * localisation}


def slow_rank_sort(batch):
    x, positive = batch.logits.reshape(-1), batch.is_positive
    number = positive.sum()
    ranking = sorting = 0.0
    for place, i in enumerate(np.flatnonzero(positive)):
        above = step(x - x[i], delta=0.5)
        ranking += above[~positive].sum() / above.sum() / number
        above = above[positive]
        rightly = above * (batch.ious >= batch.ious[place])
        badness = 1 - batch.ious
        sorting += (above @ badness / above.sum() - rightly @ badness / rightly.sum()) / number
    # The balance gives the box loss the value of the others, whatever the boxes.
    return {"loss_rank": ranking, "loss_sort": sorting, "loss_bbox": ranking + sorting}


def slow_quality_focal(batch):
    targets = np.zeros_like(batch.logits)
    targets[batch.classes >= 0, batch.classes[batch.classes >= 0]] = batch.ious
    scores = 1 / (1 + np.exp(-batch.logits))
    entropy = -targets * np.log(scores) - (1 - targets) * np.log(1 - scores)
    focal = (entropy * np.abs(targets - scores) ** 2).sum() / len(batch.ious)
    weight = batch.best_scores
    boxes = weight @ (1 - batch.gious) / max(weight.sum(), 1)
    return lambda detector: {
        "loss_cls": focal,
        "loss_bbox": {"qfl_atss": 2.0, "qfl_paa": 1.3}[detector] * boxes,
    }


SLOW_LOSSES = {"ap": slow_ap, "alrp": slow_alrp, "rs": slow_rank_sort, "qfl": slow_quality_focal}


@pytest.mark.parametrize("detector", ["rs_atss", "rs_paa"])
def test_box_gradient_of_rank_and_sort_is_that_of_the_weighted_giou_times_the_balance(detector):
    head = dense_head(detector)
    maps = random_maps(head, third=1)
    losses = losses_by_feat(head, maps, OBJECTS, METAS)
    batch = slow_batch(head, maps)
    weight = batch.best_scores / batch.best_scores.sum()
    slow = slow_rank_sort(batch)
    balance = (slow["loss_rank"] + slow["loss_sort"]) / (weight @ (1 - batch.gious))
    losses["loss_bbox"].backward()
    assert all(level.grad is None or not level.grad.any() for level in maps.cls)
    small = 1e-4
    for i in range(0, len(weight), 5):
        image, level, row, column, shape = batch.places[i]
        gradient = maps.reg[level].grad[image, 4 * shape : 4 * shape + 4, row, column].tolist()
        for side, step_ in enumerate(np.eye(4) * small):
            ends = [
                located(head, batch.priors[i], batch.offsets[i] + sign * step_, batch.targets[i])[1]
                for sign in (1, -1)
            ]
            expected = -balance * weight[i] * (ends[0] - ends[1]) / (2 * small)
            assert gradient[side] == pytest.approx(expected, rel=1e-2, abs=1e-6)


def test_alrp_weighs_boxes_by_the_epoch_before():
    head = dense_head("alrp_retinanet", dict(balance=dict(period=3, initial=50.0)))
    maps = random_maps(head)
    losses = [losses_by_feat(head, maps, OBJECTS, METAS) for _ in range(5)]
    boxes = [float(of_step["loss_bbox"]) for of_step in losses]
    localisation = boxes[0] / 50
    total = float(losses[0]["loss_cls"]) + localisation
    # As in the release the last iteration of an epoch has the new weight already.
    assert boxes == pytest.approx([50 * localisation] * 2 + [total] * 3, rel=1e-5)
    # In the checkpoint, so that a training that was cut off goes on with it.
    assert head.state_dict()["balance.weight"].item() == pytest.approx(total / localisation, rel=1e-5)


@pytest.mark.parametrize("detector", DETECTORS)
def test_a_level_without_positives_still_gives_its_parameters_a_gradient(detector):
    head = dense_head(detector)
    maps = random_maps(head, third="retinanet" not in detector)
    losses = losses_by_feat(head, maps, ((), (), ()), METAS)
    sum(sum(loss) if isinstance(loss, list) else loss for loss in losses.values()).backward()
    assert all(level.grad is not None and level.grad.isfinite().all() for level in (*maps.cls, *maps.reg))
