"""Positives computed one at a time, in plain Python: what an adapter hands to the loss must equal this."""

import math
from typing import NamedTuple

import numpy as np
import pytest
import torch
from scipy.stats import pearsonr
from tiny_detectors import SIZE, ground_truth, watched

# The first image is narrower than the batch: what is padded on its right has anchors, but no valid ones.
METAS = [
    dict(img_shape=(SIZE, 96), pad_shape=(SIZE, 96)),
    dict(img_shape=(SIZE, SIZE), pad_shape=(SIZE, SIZE)),
    dict(img_shape=(SIZE, SIZE), pad_shape=(SIZE, SIZE)),
]
FULL_METAS = [METAS[1]] * 3


class Positive(NamedTuple):
    level: int
    image: int
    score: float
    iou: float


class Maps(NamedTuple):
    """What a head's last convolutions give, one tensor a level."""

    cls: list
    reg: list
    third: list

    @property
    def sizes(self):
        return [tuple(level.shape[-2:]) for level in self.cls]


def random_maps(head, third=0, spread=0.3, offsets=4):
    """Random logits, offsets and `third` further channels for each anchor of each cell of three images."""
    strides = [stride for stride, _ in head.prior_generator.strides]
    anchors = head.num_base_priors
    generator = torch.Generator().manual_seed(11)

    def maps(channels, std):
        shapes = [(3, channels, SIZE // stride, SIZE // stride) for stride in strides]
        levels = [torch.randn(shape, generator=generator) * std for shape in shapes]
        return [level.requires_grad_() for level in levels]

    cls, reg = maps(anchors * head.cls_out_channels, 1.5), maps(anchors * offsets, spread)
    return Maps(cls, reg, maps(anchors * third, 1.0))


def losses_by_feat(head, maps, images, metas):
    third = [maps.third] if maps.third[0].shape[1] else []
    return head.loss_by_feat(maps.cls, maps.reg, *third, [ground_truth(objects) for objects in images], metas)


def anchor_positives(head, maps, images, matched):
    """Positives of an anchor head.

    `matched` gives for each image the object of each anchor, -1 for none, in mmdet's order of anchors:
    level, row, column, shape.
    """
    priors = torch.cat(head.prior_generator.grid_priors(maps.sizes, device="cpu")).tolist()
    stds = head.bbox_coder.stds
    assert not any(head.bbox_coder.means)
    for image, objects in enumerate(images):
        for (place, prior), match in zip(zip(places(maps), priors, strict=True), matched[image], strict=True):
            if match < 0:
                continue
            level, row, column, shape = place
            label, *target = objects[match]
            logits = part(maps.cls[level], image, shape, head.cls_out_channels, row, column)
            offsets = part(maps.reg[level], image, shape, 4, row, column)
            box = decoded(prior, [offset * std for offset, std in zip(offsets, stds, strict=True)])
            score = probability(logits, label, head.use_sigmoid_cls)
            yield Positive(level, image, score, iou(box, target))


def places(maps):
    for level, scores in enumerate(maps.cls):
        shapes = maps.reg[level].shape[1] // 4
        for row in range(scores.shape[2]):
            for column in range(scores.shape[3]):
                for shape in range(shapes):
                    yield level, row, column, shape


def part(level_map, image, shape, size, row, column):
    return level_map[image, shape * size : (shape + 1) * size, row, column].tolist()


def probability(logits, label, use_sigmoid):
    if use_sigmoid:
        return 1 / (1 + math.exp(-logits[label]))
    return math.exp(logits[label]) / sum(map(math.exp, logits))


def decoded(anchor, offsets):
    """Box of an anchor moved by parts of its size and scaled by exponentials (R-CNN's encoding)."""
    x1, y1, x2, y2 = anchor
    width, height = x2 - x1, y2 - y1
    dx, dy, dw, dh = offsets
    x, y = (x1 + x2) / 2 + dx * width, (y1 + y2) / 2 + dy * height
    width, height = width * math.exp(dw), height * math.exp(dh)
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2


def iou(box, other):
    width = min(box[2], other[2]) - max(box[0], other[0])
    height = min(box[3], other[3]) - max(box[1], other[1])
    shared = max(width, 0) * max(height, 0)
    areas = [(b[2] - b[0]) * (b[3] - b[1]) for b in (box, other)]
    return max(shared / (sum(areas) - shared), 1e-6)


def matched_by(head, maps, images, metas, assign):
    """For each image the object of each anchor: `assign` is asked for the valid ones, the others have none.

    `assign(priors, counts, ground_truth)` gives the numbers of the objects from 1, as mmdet's assigners do;
    `counts` are the valid anchors of each level.
    """
    _, flags = head.get_anchors(maps.sizes, metas, device="cpu")
    priors = torch.cat(head.prior_generator.grid_priors(maps.sizes, device="cpu"))
    matched = []
    for objects, levels in zip(images, flags, strict=True):
        valid = torch.cat(levels).bool()
        counts = [int(level.sum()) for level in levels]
        result = torch.full((len(priors),), -1)
        result[valid] = assign(priors[valid], counts, ground_truth(objects)).gt_inds - 1
        matched.append(result.tolist())
    return matched


def assert_same_positives(call, expected):
    """Compare what one call of the loss was given with `expected`, whatever the order within an image."""
    names = [name for name in ("level", "image", "scores", "ious") if name in call]
    actual = np.array([call[name].detach().double().numpy() for name in names]).T
    fields = [name.removesuffix("s") if name != "ious" else "iou" for name in names]
    expected = np.array([[getattr(positive, name) for name in fields] for positive in expected])
    assert len(expected) > 10, "too few positives to show anything"
    np.testing.assert_allclose(sorted_rows(actual), sorted_rows(expected), rtol=2e-5, atol=1e-7)


def check(head, maps, images, metas, expected):
    """The head gives its loss the `expected` positives, once, and the loss pools them as it is told."""
    with watched(head.loss_corr) as calls:
        losses = losses_by_feat(head, maps, images, metas)
    (call,) = calls
    expected = list(expected)
    assert_same_positives(call, expected)
    assert losses["loss_corr"].item() == pytest.approx(pearson_loss(expected, head.loss_corr), rel=1e-5)


def sorted_rows(rows):
    return rows[np.lexsort(rows.T[-2::-1])]


def defined(group):
    """Whether scores and IoUs of a group of positives both vary."""
    return all(len(set(values)) > 1 for values in zip(*group, strict=True))


def pearson_loss(positives, loss):
    """The loss by SciPy over the groups of two or more: `weight * (1 - r)`, or 0 without variance."""
    groups = {}
    for positive in positives:
        key = {"batch": 0, "level": positive.level, "image": positive.image}[loss.scope]
        groups.setdefault(key, []).append((positive.score, positive.iou))
    losses = [
        loss.weight * (1 - pearsonr(*zip(*group, strict=True)).statistic) if defined(group) else 0.0
        for group in groups.values()
        if len(group) > 1
    ]
    return sum(losses) / (max(len(losses), 1) if loss.reduction == "mean" else 1)
