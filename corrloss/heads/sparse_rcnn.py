"""Sparse R-CNN (Sun et al. 2021) with Correlation Loss at each stage."""

from mmdet.models.roi_heads.bbox_heads import DIIHead
from mmdet.registry import MODELS
from torch import Tensor

from corrloss.heads.positives import aligned_ious, batch_index, for_ious, matched_scores, query_groups


@MODELS.register_module()
class CorrelationDIIHead(DIIHead):
    """mmdet's DIIHead; its positives are the proposals that Hungarian matching assigned to a box.

    There is one head per stage, so each stage adds its own loss, as in the release.

    Args:
        loss_corr: Config of `corrloss.CorrelationLoss`, or None for the plain detector.
    """

    def __init__(self, *args, loss_corr: dict | None = None, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.loss_corr = None if loss_corr is None else MODELS.build(loss_corr)

    def loss_and_target(self, cls_score: Tensor, bbox_pred: Tensor, sampling_results: list, *args, **kwargs):
        """Losses of one stage, as in mmdet, and ``loss_corr`` over its positives."""
        result = super().loss_and_target(cls_score, bbox_pred, sampling_results, *args, **kwargs)
        if self.loss_corr is None:
            return result
        labels, _, targets, _ = result["bbox_targets"]
        proposals = len(labels) // len(sampling_results)
        index = batch_index([sampled.pos_inds for sampled in sampling_results], proposals)
        result["loss_bbox"]["loss_corr"] = self.loss_corr(
            matched_scores(cls_score, index, labels[index], self.loss_cls.use_sigmoid),
            aligned_ious(for_ious(bbox_pred, self.loss_corr)[index], targets[index]),
            **query_groups(self.loss_corr.scope, index, proposals),
        )
        return result
