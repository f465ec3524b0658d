import math

import pytest
from mmengine.structures import InstanceData
from slow_positives import METAS, Positive, check, iou, matched_by, part, places, probability, random_maps
from tiny_detectors import OBJECTS, dense_head

from corrloss.loss import SCOPES


def slow_positives(head, maps):
    def assign(priors, counts, objects):
        return head.assigner.assign(InstanceData(priors=priors), counts, objects, None)

    strides = [stride for stride, _ in head.prior_generator.strides]
    bins = head.reg_max + 1
    for image, matched in enumerate(matched_by(head, maps, OBJECTS, METAS, assign)):
        for (level, row, column, _), match in zip(cells(maps), matched, strict=True):
            if match < 0:
                continue
            label, *target = OBJECTS[image][match]
            logits = part(maps.cls[level], image, 0, head.cls_out_channels, row, column)
            sides = [part(maps.reg[level], image, side, bins, row, column) for side in range(4)]
            left, top, right, bottom = (strides[level] * expected_value(side) for side in sides)
            x, y = column * strides[level], row * strides[level]  # the middle of the anchor
            box = (x - left, y - top, x + right, y + bottom)
            yield Positive(level, image, probability(logits, label, True), iou(box, target))


def cells(maps):
    return (place for place in places(maps) if place[3] == 0)  # GFL has one anchor a cell


def expected_value(logits):
    total = sum(map(math.exp, logits))
    return sum(value * math.exp(logit) / total for value, logit in enumerate(logits))


@pytest.mark.parametrize("scope", SCOPES)
def test_positives_equal_a_slow_computation(scope):
    head = dense_head("gfl", scope=scope)
    maps = random_maps(head, spread=2.0, offsets=4 * (head.reg_max + 1))
    check(head, maps, OBJECTS, METAS, slow_positives(head, maps))


def test_experiments_take_the_mean_of_the_losses_of_each_level_as_the_release():
    loss = dense_head("gfl").loss_corr
    assert (loss.scope, loss.reduction) == ("level", "mean")
