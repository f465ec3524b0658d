"""VarifocalNet (Zhang et al. 2021) with Correlation Loss."""

from __future__ import annotations

import torch
from mmdet.models.dense_heads import VFNetHead
from mmdet.registry import MODELS
from torch import Tensor

from corrloss.heads.head_positives import aligned_ious, check_option, for_ious, positive_index
from corrloss.heads.mixin import CorrelationMixin, PositivesCollector
from corrloss.heads.observe import observed_losses

#: Box losses whose arguments are correlated with the scores, by ``correlated_box``.
BOX_LOSSES = {
    "initial": ("loss_bbox",),
    "refined": ("loss_bbox_refine",),
    "mean": ("loss_bbox", "loss_bbox_refine"),
}


@MODELS.register_module()
class CorrelationVFNetHead(CorrelationMixin, VFNetHead):
    """mmdet's VFNetHead; its positives are the points that its assigner (ATSS) matched to a box.

    Args:
        correlated_box: The box whose IoU is correlated with the score: ``"initial"``, or ``"refined"``, the
            detector's output, whose IoU is also the target of the score. ``"mean"`` is the mean of the two
            losses, as in the release (its switch: 1, 2, 3).

    Raises:
        ValueError: ``correlated_box`` is none of these.
    """

    correlated_box = "refined"

    def __init__(self, *args, correlated_box: str = "refined", **kwargs) -> None:
        super().__init__(*args, **kwargs)
        check_option(self, "correlated_box", correlated_box, BOX_LOSSES)
        self.correlated_box = correlated_box

    def get_targets(self, *args, **kwargs) -> tuple:
        """Targets as in mmdet; keeps the labels of each level for the current step."""
        targets = super().get_targets(*args, **kwargs)
        self._labels = targets[0]
        return targets

    def _losses_with_positives(
        self, collector: PositivesCollector, cls_scores: list[Tensor], *args, **kwargs
    ) -> dict:
        with observed_losses(self, (*BOX_LOSSES[self.correlated_box], "loss_cls")) as calls:
            losses = self._detector_losses(cls_scores, *args, **kwargs)
        labels, self._labels = torch.cat(self._labels), None
        *box_calls, classified = calls
        boxes = [part for call in box_calls for part in (for_ious(call.pred, self.loss_corr), call.target)]
        if not boxes:  # mmdet does not call the box losses without positives
            boxes = [labels.new_zeros(0, 4)] * 2
        index = positive_index(labels, self.num_classes, len(boxes[0]))
        collector.add(classified.pred, labels, index, *boxes)
        return losses

    def correlation_loss(self, scores: Tensor, boxes: list[Tensor], groups: dict[str, Tensor]) -> Tensor:
        """Mean of the losses of the correlated boxes; ``boxes`` holds the boxes and the targets of each."""
        losses = [
            self.loss_corr(scores, aligned_ious(predicted, targets), **groups)
            for predicted, targets in zip(boxes[0::2], boxes[1::2], strict=True)
        ]
        return torch.stack(losses).mean()
