"""VarifocalNet (Zhang et al. 2021) with Correlation Loss."""

from __future__ import annotations

import torch
from mmdet.models.dense_heads import VFNetHead
from mmdet.registry import MODELS
from torch import Tensor

from corrloss.heads.mixin import CorrelationMixin
from corrloss.heads.observe import observed_losses
from corrloss.heads.positives import Positives, aligned_ious, for_ious, positive_index

BOXES = {"initial": ("loss_bbox",), "refined": ("loss_bbox_refine",)}
BOXES["mean"] = BOXES["initial"] + BOXES["refined"]


@MODELS.register_module()
class CorrelationVFNetHead(CorrelationMixin, VFNetHead):
    """mmdet's VFNetHead; its positives are the points that its assigner (ATSS) gave to a box.

    Args:
        correlated_box: Whose IoU is correlated with the score: that of the ``"initial"`` box, of the
            ``"refined"`` one, which the detector predicts and whose IoU the score is trained to be, or the
            ``"mean"`` of the two. The release has the same choice.

    Raises:
        ValueError: ``correlated_box`` is none of these.
    """

    def __init__(self, *args, correlated_box: str = "refined", **kwargs) -> None:
        super().__init__(*args, **kwargs)
        if correlated_box not in BOXES:
            raise ValueError(
                f"{type(self).__name__}: correlated_box must be one of {', '.join(BOXES)}, "
                f"got {correlated_box!r}"
            )
        self.correlated_box = correlated_box

    def get_targets(self, *args, **kwargs) -> tuple:
        """Targets as in mmdet; notes the labels of each level."""
        targets = super().get_targets(*args, **kwargs)
        self._labels = targets[0]
        return targets

    def _losses_and_positives(self, cls_scores: list[Tensor], *args, **kwargs) -> tuple[dict, Positives]:
        with observed_losses(self, (*BOXES[self.correlated_box], "loss_cls")) as calls:
            losses = self._detector_losses(cls_scores, *args, **kwargs)
        labels, self._labels = torch.cat(self._labels), None
        *of_boxes, classified = calls
        rows = [part for call in of_boxes for part in (for_ious(call.pred, self.loss_corr), call.target)]
        rows = rows or [labels.new_zeros(0, 4)] * 2  # the box losses are not called without positives
        index = positive_index(labels, self.num_classes, len(rows[0]))
        collector = self._collector(cls_scores)
        collector.add(classified.pred, labels, lambda _: rows, index)
        return losses, collector.positives(self.ious_of)

    def ious_of(self, *rows: Tensor) -> Tensor:
        """IoU of the boxes that ``correlated_box`` names, the mean where there are two.

        Args:
            rows: Boxes and their targets, and again, each of shape (n, 4).
        """
        ious = [aligned_ious(boxes, targets) for boxes, targets in zip(rows[0::2], rows[1::2], strict=True)]
        return torch.stack(ious).mean(dim=0)
