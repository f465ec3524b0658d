"""Losses of the whole batch at once, in heads that call theirs level by level or before the boxes are known.

A ranking loss compares every prediction of a batch with every other; Quality Focal Loss has the IoU of the
decoded box as its target. mmdet's heads call ``self.loss_cls`` once a level, before they decode a box. So the
head runs as it is, with stand-ins that write down what they are called with and give zero, and the losses are
computed afterwards, from all that was written down.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from mmdet.registry import MODELS
from torch import Tensor, nn

from corrloss.heads.observe import LossCall
from corrloss.heads.positives import aligned_ious, positive_index
from corrloss.ranking import flatten_targets


@dataclass(frozen=True)
class Predictions:
    """All predictions of a batch, and the boxes of its positives, in the order in which the head has them.

    Attributes:
        logits: Classification logits, float (n, classes).
        labels: Labels after assignment, int64 (n,); those in [0, classes) are positives.
        weights: 0 for predictions to be ignored, else 1, float (n,).
        index: Positions of the positives, int64 (p,).
        boxes: Their decoded boxes, float (p, 4); carry the regressor's gradient. Empty where the head
            computes its own box loss.
        targets: Ground-truth boxes of the positives, float (p, 4), empty likewise.
        avg_factor: What the head divides its classification loss by: its number of positives.
    """

    logits: Tensor
    labels: Tensor
    weights: Tensor
    index: Tensor
    boxes: Tensor
    targets: Tensor
    avg_factor: Tensor | float

    def flat_targets(self, quality: Tensor | None = None) -> Tensor:
        """Targets of ``logits.reshape(-1)`` for a ranking loss, (n * classes,).

        Args:
            quality: Of each prediction, (n,), what a positive's target is in place of 1.
        """
        return flatten_targets(self.labels, self.logits.shape[1], self.weights, quality)

    def quality(self) -> Tensor:
        """IoU of each positive's box with its ground truth, 0 for the others, (n,), without gradient."""
        ious = aligned_ious(self.boxes.detach(), self.targets).clamp(max=1)
        return ious.new_zeros(len(self.labels)).index_copy_(0, self.index, ious)

    def best_scores(self) -> Tensor:
        """Highest class probability of each positive, (p,), without gradient: the weight of its box."""
        return self.logits.detach()[self.index].sigmoid().amax(dim=1)


class DeferredLossMixin(ABC):
    """A dense head that computes the losses called ``deferred`` once, over all levels and images.

    It comes before the classes of the plain head and of Correlation Loss, which sees the head's own calls as
    ever. A subclass says by :meth:`batch_losses` what the losses are.
    """

    deferred: tuple[str, ...] = ("loss_cls", "loss_bbox")

    def loss_by_feat(self, *args, **kwargs) -> dict:
        """The losses of the head with the deferred ones in place of its own; arguments as in mmdet."""
        with deferred_losses(self, self.deferred) as calls:
            losses = super().loss_by_feat(*args, **kwargs)
        computed = self.batch_losses(gathered(calls, self.num_classes))
        if "loss_bbox" in computed:
            # Zeros that the head takes from all its predictions: where a level has no positive, its
            # parameters still get a gradient, which distributed training waits for.
            computed["loss_bbox"] = computed["loss_bbox"] + total(losses["loss_bbox"])
        return {name: loss for name, loss in losses.items() if name not in self.deferred} | computed

    @abstractmethod
    def batch_losses(self, batch: Predictions) -> dict[str, Tensor]:
        """The deferred losses by name, scalars."""


class CandidateLossMixin:
    """PAA with a classification loss that cannot tell what one candidate costs, as its reassignment asks.

    Args:
        loss_candidates: Config of the loss that stands in for ``loss_cls`` there.
    """

    def __init__(self, *args, loss_candidates: dict, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.loss_candidates = MODELS.build(loss_candidates)

    def get_pos_loss(self, *args, **kwargs) -> tuple:
        """Cost of each candidate of an image, as in mmdet."""
        with replaced(self, "loss_cls", self.loss_candidates):
            return super().get_pos_loss(*args, **kwargs)


class _Deferred(nn.Module):
    """Stands where a loss was: writes its calls down and gives zero."""

    def __init__(self, name: str, loss: nn.Module, calls: list[LossCall]) -> None:
        super().__init__()
        self.name = name
        self.loss = loss
        self.calls = calls

    def forward(
        self, pred: Tensor, target: Tensor, weight=None, avg_factor=None, reduction_override=None
    ) -> Tensor:
        if reduction_override is not None:  # asked about candidates, as by PAA's reassignment
            return self.loss(pred, target, weight, avg_factor, reduction_override)
        self.calls.append(LossCall(self.name, pred, target, weight, avg_factor))
        return pred.sum() * 0


@contextmanager
def deferred_losses(head: nn.Module, names: Sequence[str]) -> Iterator[list[LossCall]]:
    """Let ``head`` write down its calls of the losses called ``names`` instead of computing them.

    Yields:
        A list that fills while the block runs.
    """
    calls: list[LossCall] = []
    with ExitStack() as stack:
        for name in names:
            stack.enter_context(replaced(head, name, _Deferred(name, getattr(head, name), calls)))
        yield calls


@contextmanager
def replaced(head: nn.Module, name: str, module: nn.Module) -> Iterator[None]:
    """Put ``module`` in the place ``name`` of ``head`` while the block runs."""
    original = getattr(head, name)
    setattr(head, name, module)
    try:
        yield
    finally:
        setattr(head, name, original)


def gathered(calls: list[LossCall], num_classes: int) -> Predictions:
    """Put together what a head would have called its losses with.

    Args:
        calls: Of ``loss_cls``, on all predictions, and perhaps of ``loss_bbox``, on all or on the positives.
        num_classes: Foreground classes of the head.

    Raises:
        RuntimeError: The head calls its losses in another way.
    """
    classified = [call for call in calls if call.name == "loss_cls"]
    located = [call for call in calls if call.name == "loss_bbox"]
    logits = torch.cat([call.pred for call in classified])
    labels = torch.cat([call.target for call in classified])
    index = positive_index(labels, num_classes)
    boxes = torch.cat([logits.new_zeros(0, 4), *(call.pred for call in located)])
    targets = torch.cat([logits.new_zeros(0, 4), *(call.target for call in located)])
    if located and len(boxes) == len(labels):
        boxes, targets = boxes[index], targets[index]
    if located and len(boxes) != len(index):
        raise RuntimeError(
            f"the head has {len(labels)} predictions and {len(index)} positives, but showed {len(boxes)} "
            "boxes to its loss_bbox: corrloss.heads.deferred does not fit this head"
        )
    return Predictions(
        logits=logits,
        labels=labels,
        weights=torch.cat([call.weight for call in classified]),
        index=index,
        boxes=boxes,
        targets=targets,
        avg_factor=classified[0].avg_factor,
    )


def total(losses: Tensor | list[Tensor]) -> Tensor:
    """Sum of a loss that a head gives as one tensor or as one a level."""
    return losses if isinstance(losses, Tensor) else sum(losses)
