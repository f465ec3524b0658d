"""The coefficients as nodes of the graph: one for all the arithmetic, its gradient written by hand."""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from corrloss._formulas import FORMULAS, moments
from corrloss.ranks import cpu, rank_rows


class Wanted(NamedTuple):
    """``constant + factor * rho`` in ``dtype``, of the soft ranks where a strength is given; over groups."""

    formula: str
    strength: float | None
    constant: float
    factor: float
    dtype: torch.dtype
    reduction: str


class CorrelationOnCpu(torch.autograd.Function):
    """All pairs in one group, by NumPy: few operations on arrays, the rest on numbers."""

    @staticmethod
    def forward(ctx, x: Tensor, y: Tensor, wanted: Wanted) -> Tensor:
        pair, pooled = cpu.as_arrays(x, y, wanted.dtype), None
        if wanted.strength is not None and not cpu.are_one_block(pair, wanted.strength):
            pair, pooled = cpu.rank(cpu.stack(pair), wanted.strength)
        dx, dy, sums = cpu.centre(*pair)
        slopes = FORMULAS[wanted.formula](sums)
        ctx.wanted, ctx.slopes, ctx.centred, ctx.pooled = wanted, slopes, (dx, dy), pooled
        ctx.save_for_backward(x, y)
        rho = slopes.rho if not abs(slopes.rho) > 1 else math.copysign(1.0, slopes.rho)
        value = wanted.constant + wanted.factor * rho if slopes.inverse != 0 else 0.0
        return torch.full((), value, dtype=wanted.dtype)

    @staticmethod
    def backward(ctx, grad: Tensor):
        x, y = ctx.saved_tensors
        if torch.is_grad_enabled():
            return *_gradient_with_graph(x, y, ctx.wanted, grad, ctx.needs_input_grad), None
        of_x, of_y, _ = ctx.needs_input_grad
        scale, slopes, (dx, dy) = ctx.wanted.factor * grad.item(), ctx.slopes, ctx.centred
        cross = scale * slopes.xy
        return (
            _gradient(ctx, 0, dx, scale * slopes.xx, dy, cross, scale * slopes.x, x) if of_x else None,
            _gradient(ctx, 1, dy, scale * slopes.yy, dx, cross, scale * slopes.y, y) if of_y else None,
            None,
        )


def _gradient(ctx, row, own, own_slope, other, cross, constant, like: Tensor) -> Tensor:
    """The gradient of one of two samples: a linear combination of both, by way of the ranks if there are."""
    total = cpu.combine(own, own_slope, other, cross)
    if constant:
        total += constant
    if ctx.pooled is not None:
        total = ctx.pooled.split(len(own))[row].pull_back(total, ctx.wanted.strength)
    total = torch.from_numpy(total)
    return total if total.dtype == like.dtype else total.to(like.dtype)


class GroupedCorrelationOnCpu(torch.autograd.Function):
    """In groups of equal ids, by NumPy: the mean or the sum over the groups."""

    @staticmethod
    def forward(ctx, x: Tensor, y: Tensor, ids: Tensor, wanted: Wanted) -> Tensor:
        runs = cpu.Runs.of(ids.numpy())
        pair, pooled = cpu.as_arrays(x, y, wanted.dtype), None
        shift_alone = wanted.strength is None or cpu.are_one_block(pair, wanted.strength)
        pair = runs.gather(cpu.stack(pair))
        if not shift_alone:
            pair, pooled = cpu.rank(pair, wanted.strength, runs.number())
        centred, sums = runs.centre(pair)
        slopes = FORMULAS[wanted.formula](sums)
        ctx.wanted, ctx.slopes, ctx.centred, ctx.runs, ctx.pooled = wanted, slopes, centred, runs, pooled
        ctx.share = 1 / len(runs.size) if wanted.reduction == "mean" else 1.0
        ctx.save_for_backward(x, y, ids)
        value = (wanted.constant + wanted.factor * slopes.rho.clip(-1, 1)) * (slopes.inverse != 0)
        return torch.full((), float(value.sum()) * ctx.share, dtype=wanted.dtype)

    @staticmethod
    def backward(ctx, grad: Tensor):
        x, y, ids = ctx.saved_tensors
        if torch.is_grad_enabled():
            of_each = (ctx.share * grad).expand(len(ctx.runs.size))
            return *_gradient_with_graph(x, y, ctx.wanted, of_each, ctx.needs_input_grad, ids), None, None
        slopes, runs, (dx, dy) = ctx.slopes, ctx.runs, ctx.centred
        scale = ctx.wanted.factor * ctx.share * grad.item()
        cross = runs.spread(slopes.xy * scale, dx.dtype)
        terms = (dx, slopes.xx, dy, slopes.x), (dy, slopes.yy, dx, slopes.y)
        grads: list[Tensor | None] = [None, None, None, None]
        for i, (own, own_slope, other, constant) in enumerate(terms):
            if ctx.needs_input_grad[i]:
                total = own * runs.spread(own_slope * scale, dx.dtype)
                total += other * cross
                if ctx.wanted.formula == "concordance":  # Pearson's has no constant, the samples are centred
                    total += runs.spread(constant * scale, dx.dtype)
                if ctx.pooled is not None:
                    total = ctx.pooled.split(len(dx))[i].pull_back(total, ctx.wanted.strength)
                grads[i] = torch.from_numpy(runs.restore(total)).to((x, y)[i].dtype)
        return tuple(grads)


class Correlation(torch.autograd.Function):
    """On any device, with no look at a value; in groups there is an entry for each number below n."""

    @staticmethod
    def forward(ctx, x: Tensor, y: Tensor, group: Tensor | None, wanted: Wanted) -> Tensor:
        pairs, sums = moments(x, y, group)
        slopes = FORMULAS[wanted.formula](sums)
        ctx.wanted = wanted
        ctx.save_for_backward(x, y, group, pairs, *slopes[1:6])
        value = wanted.constant + wanted.factor * slopes.rho.clamp(-1, 1)
        return torch.where(slopes.inverse == 0, 0.0, value).to(wanted.dtype)

    @staticmethod
    def backward(ctx, grad: Tensor):
        x, y, group, pairs, *slopes = ctx.saved_tensors
        if torch.is_grad_enabled():
            return *_gradient_with_graph(x, y, ctx.wanted, grad, ctx.needs_input_grad, group), None, None
        scale = ctx.wanted.factor * grad.double()
        slopes = [slope * scale for slope in slopes]
        xx, xy, yy, x_0, y_0 = slopes if group is None else [slope[group] for slope in slopes]
        grad_x = (xx * pairs[0] + xy * pairs[1] + x_0).to(x.dtype) if ctx.needs_input_grad[0] else None
        grad_y = (xy * pairs[0] + yy * pairs[1] + y_0).to(y.dtype) if ctx.needs_input_grad[1] else None
        return grad_x, grad_y, None, None


def number_groups(ids: Tensor) -> tuple[Tensor, Tensor]:
    """Ids renamed to 0, 1, ... in ascending order, and how many there are, with no look at the values."""
    ordered, order = ids.sort()
    numbers = pad(ordered[1:] != ordered[:-1], (1, 0)).cumsum(0)
    return torch.empty_like(numbers).scatter_(0, order, numbers), numbers[-1] + 1


def _gradient_with_graph(x, y, wanted: Wanted, grad, needs_input_grad, group=None) -> list[Tensor | None]:
    """The gradient by plain autograd, for whoever differentiates twice (``create_graph=True``)."""
    x, y = x.view_as(x), y.view_as(y)  # two nodes, also where the caller passed one tensor twice
    group = None if group is None else number_groups(group)[0]
    pairs = (x, y)
    if wanted.strength is not None:
        pairs = rank_rows(torch.stack((x, y)), wanted.strength, group).unbind()
    rho = FORMULAS[wanted.formula](moments(*pairs, group)[1]).rho
    rho = rho if group is None else rho[: len(grad)]
    needed = needs_input_grad[:2]
    inputs = [value for value, need in zip((x, y), needed, strict=True) if need]
    grads = iter(torch.autograd.grad(rho, inputs, wanted.factor * grad.to(rho.dtype), create_graph=True))
    return [next(grads) if need else None for need in needed]
