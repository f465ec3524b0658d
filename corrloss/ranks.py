"""Soft and exact ranks, differentiable.

The L2 soft rank of ``x`` (Blondel et al., *Fast Differentiable Sorting and Ranking*, ICML 2020) is the
Euclidean projection of ``x / strength`` onto the permutahedron, the convex hull of all permutations of
``(1, ..., n)``. Isotonic regression of ``x_i - strength * i``, with ``x`` in ascending order, pools the
values into contiguous blocks. Within a block

    rank_i = mean rank of the block + (x_i - mean of x in the block) / strength.

A block of one value has exactly its ordinary rank and no gradient. A block that holds all values is ``x``
scaled and shifted. Value and gradient follow from the blocks in O(n).

The blocks of exact ranks are the runs of equal values, which share their mean rank.
"""

import math
from numbers import Real
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.autograd.function import once_differentiable
from torch.nn.functional import pad

try:
    import numpy as np
    from scipy.optimize import isotonic_regression
except ImportError:  # NumPy and SciPy only make ranks faster on a CPU
    isotonic_regression = None

# A row with a larger value, whose differences may overflow, is treated as one with an infinity.
_LARGEST = 1e300


def soft_rank(x: Tensor, strength: float = 1.0, dim: int = -1) -> Tensor:
    """Soft ranks of ``x`` along ``dim``: 1 for the smallest value, n for the largest.

    Args:
        x: Floating point, any shape with at least one dimension. Ranks are computed in float64.
        strength: Regularisation strength, > 0, in the units of ``x``. Values closer to each other than this
            are pooled. As it tends to 0 the soft rank tends to the ordinary rank; tied values share the mean.
        dim: The dimension to rank along.

    Returns:
        Tensor of the shape of ``x``; float64 for float64, float32 otherwise. The sum along ``dim`` is
        n (n + 1) / 2. Where there is a NaN or an infinity along ``dim``, all ranks are NaN.

    Raises:
        ValueError: ``strength`` is not positive and finite, or ``x`` has no dimension.
        TypeError: ``x`` is not a floating point tensor.

    Examples:
        >>> soft_rank(torch.tensor([0.1, 0.9, 0.2]), strength=0.01)
        tensor([1., 3., 2.])
        >>> soft_rank(torch.tensor([0.1, 0.9, 0.2]), strength=1.0)  # one block: a shift of the input
        tensor([1.7000, 2.5000, 1.8000])
    """
    check_strength(strength)
    if not isinstance(x, Tensor) or not x.is_floating_point():
        raise TypeError(f"x must be a floating point tensor, got {getattr(x, 'dtype', type(x).__name__)}")
    if x.ndim == 0:
        raise ValueError("x must have at least one dimension, got a scalar")
    dtype = torch.promote_types(x.dtype, torch.float32)
    if x.numel() == 0:
        return x.to(dtype)
    rows = x.movedim(dim, -1)
    ranks = soft_rank_rows(rows.reshape(-1, rows.shape[-1]), strength)
    return ranks.view(rows.shape).movedim(-1, dim).to(dtype)


def soft_rank_rows(rows: Tensor, strength: float, group: Tensor | None = None) -> Tensor:
    """Soft ranks within each row, and there within each group of columns.

    Args:
        rows: Shape (r, n), floating point, not empty.
        strength: Regularisation strength, > 0.
        group: Group of each column, shape (n,), int64. None: all columns are one group.

    Returns:
        Ranks, float64, shape (r, n), with a gradient.
    """
    blocks = find_blocks(rows.detach(), strength, group)
    # From the first value of the block, so that a strength far below the values costs no digits.
    deviation = rows.double().reshape(-1) - blocks.first[blocks.number]
    mean = torch.zeros_like(blocks.size).index_add(0, blocks.number, deviation) / blocks.size
    deviation = deviation - mean.index_select(0, blocks.number)
    return (deviation / strength + blocks.mean_rank[blocks.number]).view(rows.shape)


def exact_rank(values: Tensor, group: Tensor | None = None) -> Tensor:
    """Ordinary ranks; the gradient is by blackbox differentiation (see ``coefficients.spearman_exact``).

    Args:
        values: Shape (n,), floating point, not empty.
        group: Group of each value, shape (n,), int64. None: all values are one group.

    Returns:
        Ranks within each group, float64, shape (n,). Tied values share the mean of their ranks.
    """
    return _ExactRank.apply(values, group)


class _ExactRank(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(values: Tensor, group: Tensor | None) -> Tensor:
        return average_ranks(values[None], group)[0]

    @staticmethod
    def setup_context(ctx, inputs: tuple, output: Tensor) -> None:
        values, group = inputs
        ctx.save_for_backward(values, output, group)

    @staticmethod
    @once_differentiable  # the gradient is piecewise constant in the values
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        values, ranks, group = ctx.saved_tensors
        wide = values.double()
        count = group_sum(torch.ones_like(wide), group)
        deviation = wide - group_sum(wide, group) / count
        square = group_sum(grad.square(), group)
        # lambda = sd(s) / (sqrt(n) rms(g)); where the gradient or the spread is zero no step is taken.
        step = (group_sum(deviation.square(), group) / (count * square)).sqrt()
        step = torch.where(square > 0, step, 0.0)
        moved = average_ranks((wide - step * grad)[None], group)[0]
        return torch.where(step == 0, 0.0, (ranks - moved) / step).to(values.dtype), None


def average_ranks(rows: Tensor, group: Tensor | None = None) -> Tensor:
    """Ordinary ranks within each row and group, float64, shape (r, n), without a gradient."""
    blocks = find_blocks(rows.detach(), None, group)
    return blocks.mean_rank[blocks.number].view(rows.shape)


def group_sum(values: Tensor, group: Tensor | None) -> Tensor:
    """For each value, the sum of its group: shape (n,), or a scalar where all are one group."""
    if group is None:
        return values.sum()
    return torch.zeros_like(values).scatter_add(0, group, values).gather(0, group)


def number_groups(ids: Tensor) -> Tensor:
    """Ids, shape (n,), int64, renamed to 0, 1, ... in ascending order. On a GPU none is read on the host."""
    if not len(ids):
        return ids
    if is_readable(ids):
        low, high = (bound.item() for bound in ids.aminmax())
        if high - low < len(ids):  # counting is faster than sorting
            ids = ids - low
            return ((ids.bincount() > 0).cumsum(0) - 1)[ids]
    ordered, order = ids.sort()
    numbers = _changes(ordered).cumsum(0) - 1
    return torch.empty_like(numbers).scatter(0, order, numbers)


def is_readable(values: Tensor) -> bool:
    """Whether Python may read the values: on a CPU, not in torch.compile, torch.func or forward mode."""
    return (
        not torch.compiler.is_compiling()
        and values.is_cpu
        and torch._C._functorch.peek_interpreter_stack() is None
        and forward_ad._current_level < 0
    )


def check_strength(strength: float) -> None:
    """Raise ValueError unless ``strength`` is a positive finite number."""
    if not is_number(strength) or not 0 < strength < float("inf"):
        raise ValueError(f"strength must be a positive finite number, got {strength!r}")


def is_number(value: object) -> bool:
    """Whether the value is a real number (NumPy's included), and not a bool, text or tensor."""
    return isinstance(value, Real) and not isinstance(value, bool)


class Blocks(NamedTuple):
    """The blocks of rows of values, shape (r, n)."""

    number: Tensor
    """Number of each value's block, shape (r n,), int64."""
    size: Tensor
    """Values in each block, float64, like the next two; 1 for a number that no block has."""
    mean_rank: Tensor
    """Mean of the ranks in each block; NaN in a row with a NaN or an infinity."""
    first: Tensor
    """Smallest value of each block."""


def find_blocks(rows: Tensor, strength: float | None, group: Tensor | None = None) -> Blocks:
    """The blocks of the soft rank, or those of equal values where the strength is None.

    The one place that chooses how they are found. On a CPU, SciPy's isotonic regression is ten to a hundred
    times as fast as merging halves, and NumPy sorts three times as fast as PyTorch. Merging halves reads no
    value on the host: it serves a GPU, torch.compile, torch.func, and a CPU without SciPy.
    """
    if isotonic_regression is None or not is_readable(rows):
        return _find_on_device(rows, strength, group)
    return _find_on_cpu(rows, strength, group)


def _find_on_cpu(rows: Tensor, strength: float | None, group: Tensor | None) -> Blocks:
    values = rows.double().numpy()
    count, n = values.shape
    row, place = np.arange(count)[:, None], np.arange(n)  # place: in its group, after sorting
    if group is None:
        order, segment = values.argsort(axis=1), row
    else:
        group = group.numpy()
        order = np.lexsort((values, np.broadcast_to(group, values.shape)))
        group = np.sort(group)
        place = place - np.searchsorted(group, group)
        segment = row * (group[-1] + 1) + group
    order += n * row
    values = values.ravel()[order]
    loads = values if strength is None else values - strength * place
    span = float(loads.max()) - float(loads.min())
    if not math.isfinite(span):
        return _find_without_nan(rows, strength, group)
    if strength is None:
        begins = np.ones((count, n), bool)
        begins[:, 1:] = (values[:, 1:] != values[:, :-1]) | (place[1:] == 0)
        bounds = np.append(begins.ravel().nonzero()[0], count * n)
    else:
        loads += (2 * span + strength) * segment  # segments in ascending steps are never pooled
        bounds = isotonic_regression(loads.ravel()).blocks
    begin, size = bounds[:-1], bounds[1:] - bounds[:-1]
    place = np.broadcast_to(place, (count, n)).ravel()
    mean_rank = size * 0.5
    mean_rank += 0.5
    mean_rank += place[begin]
    number = np.empty(count * n, int)
    number[order.ravel()] = np.arange(len(size)).repeat(size)
    found = (number, size.astype(float), mean_rank, values.ravel()[begin])
    return Blocks(*map(torch.from_numpy, found))


def _find_without_nan(rows: Tensor, strength: float | None, group: Tensor | None) -> Blocks:
    """As `_find_on_cpu`, where a row has a NaN or an infinity: mean ranks of its blocks are NaN."""
    finite = rows.abs().amax(dim=1) < _LARGEST
    blocks = _find_on_cpu(torch.where(finite[:, None], rows, 0.0), strength, group)
    blocks.mean_rank[blocks.number.view(rows.shape)[~finite]] = torch.nan
    return blocks


def _find_on_device(rows: Tensor, strength: float | None, group: Tensor | None) -> Blocks:
    """Here a block's number is the place of its first value: how many blocks there are is not known."""
    values, order = rows.sort(dim=1)
    if group is not None:
        group, by_group = group[order].sort(dim=1, stable=True)
        values, order = values.gather(1, by_group), order.gather(1, by_group)
    values = values.double()
    begins = _changes(values if strength is None else _pool(values, strength, group))
    place = torch.arange(values.shape[1], device=values.device)
    if group is not None:
        begins = begins | _changes(group)
        place = place - _last_true(_changes(group))
    row_begin = torch.arange(0, rows.numel(), rows.shape[1], device=rows.device)[:, None]
    number = (_last_true(begins) + row_begin).view(-1)
    first = values.view(-1)
    size = torch.zeros_like(first).index_add(0, number, torch.ones_like(first)).clamp(min=1)
    not_finite = 0 * values.sum(1, keepdim=True)  # NaN, else 0
    mean_rank = (place + not_finite).view(-1) + (size + 1) / 2
    order = (order + row_begin).view(-1)
    return Blocks(torch.empty_like(number).scatter(0, order, number), size, mean_rank, first)


def _pool(values: Tensor, strength: float, group: Tensor | None) -> Tensor:
    """Isotonic regression of what the soft rank pools: equal in a block, for sorted values, shape (r, n)."""
    loads = values - strength * torch.arange(values.shape[1], dtype=values.dtype, device=values.device)
    loads = loads - loads.mean(1, keepdim=True)  # keeps cumulative sums small
    if group is not None:  # groups in ascending steps are never pooled
        low, high = loads.aminmax(dim=1, keepdim=True)
        loads = loads + (2 * (high - low) + strength) * group
    return _merge_halves(loads)


def _changes(values: Tensor) -> Tensor:
    """Where a value along the last dimension differs from the one before; true for the first."""
    return pad(values[..., 1:] != values[..., :-1], (1, 0), value=True)


def _last_true(flags: Tensor) -> Tensor:
    """The nearest place along the last dimension, there or before, that is true."""
    return (flags * torch.arange(flags.shape[-1], device=flags.device)).cummax(-1).values


def _merge_halves(loads: Tensor) -> Tensor:
    """Isotonic regression of each row: first of halves of one value, then of two, of four, ..."""
    rows, n = loads.shape
    width = 1 << (n - 1).bit_length()
    fit = torch.cat((loads, loads.amax(1, keepdim=True).expand(rows, width - n)), 1)
    half = 1
    while half < width:
        fit = _merge(fit.view(rows, -1, 2 * half)).view(rows, width)
        half *= 2
    return fit[:, :n]


def _merge(fit: Tensor) -> Tensor:
    """Isotonic regression along the last dimension of values that are isotonic in each half.

    The values of the left half above some level, and those of the right half below it, become that level: the
    one where the excess of the former over it equals the lack of the latter. Excess less lack decreases with
    the level, so its sign at a value tells on which side of the level the value is.
    """
    half = fit.shape[-1] // 2
    left, right = (side.contiguous() for side in fit.split(half, -1))
    sum_left, sum_right = (pad(side.cumsum(-1), (1, 0)) for side in (left, right))
    # Equal values get the same sums to the last bit, so that a block is pooled as a whole or not at all.
    not_above = torch.searchsorted(left, fit, right=True)
    below = torch.searchsorted(right, fit)
    excess = sum_left[..., -1:] - sum_left.gather(-1, not_above) - (half - not_above) * fit
    excess = excess - (below * fit - sum_right.gather(-1, below))
    on_the_left = torch.arange(2 * half, device=fit.device) < half
    pooled = torch.where(on_the_left, excess < 0, excess > 0) & (left[..., -1:] > right[..., :1])
    count = pooled.sum(-1, keepdim=True)
    level = torch.where(pooled, fit, 0.0).sum(-1, keepdim=True) / count.clamp(min=1)
    return torch.where(pooled, level, fit)
