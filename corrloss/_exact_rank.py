"""Ordinary ranks with a gradient by blackbox differentiation: see ``coefficients.spearman_exact``."""

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from corrloss._formulas import power
from corrloss.ranks import average_ranks


def exact_rank(values: Tensor, group: Tensor | None = None) -> Tensor:
    """Ranks of the 1-d values, within each group of them, float64; tied values share the mean of theirs."""
    return _ExactRank.apply(values, group)


class _ExactRank(torch.autograd.Function):
    @staticmethod
    def forward(ctx, values: Tensor, group: Tensor | None) -> Tensor:
        ranks = average_ranks(values[None], group)[0]
        ctx.save_for_backward(values, ranks, group)
        return ranks

    @staticmethod
    @once_differentiable  # the gradient is piecewise constant in the values: a derivative of it says nothing
    def backward(ctx, grad: Tensor):
        values, ranks, group = ctx.saved_tensors
        wide = values.double()
        count = _sum(torch.ones_like(wide), group)
        variance = _sum((wide - _sum(wide, group) / count).square(), group) / count
        step = (variance / count).sqrt() * power(_sum(grad.square(), group) / count, -0.5)
        moved = average_ranks((wide - step * grad)[None], group)[0]
        return ((ranks - moved) * power(step, -1)).to(values.dtype), None


def _sum(values: Tensor, group: Tensor | None) -> Tensor:
    """The sum of all values, or at each value that of its group."""
    if group is None:
        return values.sum()
    return torch.zeros_like(values).index_add(0, group, values)[group]
