"""The mixin that adds Correlation Loss to a dense mmdet head, and two ways to find the head's positives."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from corrloss.heads.head_positives import (
    PositivesError,
    aligned_ious,
    for_ious,
    locate,
    matched_scores,
    positive_index,
)
from corrloss.heads.observe import LossCall, add_loss, observed_losses


class CorrelationMixin:
    """Adds ``loss_corr`` to the losses that a dense head's ``loss_by_feat`` returns.

    A subclass defines ``_losses_with_positives(collector, ...)``, which returns the detector's losses and
    adds all predictions of the batch to the collector. Without ``loss_corr`` the head is mmdet's own.

    Args:
        loss_corr: Config of `corrloss.CorrelationLoss`, or None for the plain detector.
    """

    level_major = True  # order of the flattened predictions, see `locate`

    def __init__(self, *args, loss_corr: dict | None = None, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        add_loss(self, loss_corr)

    def loss_by_feat(self, cls_scores: list[Tensor], *args, **kwargs) -> dict:
        """The detector's losses, and ``loss_corr`` over its positives; arguments as in mmdet."""
        if self.loss_corr is None:
            return self._detector_losses(cls_scores, *args, **kwargs)
        collector = self._collector(cls_scores)
        losses = self._losses_with_positives(collector, cls_scores, *args, **kwargs)
        losses["loss_corr"] = self.correlation_loss(*collector.positives(self.loss_corr.scope))
        return losses

    def correlation_loss(self, scores: Tensor, boxes: list[Tensor], groups: dict[str, Tensor]) -> Tensor:
        """Correlation Loss of the positives of one batch.

        Args:
            scores: Probability of the matched class, shape (n,), in [0, 1].
            boxes: What `ious_of` takes, each of shape (n, 4).
            groups: ``level`` or ``image`` of each positive, int64 (n,), where the loss needs it.
        """
        return self.loss_corr(scores, self.ious_of(*boxes), **groups)

    def _detector_losses(self, cls_scores: list[Tensor], *args, **kwargs) -> dict:
        return super().loss_by_feat(cls_scores, *args, **kwargs)

    def _collector(self, cls_scores: Sequence[Tensor]) -> PositivesCollector:
        sizes = [score[0].numel() // self.cls_out_channels for score in cls_scores]
        name = type(self).__name__
        return PositivesCollector(self.use_sigmoid_cls, sizes, len(cls_scores[0]), self.level_major, name)


class PositivesCollector:
    """Collects the positives of one call of ``loss_by_feat``, one level or image at a time.

    For ``use_sigmoid`` see `matched_scores`, for the sizes and order of the predictions `locate`; ``head`` is
    a name for error messages.
    """

    def __init__(
        self, use_sigmoid: bool | None, sizes: list[int], num_images: int, level_major: bool,
        head: str = "the head",
    ) -> None:  # fmt: skip
        self.use_sigmoid, self.head = use_sigmoid, head
        self.sizes, self.num_images, self.level_major = sizes, num_images, level_major
        self._n_predictions = 0
        self._parts: list[tuple[Tensor, ...]] = []

    def add(self, logits: Tensor, labels: Tensor, index: Tensor, *boxes: Tensor) -> None:
        """Add the p positives among the next n predictions.

        Args:
            logits: Of these predictions, (n, classes).
            labels: After assignment, int64 (n,).
            index: Positions of the positives, int64 (p,).
            boxes: What the IoUs of the positives are computed from, each (p, 4).
        """
        scores = matched_scores(logits, index, labels[index], self.use_sigmoid)
        self._parts.append((scores, index + self._n_predictions, *boxes))
        self._n_predictions += len(labels)

    def positives(self, scope: str) -> tuple[Tensor, list[Tensor], dict[str, Tensor]]:
        """The arguments of `CorrelationMixin.correlation_loss` for all positives added so far.

        Args:
            scope: ``scope`` of the loss: ``"batch"``, ``"level"`` or ``"image"``.

        Raises:
            PositivesError: The parts do not add up to the head's predictions, so that the level and the image
                of a positive are unknown.
        """
        expected = sum(self.sizes) * self.num_images
        if self._n_predictions != expected:
            raise PositivesError(
                self.head,
                f"expected its losses to be called with all {expected} predictions, but they were called "
                f"with {self._n_predictions}",
            )
        scores, index, *boxes = (torch.cat(parts) for parts in zip(*self._parts, strict=True))
        if scope == "batch":
            return scores, boxes, {}
        level, image = locate(index, self.sizes, self.num_images, self.level_major)
        return scores, boxes, {"level": level} if scope == "level" else {"image": image}


class DecodedBoxMixin(CorrelationMixin):
    """For heads whose ``loss_bbox`` is called with decoded boxes, of the positives or of all predictions.

    The positives are read from the arguments of the head's own losses. A level without positives may leave
    ``loss_bbox`` out; each of its calls belongs to the call of ``loss_cls`` before it. The target of
    ``loss_cls`` is the labels, or a tuple that starts with them.
    """

    classification_losses = ("loss_cls",)

    def _losses_with_positives(self, collector: PositivesCollector, *args, **kwargs) -> dict:
        with observed_losses(self, (*self.classification_losses, "loss_bbox")) as calls:
            losses = self._detector_losses(*args, **kwargs)
        self._add_positives(calls, collector)
        return losses

    def _add_positives(self, calls: list[LossCall], collector: PositivesCollector) -> None:
        for call, following in zip(calls, [*calls[1:], None], strict=True):
            if call.name in self.classification_losses:
                logits, labels = self._logits_and_labels(call)
                boxes = targets = logits.new_zeros(0, 4)
                if following is not None and following.name == "loss_bbox":
                    boxes, targets = for_ious(following.pred, self.loss_corr), following.target
                collector.add(logits, labels, *self._matched(labels, boxes, targets))

    def _matched(self, labels: Tensor, boxes: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Positions of the positives, their boxes and the targets of these."""
        if len(boxes) == len(labels):  # boxes of all predictions
            index = positive_index(labels, self.num_classes)
            return index, boxes[index], targets[index]
        index = positive_index(labels, self.num_classes, count=len(boxes))
        if len(index) != len(boxes):
            raise PositivesError(
                self, f"has {len(index)} positives, but its loss_bbox was called with {len(boxes)} boxes"
            )
        return index, boxes, targets

    def _logits_and_labels(self, call: LossCall) -> tuple[Tensor, Tensor]:
        return call.pred, call.target[0] if isinstance(call.target, tuple) else call.target

    def ious_of(self, boxes: Tensor, targets: Tensor) -> Tensor:
        """IoUs of the arguments of ``loss_bbox``: shapes (n, 4) and (n, 4) to (n,)."""
        return aligned_ious(boxes, targets)


class EncodedBoxMixin(CorrelationMixin):
    """For anchor heads whose ``loss_bbox`` is called with offsets, or with the boxes of all anchors.

    A subclass overrides the method of mmdet that computes the losses of one level or image, and calls
    `_collect` there.
    """

    _open_collector: PositivesCollector | None = None

    def _losses_with_positives(self, collector: PositivesCollector, *args, **kwargs) -> dict:
        self._open_collector = collector
        try:
            return self._detector_losses(*args, **kwargs)
        finally:
            self._open_collector = None

    def _collect(
        self, logits: Tensor, offsets: Tensor, anchors: Tensor, labels: Tensor, targets: Tensor
    ) -> None:
        """Add the positives of one level or image; each argument has one row for each anchor."""
        if self._open_collector is not None:
            index = positive_index(labels, self.num_classes)
            offsets = for_ious(offsets, self.loss_corr)
            self._open_collector.add(logits, labels, index, anchors[index], offsets[index], targets[index])

    def ious_of(self, anchors: Tensor, offsets: Tensor, targets: Tensor) -> Tensor:
        """IoUs of the decoded boxes: shapes (n, 4), (n, 4), (n, 4) to (n,)."""
        decode = self.bbox_coder.decode
        if self.reg_decoded_bbox:  # the targets are boxes, as for GIoULoss
            return aligned_ious(decode(anchors, offsets), targets)
        both = decode(torch.cat([anchors, anchors]), torch.cat([offsets, targets]))
        return aligned_ious(*both.chunk(2))  # two parts of nothing, too
