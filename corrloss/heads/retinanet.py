"""RetinaNet (Lin et al. 2017) and other anchor heads of mmdet with Correlation Loss."""

from mmdet.models.dense_heads import RetinaHead
from mmdet.registry import MODELS
from torch import Tensor

from corrloss.heads.mixin import EncodedBoxMixin


class AnchorCorrelationMixin(EncodedBoxMixin):
    """For heads with the losses of mmdet's ``AnchorHead``; positives are the anchors matched to a box."""

    def loss_by_feat_single(self, cls_score: Tensor, bbox_pred: Tensor, *targets, **kwargs) -> tuple:
        """Losses of one level, as in mmdet; collects its positives."""
        anchors, labels, _, bbox_targets = targets[:4]
        self._collect(
            cls_score.permute(0, 2, 3, 1).reshape(-1, self.cls_out_channels),
            bbox_pred.permute(0, 2, 3, 1).reshape(-1, self.bbox_coder.encode_size),
            anchors.reshape(-1, 4),
            labels.reshape(-1),
            bbox_targets.reshape(-1, 4),
        )
        return super().loss_by_feat_single(cls_score, bbox_pred, *targets, **kwargs)


@MODELS.register_module()
class CorrelationRetinaHead(AnchorCorrelationMixin, RetinaHead):
    """mmdet's RetinaHead. The release computes the coefficient of each feature level (``scope="level"``)."""
