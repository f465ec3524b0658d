"""RetinaNet trained with AP Loss (Chen et al. 2019), with Correlation Loss."""

from mmdet.registry import MODELS
from torch import Tensor

from corrloss.heads.deferred import DeferredLossMixin, Predictions
from corrloss.heads.retinanet import CorrelationRetinaHead


@MODELS.register_module()
class CorrelationAPLossRetinaHead(DeferredLossMixin, CorrelationRetinaHead):
    """mmdet's RetinaHead whose ``loss_cls`` is an ``APLoss`` over all levels and images of the batch.

    The box loss is the head's own.
    """

    deferred = ("loss_cls",)

    def batch_losses(self, batch: Predictions) -> dict[str, Tensor]:
        """``loss_cls``: one minus the average precision of the batch."""
        return {"loss_cls": self.loss_cls(batch.logits.reshape(-1), batch.flat_targets())}
