"""ATSS and PAA with Rank & Sort Loss (Oksuz et al. 2021) and Correlation Loss, without auxiliary branch."""

from mmdet.registry import MODELS
from torch import Tensor

from corrloss.heads.atss import CorrelationATSSHeadNoAux
from corrloss.heads.deferred import CandidateLossMixin, DeferredLossMixin, Predictions
from corrloss.heads.paa import CorrelationPAAHeadNoAux
from corrloss.ranking import value_balance


class RankSortMixin(DeferredLossMixin):
    """``loss_cls`` is a ``RankSortLoss`` over all levels and images of the batch.

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


@MODELS.register_module()
class CorrelationRankSortATSSHead(RankSortMixin, CorrelationATSSHeadNoAux):
    """mmdet's ATSSHead without centerness, trained with Rank & Sort Loss."""


@MODELS.register_module()
class CorrelationRankSortPAAHead(CandidateLossMixin, RankSortMixin, CorrelationPAAHeadNoAux):
    """mmdet's PAAHead without its IoU branch, trained with Rank & Sort Loss after its reassignment."""
