"""The heads of :mod:`corrloss.heads` that mmdet does not have, with nothing of Correlation Loss in them."""

from mmdet.models.dense_heads import ATSSHead, PAAHead, RetinaHead
from mmdet.registry import MODELS

from corrloss.heads.alrp_retinanet import ALRPMixin
from corrloss.heads.ap_loss_retinanet import APLossMixin
from corrloss.heads.deferred import CandidateLossMixin
from corrloss.heads.quality_focal import QualityFocalMixin
from corrloss.heads.rank_sort import RankSortMixin


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
