"""Sparse R-CNN (Sun et al. 2021) with Correlation Loss at each stage."""

from mmdet.models.roi_heads.bbox_heads import DIIHead
from mmdet.registry import MODELS
from torch import Tensor

from corrloss.heads.head_positives import query_loss
from corrloss.heads.observe import add_loss


@MODELS.register_module()
class CorrelationDIIHead(DIIHead):
    """mmdet's DIIHead; its positives are the proposals that Hungarian matching assigned to a box.

    There is one head per stage, so each stage adds its own loss, as in the release.

    Args:
        loss_corr: Config of `corrloss.CorrelationLoss`, or None for the plain detector.
    """

    def __init__(self, *args, loss_corr: dict | None = None, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        add_loss(self, loss_corr)

    def loss_and_target(self, cls_score: Tensor, bbox_pred: Tensor, sampling_results: list, *args, **kwargs):
        """Losses of one stage, as in mmdet, and ``loss_corr`` over its positives."""
        result = super().loss_and_target(cls_score, bbox_pred, sampling_results, *args, **kwargs)
        if self.loss_corr is None:
            return result
        labels, _, targets, _ = result["bbox_targets"]
        matched = [sampled.pos_inds for sampled in sampling_results]
        result["loss_bbox"]["loss_corr"] = query_loss(self, cls_score, bbox_pred, labels, targets, matched)
        return result
