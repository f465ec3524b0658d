"""GFL (Li et al. 2020) with Correlation Loss."""

from mmdet.models.dense_heads import GFLHead
from mmdet.registry import MODELS

from corrloss.heads.mixin import DecodedBoxMixin, PositivesCollector
from corrloss.heads.observe import LossCall
from corrloss.heads.positives import Positives


@MODELS.register_module()
class CorrelationGFLHead(DecodedBoxMixin, GFLHead):
    """mmdet's GFLHead; its positives are the anchors that ATSS's assigner selected.

    Its boxes are the expected values of the predicted distributions, in units of the level's stride.
    """

    def _positives_of(self, calls: list[LossCall], collector: PositivesCollector) -> Positives:
        # On each level GFL calls its box loss, if there are positives, before its classification loss.
        ordered: list[LossCall] = []
        for before, call in zip([None, *calls], calls, strict=False):
            boxes_first = call.name == "loss_cls" and before is not None and before.name == "loss_bbox"
            ordered.insert(len(ordered) - boxes_first, call)
        return super()._positives_of(ordered, collector)
