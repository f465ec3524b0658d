"""RetinaNet, ATSS and PAA trained with ranking losses or Quality Focal Loss, with Correlation Loss.

ATSS and PAA are without their auxiliary branch here.
"""

from mmdet.registry import MODELS
from mmdet.utils import reduce_mean
from torch import Tensor

from corrloss.heads.atss import CorrelationATSSHeadNoAux
from corrloss.heads.deferred import CandidateLossMixin, DeferredLossMixin, Predictions
from corrloss.heads.paa import CorrelationPAAHeadNoAux
from corrloss.heads.retinanet import CorrelationRetinaHead
from corrloss.ranking import EpochBalance, value_balance


class APLossMixin(DeferredLossMixin):
    """``loss_cls`` is an ``APLoss`` (Chen et al. 2019) over the batch; the box loss is mmdet's."""

    deferred = ("loss_cls",)

    def batch_losses(self, batch: Predictions) -> dict[str, Tensor]:
        """``loss_cls``: one minus the average precision of the batch."""
        return {"loss_cls": self.loss_cls(batch.logits.reshape(-1), batch.flat_targets())}


class ALRPMixin(DeferredLossMixin):
    """``loss_cls`` is an ``ALRPLoss`` (Oksuz et al. 2020) over the batch; it includes the box loss.

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


class RankSortMixin(DeferredLossMixin):
    """``loss_cls`` is a ``RankSortLoss`` (Oksuz et al. 2021) over the batch.

    A positive's target is the IoU of its box. Each positive's box loss is weighted by its highest class
    probability, and the total by the ratio of the ranking loss to it, as in the release.
    """

    def batch_losses(self, batch: Predictions) -> dict[str, Tensor]:
        """``loss_rank``, ``loss_sort``, and ``loss_bbox``, whose value is the sum of the first two."""
        ranking, sorting = self.loss_cls(batch.logits.reshape(-1), batch.flat_targets(batch.quality()))
        weight = batch.best_scores()
        loss_bbox = self.loss_bbox(batch.boxes, batch.targets, weight, avg_factor=weight.sum())
        balance = value_balance(ranking + sorting, loss_bbox)
        return {"loss_rank": ranking, "loss_sort": sorting, "loss_bbox": balance * loss_bbox}


class QualityFocalMixin(DeferredLossMixin):
    """``loss_cls`` is mmdet's ``QualityFocalLoss`` (Li et al. 2020); a positive's target is its box's IoU.

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
class CorrelationAPLossRetinaHead(APLossMixin, CorrelationRetinaHead):
    """mmdet's RetinaHead trained with AP Loss."""


@MODELS.register_module()
class CorrelationALRPRetinaHead(ALRPMixin, CorrelationRetinaHead):
    """mmdet's RetinaHead trained with aLRP Loss."""


@MODELS.register_module()
class CorrelationRankSortATSSHead(RankSortMixin, CorrelationATSSHeadNoAux):
    """mmdet's ATSSHead trained with Rank & Sort Loss."""


@MODELS.register_module()
class CorrelationRankSortPAAHead(CandidateLossMixin, RankSortMixin, CorrelationPAAHeadNoAux):
    """mmdet's PAAHead trained with Rank & Sort Loss after its reassignment."""


@MODELS.register_module()
class CorrelationQFLATSSHead(QualityFocalMixin, CorrelationATSSHeadNoAux):
    """mmdet's ATSSHead trained with Quality Focal Loss."""


@MODELS.register_module()
class CorrelationQFLPAAHead(CandidateLossMixin, QualityFocalMixin, CorrelationPAAHeadNoAux):
    """mmdet's PAAHead trained with Quality Focal Loss after its reassignment."""
