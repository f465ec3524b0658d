"""ATSS (Zhang et al. 2020) with Correlation Loss, with and without its centerness branch."""

from mmdet.models.dense_heads import ATSSHead
from mmdet.registry import MODELS
from mmdet.utils import reduce_mean
from torch import Tensor

from corrloss.heads.auxiliary import NoAuxiliaryMixin
from corrloss.heads.head_positives import check_option
from corrloss.heads.mixin import DecodedBoxMixin
from corrloss.heads.observe import LossCall, observed_losses

NORMALISERS = ("mmdet", "released")


@MODELS.register_module()
class CorrelationATSSHead(DecodedBoxMixin, ATSSHead):
    """mmdet's ATSSHead; its positives are the anchors that ATSS's assigner selected.

    Args:
        normaliser: Normaliser of the box loss in runs with Correlation Loss. ``"mmdet"``: the sum of the
            centerness targets, averaged over processes and at least 1. ``"released"``: the sum in this
            process alone, and no classification loss in a process without positives; so the release does,
            only in its runs with the loss.

    Raises:
        ValueError: ``normaliser`` is none of these.
    """

    normaliser = "mmdet"

    def __init__(self, *args, normaliser: str = "mmdet", **kwargs) -> None:
        super().__init__(*args, **kwargs)
        check_option(self, "normaliser", normaliser, NORMALISERS)
        self.normaliser = normaliser

    def _detector_losses(self, cls_scores: list[Tensor], *args, **kwargs) -> dict:
        if self.normaliser == "mmdet" or self.loss_corr is None:
            return super()._detector_losses(cls_scores, *args, **kwargs)
        with observed_losses(self, ("loss_centerness",)) as calls:
            losses = super()._detector_losses(cls_scores, *args, **kwargs)
        return _with_released_normaliser(losses, calls)


def _with_released_normaliser(losses: dict, centerness_calls: list[LossCall]) -> dict:
    """Replace mmdet's normaliser of the box loss by the release's.

    Args:
        losses: Of mmdet's ATSSHead: ``loss_cls`` and ``loss_bbox`` with an entry for each level.
        centerness_calls: Calls of its centerness loss, one for each level with positives.
    """
    targets = sum((call.target.sum() for call in centerness_calls), losses["loss_bbox"][0].new_zeros(()))
    mmdet_normaliser = reduce_mean(targets).clamp(min=1)
    has_positives = float(bool(centerness_calls))
    scale = mmdet_normaliser / targets if centerness_calls else targets
    return losses | {
        "loss_cls": [loss * has_positives for loss in losses["loss_cls"]],
        "loss_bbox": [loss * scale for loss in losses["loss_bbox"]],
    }


@MODELS.register_module()
class CorrelationATSSHeadNoAux(NoAuxiliaryMixin, CorrelationATSSHead):
    """ATSS without centerness: not trained, and not part of the score at test.

    The box loss keeps its weighting by centerness *targets*, as in the release.
    """

    auxiliary_loss = "loss_centerness"

    def predict_by_feat(
        self, cls_scores: list[Tensor], bbox_preds: list[Tensor], score_factors=None, **kwargs
    ) -> list:
        """As in mmdet, with the class probability alone as score."""
        return super().predict_by_feat(cls_scores, bbox_preds, score_factors=None, **kwargs)
