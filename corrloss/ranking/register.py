"""Registers ``APLoss``, ``ALRPLoss`` and ``RankSortLoss`` with mmdet.

Importing this module needs mmdet; the losses need torch alone. A config imports it with
``custom_imports = dict(imports=["corrloss.ranking.register"])``.
"""

from mmdet.registry import MODELS
from torch import Tensor

from corrloss.ranking import alrp_loss, ap_loss, rank_sort_loss


class _MmdetLoss:
    """Adds the two arguments that mmdet passes to every classification loss.

    Args:
        use_sigmoid: must be True: anchor heads then have no background logit.
        loss_weight: factor of the loss and of each of its components.
        options: arguments of the loss.
    """

    def __init__(self, use_sigmoid: bool = True, loss_weight: float = 1.0, **options) -> None:
        if not use_sigmoid:
            raise ValueError(
                f"{type(self).__name__} ranks sigmoid logits: expected use_sigmoid=True, got "
                f"{use_sigmoid!r}; set use_sigmoid=True"
            )
        super().__init__(**options)
        self.use_sigmoid = use_sigmoid
        self.loss_weight = loss_weight


@MODELS.register_module()
class APLoss(_MmdetLoss, ap_loss.APLoss):
    """`corrloss.ranking.APLoss` for mmdet's heads."""

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the weighted loss of (N,) logits and targets."""
        return self.loss_weight * super().forward(logits, targets)


@MODELS.register_module()
class ALRPLoss(_MmdetLoss, alrp_loss.ALRPLoss):
    """`corrloss.ranking.ALRPLoss` for mmdet's heads."""

    def forward(self, logits: Tensor, targets: Tensor, localisation_errors: Tensor) -> alrp_loss.ALRPErrors:
        """Return the weighted components of (N,) logits and targets and (P,) localisation errors."""
        errors = super().forward(logits, targets, localisation_errors)
        return alrp_loss.ALRPErrors(*(self.loss_weight * error for error in errors))


@MODELS.register_module()
class RankSortLoss(_MmdetLoss, rank_sort_loss.RankSortLoss):
    """`corrloss.ranking.RankSortLoss` for mmdet's heads."""

    def forward(self, logits: Tensor, targets: Tensor) -> rank_sort_loss.RankSortErrors:
        """Return the weighted components of (N,) logits and targets."""
        errors = super().forward(logits, targets)
        return rank_sort_loss.RankSortErrors(*(self.loss_weight * error for error in errors))
