"""Registers ``APLoss``, ``ALRPLoss`` and ``RankSortLoss`` with mmdet.

Importing this module needs mmdet; the losses need torch alone. A config imports it with
``custom_imports = dict(imports=["corrloss.ranking.register"])``.
"""

from mmdet.registry import MODELS
from torch import Tensor

from corrloss import ranking


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

    def forward(self, *arguments: Tensor) -> Tensor | tuple:
        """Return the weighted loss, or each of its components weighted; arguments as the loss takes them."""
        loss = super().forward(*arguments)
        if isinstance(loss, Tensor):
            return self.loss_weight * loss
        return type(loss)(*(self.loss_weight * component for component in loss))


@MODELS.register_module()
class APLoss(_MmdetLoss, ranking.APLoss):
    """`corrloss.ranking.APLoss` for mmdet's heads."""


@MODELS.register_module()
class ALRPLoss(_MmdetLoss, ranking.ALRPLoss):
    """`corrloss.ranking.ALRPLoss` for mmdet's heads."""


@MODELS.register_module()
class RankSortLoss(_MmdetLoss, ranking.RankSortLoss):
    """`corrloss.ranking.RankSortLoss` for mmdet's heads."""
