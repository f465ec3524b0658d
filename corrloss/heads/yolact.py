"""YOLACT (Bolya et al. 2019) with Correlation Loss."""

from mmdet.models.dense_heads import YOLACTHead
from mmdet.registry import MODELS
from torch import Tensor

from corrloss.heads.mixin import EncodedBoxMixin


@MODELS.register_module()
class CorrelationYOLACTHead(EncodedBoxMixin, YOLACTHead):
    """mmdet's YOLACTHead with hard-example mining; scores are softmax probabilities.

    mmdet computes the losses of this head one image at a time. The release computes the coefficient within
    each image and takes the sum (``scope="image"``, ``reduction="sum"``).
    """

    level_major = False

    def OHEMloss_by_feat_single(self, cls_score: Tensor, bbox_pred: Tensor, *targets, **kwargs) -> tuple:
        """Losses of one image, as in mmdet; collects its positives."""
        anchors, labels, _, bbox_targets = targets[:4]
        self._collect(cls_score, bbox_pred, anchors, labels, bbox_targets)
        return super().OHEMloss_by_feat_single(cls_score, bbox_pred, *targets, **kwargs)
