"""Losses over the whole batch for heads that compute theirs level by level, or before decoding.

A ranking loss compares all predictions of a batch; Quality Focal Loss needs the IoU of the decoded box as
target. mmdet's heads call ``self.loss_cls`` once per level, before they decode boxes. So these modules are
replaced while the head runs: the replacements record their arguments and return zero, and the losses are
computed afterwards from all recorded arguments.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from mmdet.registry import MODELS
from torch import Tensor, nn

from corrloss.heads.head_positives import PositivesError, aligned_ious, positive_index
from corrloss.heads.observe import LossCall, replaced_attribute
from corrloss.ranking import flatten_targets


@dataclass(frozen=True)
class Predictions:
    """All n predictions of a batch, and the boxes of its p positives, in the head's order.

    ``boxes`` and ``targets`` are empty if the head computes its own box loss.
    """

    logits: Tensor  # float (n, classes)
    labels: Tensor  # after assignment, int64 (n,); those in [0, classes) are positives
    weights: Tensor  # 0 for ignored predictions, else 1, float (n,)
    index: Tensor  # positions of the positives, int64 (p,)
    boxes: Tensor  # decoded boxes of the positives, float (p, 4), with the regressor's gradient
    targets: Tensor  # their ground-truth boxes, float (p, 4)
    avg_factor: Tensor | float  # normaliser of the head's classification loss: its number of positives

    def flat_targets(self, quality: Tensor | None = None) -> Tensor:
        """Targets of ``logits.reshape(-1)`` for a ranking loss, (n * classes,); see `flatten_targets`."""
        return flatten_targets(self.labels, self.logits.shape[1], self.weights, quality)

    def quality(self) -> Tensor:
        """IoU of each positive's box with its ground truth, 0 for the others, (n,), without gradient."""
        ious = aligned_ious(self.boxes.detach(), self.targets).clamp(max=1)
        return ious.new_zeros(len(self.labels)).index_copy_(0, self.index, ious)

    def best_scores(self) -> Tensor:
        """Highest class probability of each positive, (p,), without gradient: the weight of its box."""
        return self.logits.detach()[self.index].sigmoid().amax(dim=1)


class DeferredLossMixin(ABC):
    """A dense head that computes the losses named in ``deferred`` once, over all levels and images.

    It precedes the plain head and the mixin of Correlation Loss, which observes the head's calls as usual. A
    subclass defines the losses in `batch_losses`.
    """

    deferred: tuple[str, ...] = ("loss_cls", "loss_bbox")

    def loss_by_feat(self, *args, **kwargs) -> dict:
        """The losses of the head with the deferred ones in place of its own; arguments as in mmdet."""
        with deferred_losses(self, self.deferred) as calls:
            losses = super().loss_by_feat(*args, **kwargs)
        computed = self.batch_losses(collect_predictions(calls, self))
        if "loss_bbox" in computed:
            # The recorded losses are zeros that depend on all predictions: the parameters of a level without
            # positives still get a gradient, which distributed training requires.
            recorded = losses["loss_bbox"]  # one tensor, or one for each level
            zero = recorded if isinstance(recorded, Tensor) else sum(recorded)
            computed["loss_bbox"] = computed["loss_bbox"] + zero
        return {name: loss for name, loss in losses.items() if name not in self.deferred} | computed

    @abstractmethod
    def batch_losses(self, batch: Predictions) -> dict[str, Tensor]:
        """The deferred losses by name, scalars."""


class CandidateLossMixin:
    """PAA whose ``loss_cls`` has no value for a single candidate, as PAA's reassignment needs.

    Args:
        loss_candidates: Config of the loss that replaces ``loss_cls`` in the reassignment.
    """

    def __init__(self, *args, loss_candidates: dict, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.loss_candidates = MODELS.build(loss_candidates)

    def get_pos_loss(self, *args, **kwargs) -> tuple:
        """Loss of each candidate of an image, as in mmdet."""
        with replaced_attribute(self, "loss_cls", self.loss_candidates):
            return super().get_pos_loss(*args, **kwargs)


class _RecordingLoss(nn.Module):
    """Replaces a loss module: records its arguments and returns zero."""

    def __init__(self, name: str, loss: nn.Module, calls: list[LossCall]) -> None:
        super().__init__()
        self.name, self.loss, self.calls = name, loss, calls

    def forward(
        self, pred: Tensor, target: Tensor, weight=None, avg_factor=None, reduction_override=None
    ) -> Tensor:
        if reduction_override is not None:  # losses of single candidates, for PAA's reassignment
            return self.loss(pred, target, weight, avg_factor, reduction_override)
        self.calls.append(LossCall(self.name, pred, target, weight, avg_factor))
        return pred.sum() * 0


@contextmanager
def deferred_losses(head: nn.Module, names: Sequence[str]) -> Iterator[list[LossCall]]:
    """Record the calls of the losses called ``names`` of ``head`` instead of computing them, in a list."""
    calls: list[LossCall] = []
    with ExitStack() as stack:
        for name in names:
            recorder = _RecordingLoss(name, getattr(head, name), calls)
            stack.enter_context(replaced_attribute(head, name, recorder))
        yield calls


def collect_predictions(calls: list[LossCall], head: nn.Module) -> Predictions:
    """Join the recorded arguments of a head's losses.

    Args:
        calls: Of ``loss_cls``, with all predictions, and possibly of ``loss_bbox``, with all predictions or
            the positives.
        head: The head.

    Raises:
        PositivesError: The number of boxes is neither that of the predictions nor that of the positives.
    """
    classified = [call for call in calls if call.name == "loss_cls"]
    box_calls = [call for call in calls if call.name == "loss_bbox"]
    logits = torch.cat([call.pred for call in classified])
    labels = torch.cat([call.target for call in classified])
    index = positive_index(labels, head.num_classes)
    none = logits.new_zeros(0, 4)
    boxes = torch.cat([none, *(call.pred for call in box_calls)])
    targets = torch.cat([none, *(call.target for call in box_calls)])
    if box_calls and len(boxes) == len(labels):
        boxes, targets = boxes[index], targets[index]
    if box_calls and len(boxes) != len(index):
        raise PositivesError(
            head,
            f"expected loss_bbox to be called with {len(index)} boxes (those of the positives) or all "
            f"{len(labels)} of the predictions, got {len(boxes)}",
        )
    weights = torch.cat([call.weight for call in classified])
    return Predictions(logits, labels, weights, index, boxes, targets, classified[0].avg_factor)
