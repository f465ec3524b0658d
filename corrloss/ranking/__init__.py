"""Ranking losses for detectors: AP Loss, aLRP Loss, Rank & Sort Loss; torch alone.

`corrloss.ranking.register`, which is not imported here, adds them to mmdet's registry.
"""

from corrloss.ranking.alrp_loss import ALRPErrors, ALRPLoss
from corrloss.ranking.ap_loss import APLoss
from corrloss.ranking.balance import EpochBalance, value_balance
from corrloss.ranking.inputs import flatten_targets
from corrloss.ranking.rank_sort_loss import RankSortErrors, RankSortLoss

__all__ = [
    "ALRPErrors",
    "ALRPLoss",
    "APLoss",
    "EpochBalance",
    "RankSortErrors",
    "RankSortLoss",
    "flatten_targets",
    "value_balance",
]
