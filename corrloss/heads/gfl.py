"""GFL (Li et al. 2020) with Correlation Loss."""

from mmdet.models.dense_heads import GFLHead
from mmdet.registry import MODELS

from corrloss.heads.mixin import DecodedBoxMixin, PositivesCollector
from corrloss.heads.observe import LossCall


@MODELS.register_module()
class CorrelationGFLHead(DecodedBoxMixin, GFLHead):
    """mmdet's GFLHead; its positives are the anchors that ATSS's assigner selected.

    Its boxes are the expected values of the predicted distributions, in units of the level's stride. The
    release's head computes the coefficient of each feature level (``scope="level"``, ``reduction="mean"``).
    """

    def _add_positives(self, calls: list[LossCall], collector: PositivesCollector) -> None:
        # On each level GFL calls its box loss, if there are positives, before its classification loss.
        ordered: list[LossCall] = []
        for previous, call in zip([None, *calls], calls, strict=False):
            boxes_first = call.name == "loss_cls" and previous is not None and previous.name == "loss_bbox"
            ordered.insert(len(ordered) - boxes_first, call)
        super()._add_positives(ordered, collector)
