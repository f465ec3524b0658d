"""RetinaNet trained with AP Loss (Chen et al. 2019), with Correlation Loss."""

from mmdet.registry import MODELS
from torch import Tensor

from corrloss.heads.deferred import DeferredLossMixin, Predictions
from corrloss.heads.retinanet import CorrelationRetinaHead


class APLossMixin(DeferredLossMixin):
    """``loss_cls`` is an ``APLoss`` over all levels and images of the batch; the box loss is mmdet's."""

    deferred = ("loss_cls",)

    def batch_losses(self, batch: Predictions) -> dict[str, Tensor]:
        """``loss_cls``: one minus the average precision of the batch."""
        return {"loss_cls": self.loss_cls(batch.logits.reshape(-1), batch.flat_targets())}


@MODELS.register_module()
class CorrelationAPLossRetinaHead(APLossMixin, CorrelationRetinaHead):
    """mmdet's RetinaHead trained with AP Loss."""
