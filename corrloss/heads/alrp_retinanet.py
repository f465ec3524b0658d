"""RetinaNet trained with aLRP Loss (Oksuz et al. 2020), with Correlation Loss."""

from mmdet.registry import MODELS
from torch import Tensor

from corrloss.heads.deferred import DeferredLossMixin, Predictions
from corrloss.heads.retinanet import CorrelationRetinaHead
from corrloss.ranking import EpochBalance


class ALRPMixin(DeferredLossMixin):
    """``loss_cls`` is an ``ALRPLoss`` over all levels and images of the batch; it includes the box loss.

    ``loss_bbox`` gives the localisation error of each positive: GIoULoss on decoded boxes
    (``reg_decoded_bbox=True``), which is `(1 - GIoU) / 2 / (1 - 0.5)`.

    Args:
        balance: Arguments of `corrloss.ranking.EpochBalance`, the weight of the box loss.
    """

    def __init__(self, *args, balance: dict, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.balance = EpochBalance(**balance)

    def batch_losses(self, batch: Predictions) -> dict[str, Tensor]:
        """``loss_cls`` and ``loss_bbox``: the two components, the second one weighted."""
        # Rounding can make 1 - GIoU of an exact box slightly negative.
        errors = self.loss_bbox(batch.boxes, batch.targets, reduction_override="none").clamp(min=0)
        parts = self.loss_cls(batch.logits.reshape(-1), batch.flat_targets(), errors)
        return {"loss_cls": parts.classification, "loss_bbox": self.balance(*parts) * parts.localisation}


@MODELS.register_module()
class CorrelationALRPRetinaHead(ALRPMixin, CorrelationRetinaHead):
    """mmdet's RetinaHead trained with aLRP Loss."""
