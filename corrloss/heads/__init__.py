"""mmdet heads with Correlation Loss; importing this package registers them with mmdet."""

from mmdet.registry import MODELS

import corrloss.ranking.register  # noqa: F401 -- registers the ranking losses
from corrloss.heads.any_head import WithCorrelationLoss
from corrloss.heads.atss import CorrelationATSSHead, CorrelationATSSHeadNoAux
from corrloss.heads.foveabox import CorrelationFoveaHead
from corrloss.heads.gfl import CorrelationGFLHead
from corrloss.heads.paa import CorrelationPAAHead, CorrelationPAAHeadNoAux
from corrloss.heads.ranking_heads import (
    CorrelationALRPRetinaHead,
    CorrelationAPLossRetinaHead,
    CorrelationQFLATSSHead,
    CorrelationQFLPAAHead,
    CorrelationRankSortATSSHead,
    CorrelationRankSortPAAHead,
)
from corrloss.heads.retinanet import CorrelationRetinaHead
from corrloss.heads.sparse_rcnn import CorrelationDIIHead
from corrloss.heads.vfnet import CorrelationVFNetHead
from corrloss.heads.yolact import CorrelationYOLACTHead
from corrloss.loss import CorrelationLoss

MODELS.register_module(module=CorrelationLoss)

__all__ = [
    "CorrelationALRPRetinaHead",
    "CorrelationAPLossRetinaHead",
    "CorrelationATSSHead",
    "CorrelationATSSHeadNoAux",
    "CorrelationDIIHead",
    "CorrelationFoveaHead",
    "CorrelationGFLHead",
    "CorrelationPAAHead",
    "CorrelationPAAHeadNoAux",
    "CorrelationQFLATSSHead",
    "CorrelationQFLPAAHead",
    "CorrelationRankSortATSSHead",
    "CorrelationRankSortPAAHead",
    "CorrelationRetinaHead",
    "CorrelationVFNetHead",
    "CorrelationYOLACTHead",
    "WithCorrelationLoss",
]
