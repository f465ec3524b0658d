"""One mixin that gives a dense mmdet head the Correlation Loss, and the two ways to see its positives."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from mmdet.registry import MODELS
from torch import Tensor

from corrloss.heads.observe import LossCall, observed_losses
from corrloss.heads.positives import (
    Positives,
    PositivesError,
    aligned_ious,
    for_ious,
    matched_scores,
    positive_index,
)


class PositivesCollector:
    """Gathers the positives of one call of ``loss_by_feat``, part by part.

    What can be computed for all of them at once is left for the end: detectors are small at times, and a
    feature level has few positives.

    Args:
        num_classes: Foreground classes of the head; labels in ``[0, num_classes)`` are positives.
        use_sigmoid: How the head turns logits into scores, see :func:`matched_scores`.
        sizes: Predictions of one image at each feature level.
        num_images: Images in the batch.
        level_major: Order in which the head flattens its predictions, see :func:`locate`.
        head: Name of the head, for messages.
    """

    def __init__(
        self,
        num_classes: int,
        use_sigmoid: bool | None,
        sizes: list[int],
        num_images: int,
        level_major: bool,
        head: str = "the head",
    ) -> None:
        self.num_classes = num_classes
        self.use_sigmoid = use_sigmoid
        self.sizes = sizes
        self.num_images = num_images
        self.level_major = level_major
        self.head = head
        self._offset = 0
        self._parts: list[tuple[Tensor, ...]] = []

    def add(
        self,
        logits: Tensor,
        labels: Tensor,
        rows_at: Callable[[Tensor], tuple[Tensor, ...]],
        index: Tensor | None = None,
    ) -> None:
        """Add the positives among the next ``len(labels)`` predictions.

        Args:
            logits: Classification logits of these predictions, shape (n, classes).
            labels: Their labels after assignment, int64, shape (n,).
            rows_at: Maps the positions of the positives to what their IoUs are computed from, a row each.
            index: The positions of the positives, int64, where they are known.
        """
        if index is None:
            index = positive_index(labels, self.num_classes)
        scores = matched_scores(logits, index, labels[index], self.use_sigmoid)
        self._parts.append((scores, index + self._offset, *rows_at(index)))
        self._offset += len(labels)

    def positives(self, ious_of: Callable[..., Tensor]) -> Positives:
        """All positives added so far.

        Args:
            ious_of: Maps what ``rows_at`` gave, rows of all parts put together, to IoUs.

        Raises:
            PositivesError: The parts do not add up to the head's predictions, so levels and images
                could not be told apart.
        """
        expected = sum(self.sizes) * self.num_images
        if self._offset != expected:
            raise PositivesError(
                self.head, f"showed {self._offset} predictions to its losses, but has {expected}"
            )
        scores, index, *rows = (torch.cat(parts) for parts in zip(*self._parts, strict=True))
        return Positives(scores, ious_of(*rows), index, self.sizes, self.num_images, self.level_major)


class CorrelationMixin:
    """Adds ``loss_corr`` to what a dense head's ``loss_by_feat`` returns.

    A subclass says how to see the positives by :meth:`_losses_and_positives`. Without ``loss_corr``
    the head is mmdet's own, untouched.

    Args:
        loss_corr: Config of :class:`corrloss.CorrelationLoss`, or None for the plain detector.
    """

    level_major = True

    def __init__(self, *args, loss_corr: dict | None = None, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.loss_corr = None if loss_corr is None else MODELS.build(loss_corr)

    def loss_by_feat(self, cls_scores: list[Tensor], *args, **kwargs) -> dict:
        """The detector's losses, and ``loss_corr`` over its positives; arguments as in mmdet."""
        if self.loss_corr is None:
            return self._detector_losses(cls_scores, *args, **kwargs)
        losses, positives = self._losses_and_positives(cls_scores, *args, **kwargs)
        pools = positives.pools(self.loss_corr.scope)
        losses["loss_corr"] = self.loss_corr(positives.scores, positives.ious, **pools)
        return losses

    def _detector_losses(self, cls_scores: list[Tensor], *args, **kwargs) -> dict:
        return super().loss_by_feat(cls_scores, *args, **kwargs)

    def _collector(self, cls_scores: Sequence[Tensor]) -> PositivesCollector:
        sizes = [score[0].numel() // self.cls_out_channels for score in cls_scores]
        return PositivesCollector(
            self.num_classes,
            self.use_sigmoid_cls,
            sizes,
            len(cls_scores[0]),
            self.level_major,
            type(self).__name__,
        )


class DecodedBoxMixin(CorrelationMixin):
    """For heads whose ``loss_bbox`` is called on boxes: those of the positives alone, or of all predictions.

    A batch (or level) without positives may leave ``loss_bbox`` out; each of its calls belongs to
    the call of ``loss_cls`` before it. The target of ``loss_cls`` is the labels, or a tuple that starts
    with them.
    """

    classification_losses = ("loss_cls",)

    def _losses_and_positives(self, cls_scores: list[Tensor], *args, **kwargs) -> tuple[dict, Positives]:
        with observed_losses(self, (*self.classification_losses, "loss_bbox")) as calls:
            losses = self._detector_losses(cls_scores, *args, **kwargs)
        return losses, self._positives_of(calls, self._collector(cls_scores))

    def _positives_of(self, calls: list[LossCall], collector: PositivesCollector) -> Positives:
        for call, following in zip(calls, [*calls[1:], None], strict=True):
            if call.name in self.classification_losses:
                logits, labels = self._logits_and_labels(call)
                boxes, targets = self._boxes_from(following, logits)
                of_all = len(boxes) == len(labels)  # predictions, not of the positives alone
                index = positive_index(labels, self.num_classes, None if of_all else len(boxes))
                if of_all:
                    boxes, targets = boxes[index], targets[index]
                elif len(index) != len(boxes):
                    raise PositivesError(
                        self, f"has {len(index)} positives, but its loss_bbox saw {len(boxes)} boxes"
                    )
                collector.add(logits, labels, lambda _, rows=(boxes, targets): rows, index)
        return collector.positives(self.ious_of)

    def _logits_and_labels(self, call: LossCall) -> tuple[Tensor, Tensor]:
        return call.pred, call.target[0] if isinstance(call.target, tuple) else call.target

    def _boxes_from(self, call: LossCall | None, like: Tensor) -> tuple[Tensor, Tensor]:
        if call is not None and call.name == "loss_bbox":
            return for_ious(call.pred, self.loss_corr), call.target
        return like.new_zeros(0, 4), like.new_zeros(0, 4)

    def ious_of(self, boxes: Tensor, targets: Tensor) -> Tensor:
        """IoUs from what ``loss_bbox`` sees: shapes (n, 4) and (n, 4) to (n,)."""
        return aligned_ious(boxes, targets)


class EncodedBoxMixin(CorrelationMixin):
    """For anchor heads whose ``loss_bbox`` is called on the predictions of all anchors."""

    _open_collector: PositivesCollector | None = None

    def _losses_and_positives(self, cls_scores: list[Tensor], *args, **kwargs) -> tuple[dict, Positives]:
        self._open_collector = collector = self._collector(cls_scores)
        try:
            losses = self._detector_losses(cls_scores, *args, **kwargs)
        finally:
            self._open_collector = None
        return losses, collector.positives(self.ious_of)

    def _collect(
        self, logits: Tensor, offsets: Tensor, anchors: Tensor, labels: Tensor, targets: Tensor
    ) -> None:
        """Add the positives of one level or image; all arguments flattened to one row an anchor."""
        if self._open_collector is not None:
            offsets = for_ious(offsets, self.loss_corr)
            self._open_collector.add(
                logits, labels, lambda index: (anchors[index], offsets[index], targets[index])
            )

    def ious_of(self, anchors: Tensor, offsets: Tensor, targets: Tensor) -> Tensor:
        """IoUs of the decoded boxes: shapes (n, 4), (n, 4), (n, 4) to (n,)."""
        decode = self.bbox_coder.decode
        if self.reg_decoded_bbox:  # targets are boxes: the box loss takes boxes, as GIoU does
            return aligned_ious(decode(anchors, offsets), targets)
        both = decode(torch.cat([anchors, anchors]), torch.cat([offsets, targets]))
        return aligned_ious(*both.chunk(2))  # two parts of nothing, too
