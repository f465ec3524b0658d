"""The heads of :mod:`corrloss.heads` that mmdet does not have, with nothing of Correlation Loss in them."""

from mmdet.models.dense_heads import ATSSHead, PAAHead, RetinaHead
from mmdet.registry import MODELS

from corrloss.heads.deferred import CandidateLossMixin
from corrloss.heads.ranking_heads import ALRPMixin, APLossMixin, QualityFocalMixin, RankSortMixin


@MODELS.register_module()
class OwnAPLossRetinaHead(APLossMixin, RetinaHead):
    pass


@MODELS.register_module()
class OwnALRPRetinaHead(ALRPMixin, RetinaHead):
    pass


@MODELS.register_module()
class OwnQFLATSSHead(QualityFocalMixin, ATSSHead):
    pass


@MODELS.register_module()
class OwnQFLPAAHead(CandidateLossMixin, QualityFocalMixin, PAAHead):
    pass


@MODELS.register_module()
class OwnRankSortATSSHead(RankSortMixin, ATSSHead):
    pass


@MODELS.register_module()
class OwnRankSortPAAHead(CandidateLossMixin, RankSortMixin, PAAHead):
    pass
