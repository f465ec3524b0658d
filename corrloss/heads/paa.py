"""PAA (Kim and Lee 2020) with Correlation Loss, with and without its IoU branch."""

from mmdet.models.dense_heads import PAAHead
from mmdet.registry import MODELS
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData
from torch import Tensor

from corrloss.heads.auxiliary import NoAuxiliaryMixin
from corrloss.heads.mixin import DecodedBoxMixin


@MODELS.register_module()
class CorrelationPAAHead(DecodedBoxMixin, PAAHead):
    """mmdet's PAAHead; its positives are those that PAA's own reassignment keeps.

    With its IoU branch PAA scores a box by sqrt(p * IoU); ``scores`` of the positives is p.
    """

    level_major = False

    def paa_reassign(self, pos_losses: Tensor, *args, **kwargs) -> tuple:
        """As in mmdet, and in float64 where the fit of the Gaussian mixture fails in float32.

        scikit-learn squares the losses in their own precision: candidates with nearly equal, high losses can
        get a negative variance, which stops mmdet's training (open-mmlab/mmdetection#8698,
        scikit-learn/scikit-learn#30382). Where the fit succeeds in float32 the result is mmdet's.
        """
        try:
            return super().paa_reassign(pos_losses, *args, **kwargs)
        except ValueError:
            return super().paa_reassign(pos_losses.double(), *args, **kwargs)

    def _bbox_post_process(self, results: InstanceData, cfg: ConfigDict, *args, **kwargs) -> InstanceData:
        """As in mmdet, without the boxes that have no area after clipping to the image.

        mmdet's PAA ignores its own ``min_bbox_size``; score voting turns such boxes into NaN.
        """
        size = results.bboxes[:, 2:] - results.bboxes[:, :2]
        return super()._bbox_post_process(
            results[(size > cfg.min_bbox_size).all(dim=1)], cfg, *args, **kwargs
        )


@MODELS.register_module()
class CorrelationPAAHeadNoAux(NoAuxiliaryMixin, CorrelationPAAHead):
    """PAA without its IoU branch: not trained, and not part of the score at test."""

    auxiliary_loss = "loss_iou"

    def _bbox_post_process(self, results: InstanceData, *args, **kwargs) -> InstanceData:
        # mmdet computes sqrt(score * factor). With squared scores and factors of one this is the probability
        # itself, in the ranking, the score threshold and the score voting.
        results.scores = results.scores.square()
        results.score_factors = results.scores.new_ones(len(results.scores))
        return super()._bbox_post_process(results, *args, **kwargs)
