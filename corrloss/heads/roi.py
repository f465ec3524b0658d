"""Heads of two-stage detectors (Faster R-CNN, Cascade R-CNN and relatives) with Correlation Loss."""

from __future__ import annotations

import torch
from mmdet.models.roi_heads.bbox_heads import BBoxHead
from torch import Tensor

from corrloss.heads.head_positives import (
    PositivesError,
    aligned_ious,
    for_ious,
    matched_scores,
    positive_index,
)


class RoICorrelationMixin:
    """Adds ``loss_corr`` to the losses of a ``BBoxHead``; a cascade has one head, and one loss, per stage.

    Positives are the sampled proposals that were assigned to a box. Their score is the softmax probability of
    its class, their IoU that of the **decoded** box. The release applies a sigmoid to softmax logits and
    computes the IoU of encoded offsets.
    """

    def check_fit(self) -> None:
        """Refuse a head of this family whose positives this mixin would miss.

        Raises:
            PositivesError: It overrides the methods that compute the losses, or its activation is not known.
        """
        methods = (super().loss_and_target.__func__, self.loss.__func__)
        if methods != (BBoxHead.loss_and_target, BBoxHead.loss) or not (self.with_cls and self.with_reg):
            raise PositivesError(self, "overrides the losses of mmdet's BBoxHead or lacks a branch")
        if self.custom_activation:
            raise PositivesError(self, f"the activation of {type(self.loss_cls).__name__} is not known")

    def loss_and_target(
        self, cls_score: Tensor, bbox_pred: Tensor, rois: Tensor, sampling_results: list, *args, **kwargs
    ) -> dict:
        """Losses of one stage, as in mmdet, and ``loss_corr`` over its positives."""
        result = super().loss_and_target(cls_score, bbox_pred, rois, sampling_results, *args, **kwargs)
        labels = result["bbox_targets"][0]
        counts = [len(sampled.pos_priors) for sampled in sampling_results]
        image = torch.cat([labels.new_full((count,), number) for number, count in enumerate(counts)])
        groups = {"batch": {}, "image": {"image": image}, "level": {"level": torch.zeros_like(image)}}
        index = positive_index(labels, self.num_classes, sum(counts))
        labels = labels[index]
        offsets = for_ious(bbox_pred, self.loss_corr)[index]
        if not self.reg_class_agnostic:
            of_class = labels * self.bbox_coder.encode_size
            columns = torch.arange(self.bbox_coder.encode_size, device=labels.device)
            offsets = offsets.gather(1, of_class[:, None] + columns)
        boxes = self.bbox_coder.decode(rois[index, 1:], offsets)
        result["loss_bbox"]["loss_corr"] = self.loss_corr(
            matched_scores(cls_score, index, labels, self.loss_cls.use_sigmoid),
            aligned_ious(boxes, torch.cat([sampled.pos_gt_bboxes for sampled in sampling_results])),
            **groups[self.loss_corr.scope],  # proposals of all levels go through one head
        )
        return result
