"""Scores, IoUs and groups of the positives of one training step: the arguments of the loss."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from corrloss.errors import CorrLossError

if TYPE_CHECKING:  # a baseline does not depend on the loss
    from corrloss.loss import CorrelationLoss

MIN_IOU = 1e-6  # the release clamps IoUs here; a box without overlap keeps a finite logarithm downstream
WAY_OUT = "docs/any_detector.md lists what a head must provide, and how to write an adapter"


class PositivesError(CorrLossError):
    """The positives of a head cannot be known; the message names the head, the reason and the way out."""

    def __init__(self, head: object, reason: str) -> None:
        name = head if isinstance(head, str) else type(head).__name__
        super().__init__(f"{name}: {reason}; {WAY_OUT}")


def check_option(head: object, name: str, value: str, choices: Iterable[str]) -> None:
    """Raise ValueError unless ``value`` is one of ``choices``."""
    if value not in choices:
        raise ValueError(f"{type(head).__name__}: {name} must be one of {', '.join(choices)}, got {value!r}")


def for_ious(boxes: Tensor, loss_corr: CorrelationLoss) -> Tensor:
    """Predicted boxes for the IoUs, detached where the loss sends no gradient to the regressor."""
    return boxes.detach() if loss_corr.gradient_to == "classifier" else boxes


def aligned_ious(boxes: Tensor, targets: Tensor) -> Tensor:
    """IoU of each box with the target of the same row, (n,), clamped to [1e-6, 1]; differentiable in both.

    Both are ``x1, y1, x2, y2`` of shape (n, 4), in the same unit.
    """
    # Not mmdet's bbox_overlaps: it copies a constant from the host, which synchronises with the GPU.
    boxes, targets = boxes.float(), targets.float()
    low = torch.maximum(boxes[:, :2], targets[:, :2])
    shared = _areas(torch.minimum(boxes[:, 2:], targets[:, 2:]).sub(low).clamp(min=0))
    union = _areas(boxes[:, 2:] - boxes[:, :2]) + _areas(targets[:, 2:] - targets[:, :2]) - shared
    return (shared / union.clamp(min=MIN_IOU)).clamp(min=MIN_IOU)


def on_host(tensor: Tensor) -> bool:
    """Whether values can be read without a synchronisation."""
    return tensor.device.type == "cpu"


def _areas(sides: Tensor) -> Tensor:
    return sides[:, 0] * sides[:, 1]


def positive_index(labels: Tensor, num_classes: int, count: int | None = None) -> Tensor:
    """Positions of the foreground labels (``0 <= label < num_classes``), int64 (n,), ascending.

    Args:
        labels: int64, shape (m,).
        num_classes: Foreground classes.
        count: Expected number of positives, where it is known. On a GPU this avoids a synchronisation, and a
            wrong count raises a device-side assertion. On the CPU the caller compares the lengths.
    """
    if on_host(labels):  # NumPy takes a fifth of the time for so few numbers
        values = labels.numpy()
        return torch.from_numpy(np.flatnonzero((values >= 0) & (values < num_classes)))
    positive = (labels >= 0) & (labels < num_classes)
    if count is None:
        return positive.nonzero().squeeze(1)
    torch._assert_async(positive.sum() == count, "the positives are not those of the box loss")
    return torch.nonzero_static(positive, size=count).squeeze(1)


def matched_scores(logits: Tensor, index: Tensor, labels: Tensor, use_sigmoid: bool | None) -> Tensor:
    """Probability of the matched class of some rows, (n,) in [0, 1], as the head turns logits into scores.

    Args:
        logits: Classification logits, shape (m, classes) with sigmoid, (m, classes + 1) with softmax.
        index: The rows, int64, shape (n,).
        labels: Their matched classes, int64, shape (n,).
        use_sigmoid: True for independent classes, False for softmax with a background class; None where
            ``logits`` are probabilities already.
    """
    if use_sigmoid is False:
        return logits[index].softmax(dim=1).gather(1, labels[:, None]).squeeze(1)
    scores = logits[index, labels]
    return scores.sigmoid() if use_sigmoid else scores


def query_loss(
    head: nn.Module, logits: Tensor, boxes: Tensor, labels: Tensor, targets: Tensor, matched: list[Tensor]
) -> Tensor:
    """Correlation Loss of the queries or proposals that were matched to a box, in one decoder layer or stage.

    Args:
        head: Head with ``loss_corr`` and ``loss_cls``.
        logits: Classification logits of all queries of the batch, float (images * queries, classes).
        boxes: Predicted boxes, float (images * queries, 4).
        labels: int64 (images * queries,).
        targets: Ground-truth boxes, float (images * queries, 4).
        matched: Positions of the matched queries of each image, int64.
    """
    queries = len(logits) // len(matched)
    index = torch.cat([of_image + queries * image for image, of_image in enumerate(matched)])
    groups = {
        "batch": {},
        "image": {"image": torch.div(index, queries, rounding_mode="floor")},
        "level": {"level": torch.zeros_like(index)},  # queries do not belong to a level
    }
    return head.loss_corr(
        matched_scores(logits, index, labels[index], head.loss_cls.use_sigmoid),
        aligned_ious(for_ious(boxes, head.loss_corr)[index], targets[index]),
        **groups[head.loss_corr.scope],
    )


def locate(index: Tensor, sizes: list[int], num_images: int, level_major: bool) -> tuple[Tensor, Tensor]:
    """Feature level and image of positions in a head's flattened predictions, each int64 (n,).

    Args:
        index: Positions, int64, shape (n,).
        sizes: Predictions of one image at each level.
        num_images: Images in the batch.
        level_major: True where all images of level 0 come first, then all of level 1 …;
            False where all levels of image 0 come first.

    Examples:
        >>> index = torch.tensor([0, 4, 5, 8])  # two levels of 3 and 2 predictions, two images
        >>> locate(index, [3, 2], 2, level_major=True)
        (tensor([0, 0, 0, 1]), tensor([0, 1, 1, 1]))
        >>> locate(index, [3, 2], 2, level_major=False)
        (tensor([0, 1, 0, 1]), tensor([0, 0, 1, 1]))
    """
    # Not new_tensor(sizes): a copy from the host would synchronise with the GPU.
    size = torch.cat([index.new_full((1,), size) for size in sizes])
    if level_major:
        ends = (size * num_images).cumsum(0)
        level = torch.bucketize(index, ends, right=True)
        return level, (index - (ends - size * num_images)[level]) // size[level]
    ends = size.cumsum(0)
    return torch.bucketize(index % ends[-1], ends, right=True), index // ends[-1]
