"""Heads of detectors in two stages (Faster and Cascade R-CNN and relatives) with Correlation Loss."""

from __future__ import annotations

import torch
from mmdet.models.roi_heads.bbox_heads import BBoxHead
from torch import Tensor

from corrloss.heads.positives import PositivesError, aligned_ious, for_ious, matched_scores


class RoICorrelationMixin:
    """Adds ``loss_corr`` to what a ``BBoxHead`` returns; a cascade has one head, and so one loss, a stage.

    Positives are the sampled proposals that were assigned to a box. Their score is the softmax probability of
    its class, their IoU that of the **decoded** box; the release takes a sigmoid of softmax logits, and the
    IoU of encoded offsets.
    """

    def check_fit(self) -> None:
        """Refuse a head of this family whose positives this mixin would not see.

        Raises:
            PositivesError: It computes its losses in a way of its own, or its scores are of another kind.
        """
        methods = (super().loss_and_target.__func__, self.loss.__func__)
        if methods != (BBoxHead.loss_and_target, BBoxHead.loss) or not (self.with_cls and self.with_reg):
            raise PositivesError(self, "does not classify and regress as mmdet's BBoxHead does")
        if self.custom_activation:
            raise PositivesError(self, f"turns logits into scores as {type(self.loss_cls).__name__} does")

    def loss_and_target(
        self, cls_score: Tensor, bbox_pred: Tensor, rois: Tensor, sampling_results: list, *args, **kwargs
    ) -> dict:
        """Losses of one stage, as in mmdet, and ``loss_corr`` over its positives."""
        result = super().loss_and_target(cls_score, bbox_pred, rois, sampling_results, *args, **kwargs)
        index, pools = _positives_of(sampling_results, self.loss_corr.scope, rois.device)
        labels = result["bbox_targets"][0][index]
        offsets = for_ious(bbox_pred, self.loss_corr)[index]
        if not self.reg_class_agnostic:
            of_class = labels * self.bbox_coder.encode_size
            columns = torch.arange(self.bbox_coder.encode_size, device=labels.device)
            offsets = offsets.gather(1, of_class[:, None] + columns)
        boxes = self.bbox_coder.decode(rois[index, 1:], offsets)
        result["loss_bbox"]["loss_corr"] = self.loss_corr(
            matched_scores(cls_score, index, labels, self.loss_cls.use_sigmoid),
            aligned_ious(boxes, torch.cat([sampled.pos_gt_bboxes for sampled in sampling_results])),
            **pools,
        )
        return result


def _positives_of(
    sampling_results: list, scope: str, device: torch.device
) -> tuple[Tensor, dict[str, Tensor]]:
    """Positions of the positives among all proposals, in each image the first, and the loss's pools."""
    start, index = 0, []
    for sampled in sampling_results:
        index.append(torch.arange(start, start + len(sampled.pos_priors), device=device))
        start += len(sampled.pos_priors) + len(sampled.neg_priors)
    pools = {}
    if scope == "image":
        pools["image"] = torch.cat([torch.full_like(some, image) for image, some in enumerate(index)])
    if scope == "level":  # proposals of all levels go through one head
        pools["level"] = torch.zeros_like(torch.cat(index))
    return torch.cat(index), pools
