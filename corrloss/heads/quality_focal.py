"""ATSS and PAA with Quality Focal Loss (Li et al. 2020) and Correlation Loss, without auxiliary branch."""

from mmdet.registry import MODELS
from mmdet.utils import reduce_mean
from torch import Tensor

from corrloss.heads.atss import CorrelationATSSHeadNoAux
from corrloss.heads.deferred import CandidateLossMixin, DeferredLossMixin, Predictions
from corrloss.heads.paa import CorrelationPAAHeadNoAux


class QualityFocalMixin(DeferredLossMixin):
    """``loss_cls`` is mmdet's ``QualityFocalLoss``, whose target for a positive is the IoU of its box.

    Each positive's box loss is weighted by its highest class probability, as in mmdet's GFL.
    """

    def batch_losses(self, batch: Predictions) -> dict[str, Tensor]:
        """``loss_cls`` and ``loss_bbox``."""
        target = (batch.labels, batch.quality())
        weight = batch.best_scores()
        normaliser = reduce_mean(weight.sum()).clamp(min=1)
        return {
            "loss_cls": self.loss_cls(batch.logits, target, batch.weights, batch.avg_factor),
            "loss_bbox": self.loss_bbox(batch.boxes, batch.targets, weight, avg_factor=normaliser),
        }


@MODELS.register_module()
class CorrelationQFLATSSHead(QualityFocalMixin, CorrelationATSSHeadNoAux):
    """mmdet's ATSSHead without centerness, trained with Quality Focal Loss."""


@MODELS.register_module()
class CorrelationQFLPAAHead(CandidateLossMixin, QualityFocalMixin, CorrelationPAAHeadNoAux):
    """mmdet's PAAHead without its IoU branch, trained with Quality Focal Loss after its reassignment."""
