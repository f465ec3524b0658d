"""The L2 soft rank of Blondel et al., *Fast Differentiable Sorting and Ranking*, ICML 2020.

The soft rank of ``x`` is the Euclidean projection of ``x / strength`` onto the permutahedron, the convex hull
of all permutations of ``(1, ..., n)``. In ascending order of ``x`` the projection cuts the values into
contiguous blocks, those that isotonic regression of ``x_i - strength * i`` pools, and within a block

    rank_i = mean rank of the block + (x_i - mean of x in the block) / strength.

A block of one value has exactly its ordinary rank and no gradient; a block that holds everything is ``x``
scaled and shifted. So the blocks are all there is to find: value and gradient follow from them in O(n).

On the CPU, SciPy pools them where it is installed. Elsewhere, and above all on a GPU, where a loop that
ends when it is done would have to wait for the device, they are found by merging halves in ``log2(n)``
rounds of tensor operations, with no look at a value.
"""

from numbers import Real

import torch
from torch import Tensor
from torch.nn.functional import pad

try:
    from corrloss import _cpu as cpu
except ImportError:  # no NumPy or no SciPy: PyTorch does it all
    cpu = None


def soft_rank(x: Tensor, strength: float = 1.0, dim: int = -1) -> Tensor:
    """Soft ranks of ``x`` along ``dim``: 1 for the smallest value, n for the largest.

    Args:
        x: Floating point, any shape with at least one dimension. float16 and bfloat16 are ranked in float32.
        strength: Regularisation strength, > 0, in the units of ``x``. Values closer to each other than this
            are pooled; as it tends to 0 the soft rank tends to the ordinary rank, tied values share the mean.
        dim: The dimension to rank along.

    Returns:
        Tensor of the shape of ``x``; float64 for float64, float32 otherwise. The sum along ``dim`` is
        n (n + 1) / 2. Where there is a NaN or an infinity along ``dim``, all ranks are NaN.

    Raises:
        ValueError: ``strength`` is not positive and finite, or ``x`` has no dimension.
        TypeError: ``x`` is not a floating point tensor.

    >>> soft_rank(torch.tensor([0.1, 0.9, 0.2]), strength=0.01)
    tensor([1., 3., 2.])
    >>> soft_rank(torch.tensor([0.1, 0.9, 0.2]), strength=1.0)  # a shift of the input: one block holds all
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
    if x.ndim == 2 and dim in (-1, 1):
        return _soft_rank(x, strength, dtype)
    rows = x.movedim(dim, -1)
    ranks = _soft_rank(rows.reshape(-1, rows.shape[-1]), strength, dtype)
    return ranks.view(rows.shape).movedim(-1, dim)


def _soft_rank(rows: Tensor, strength: float, dtype: torch.dtype) -> Tensor:
    if runs_on_cpu(rows):
        return _SoftRankOnCpu.apply(rows, strength, dtype)
    return _SoftRank.apply(rows, strength, None, dtype)


def runs_on_cpu(values: Tensor) -> bool:
    """Whether NumPy and SciPy may compute with these values, and look at them."""
    return cpu is not None and values.is_cpu and not torch.compiler.is_compiling()


def is_number(value: object) -> bool:
    """Whether it is a real number, NumPy's included, and neither text, nor true or false, nor a tensor."""
    return isinstance(value, Real) and not isinstance(value, bool)


def check_strength(strength: float) -> None:
    """Raise ValueError unless ``strength`` is a positive finite number."""
    if not is_number(strength) or not 0 < strength < float("inf"):
        raise ValueError(f"strength must be a positive finite number, got {strength!r}")


def rank_rows(rows: Tensor, strength: float, group: Tensor | None = None) -> Tensor:
    """Soft ranks within each row, and there within each group of columns: float64, with a gradient.

    Args:
        rows: Shape (r, n), floating point, not empty.
        strength: > 0.
        group: Group of each column, shape (n,), int64, numbered from 0. None: one group.
    """
    return _SoftRank.apply(rows, strength, group, torch.float64)


class _SoftRankOnCpu(torch.autograd.Function):
    """As `_SoftRank`, by NumPy: at small sizes most of the time goes into the handling of tensors."""

    @staticmethod
    def forward(ctx, rows: Tensor, strength: float, dtype: torch.dtype) -> Tensor:
        values = rows if rows.dtype == dtype else rows.to(dtype)
        ranks, ctx.pooled = cpu.rank(values.detach().numpy(), strength)
        ctx.strength, ctx.dtype = strength, rows.dtype
        ranks = torch.from_numpy(ranks)
        return ranks if dtype == torch.float64 else ranks.to(dtype)

    @staticmethod
    def backward(ctx, grad: Tensor):
        if torch.is_grad_enabled():
            pooled = map(torch.from_numpy, ctx.pooled)
            return pull_back(grad, *pooled, ctx.strength).to(ctx.dtype), None, None
        total = torch.from_numpy(ctx.pooled.pull_back(grad.numpy().ravel(), ctx.strength)).view(grad.shape)
        return total if total.dtype == ctx.dtype else total.to(ctx.dtype), None, None


class _SoftRank(torch.autograd.Function):
    """Piecewise linear: the backward pass is linear in the gradient, and may be differentiated in turn."""

    @staticmethod
    def forward(ctx, rows: Tensor, strength: float, group: Tensor | None, dtype: torch.dtype) -> Tensor:
        ranks, *pooled = rank(rows, strength, group)
        ctx.strength, ctx.dtype = strength, rows.dtype
        ctx.save_for_backward(*pooled)
        return ranks.to(dtype)

    @staticmethod
    def backward(ctx, grad: Tensor):
        return pull_back(grad, *ctx.saved_tensors, ctx.strength).to(ctx.dtype), None, None, None


def rank(rows: Tensor, strength: float, group: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """As :func:`rank_rows` but without a gradient; with what :func:`pull_back` needs for it.

    Returns:
        The ranks, float64, shape (r, n); the flat places of the values that share a block with others, and
        the number of the block of each, both int64; the size of each block.
    """
    rows = rows.to(torch.promote_types(rows.dtype, torch.float32))
    if runs_on_cpu(rows):
        ranks, pooled = cpu.rank(rows.detach().numpy(), strength, None if group is None else group.numpy())
        return tuple(map(torch.from_numpy, (ranks, *pooled)))
    return _rank_on_device(rows, strength, group)


def pull_back(grad: Tensor, member: Tensor, label: Tensor, size: Tensor, strength: float) -> Tensor:
    """The gradient of the values from that of their ranks: less the mean of the block, so zero if alone."""
    if runs_on_cpu(grad) and not torch.is_grad_enabled():
        pooled = cpu.Pooled(member.numpy(), label.numpy(), size.numpy())
        return torch.from_numpy(pooled.pull_back(grad.detach().numpy().ravel(), strength)).view(grad.shape)
    pooled = grad.flatten().index_select(0, member)
    total = torch.zeros(size.shape, dtype=grad.dtype, device=grad.device).index_add(0, label, pooled)
    pooled = ((pooled - (total / size).index_select(0, label)) / strength).to(grad.dtype)
    return torch.zeros_like(grad).view(-1).index_copy(0, member, pooled).view(grad.shape)


def _rank_on_device(rows: Tensor, strength: float, group: Tensor | None) -> tuple[Tensor, ...]:
    """Here every value is a member of a block, if alone: how many are not, only the values could tell."""
    values, order, group = _sort(rows, group)
    begins = _block_begins(values, strength, group)
    ranks, start, size = _rank_in_blocks(values, begins, strength, group)
    ranks = torch.empty_like(ranks).scatter_(1, order, ranks)
    row_begin = torch.arange(0, rows.numel(), rows.shape[1], device=rows.device)[:, None]
    return ranks, (order + row_begin).flatten(), (start + row_begin).flatten(), size.flatten()


def average_ranks(rows: Tensor, group: Tensor | None = None) -> Tensor:
    """Ordinary ranks of each row, and of each group in it, float64; tied values share the mean of theirs."""
    values, order, group = _sort(rows, group)
    begins = _changes(values) if group is None else _changes(values) | _changes(group)
    ranks, _, _ = _rank_in_blocks(values, begins, 1.0, group)
    return torch.empty_like(ranks).scatter_(1, order, ranks)


def _sort(rows: Tensor, group: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    """Each row in ascending order, group by group, in float64; where the values were; their group."""
    values, order = rows.sort(dim=1)
    if group is not None:
        group, by_group = group[order].sort(dim=1, stable=True)
        values, order = values.gather(1, by_group), order.gather(1, by_group)
    return values.double(), order, group


def _rank_in_blocks(
    values: Tensor, begins: Tensor, strength: float, group: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Ranks of sorted rows; for each value where its block begins; there, the size of the block."""
    start = _last_true(begins)
    size = _sum_at(start, torch.ones_like(values))
    # From the block's first value, so that a strength far below the values costs no digits.
    deviation = values - values.gather(1, start)
    deviation = deviation - (_sum_at(start, deviation) / size).gather(1, start)
    below = start if group is None else start - _last_true(_changes(group))
    ranks = below + (size.gather(1, start) + 1) / 2 + deviation / strength
    return ranks + 0 * values.sum(1, keepdim=True), start, size  # NaN where a value is not finite


def _changes(values: Tensor) -> Tensor:
    """Where a value along the last dimension differs from the one before; true for the first."""
    return pad(values[..., 1:] != values[..., :-1], (1, 0), value=True)


def _last_true(flags: Tensor) -> Tensor:
    """The nearest place along the last dimension, there or before, that is true."""
    return (flags * torch.arange(flags.shape[-1], device=flags.device)).cummax(-1).values


def _sum_at(start: Tensor, values: Tensor) -> Tensor:
    """The sum of the values of each block, at the place of the block's first value; 0 at other places."""
    return torch.zeros_like(values).scatter_add_(1, start, values)


def _block_begins(values: Tensor, strength: float, group: Tensor | None) -> Tensor:
    """Which of the sorted values is the first of its block."""
    place = torch.arange(values.shape[1], dtype=values.dtype, device=values.device)
    loads = values - strength * place
    loads = loads - loads.mean(1, keepdim=True)  # keeps cumulative sums small
    if group is None:
        return _changes(_isotonic_regression(loads))
    low, high = loads.aminmax(dim=1, keepdim=True)
    steps = (high - low + strength) * group  # groups in ascending steps are never pooled
    return _changes(_isotonic_regression(loads + steps)) | _changes(group)


def _isotonic_regression(loads: Tensor) -> Tensor:
    """Of each row: by halves, that of single values first, then of two, of four, ..."""
    rows, n = loads.shape
    width = 1 << (n - 1).bit_length()
    fit = torch.cat((loads, loads.amax(1, keepdim=True).expand(rows, width - n)), 1)
    half = 1
    while half < width:
        fit = _merge_halves(fit.view(rows, -1, 2 * half)).view(rows, width)
        half *= 2
    return fit[:, :n]


def _merge_halves(fit: Tensor) -> Tensor:
    """Isotonic regression along the last dimension of what is isotonic in each half.

    The values of the left half above some level, and those of the right one below it, become that level. It
    is where the excess of the former over it makes up for the lack of the latter; the excess less the lack
    decreases with the level, so its sign at a value says on which side of the level the value is.
    """
    half = fit.shape[-1] // 2
    left, right = (side.contiguous() for side in fit.split(half, -1))
    sum_left, sum_right = (pad(side.cumsum(-1), (1, 0)) for side in (left, right))
    # Equal values get the same sums to the last bit, so that a block is pooled as a whole or not at all.
    not_above = torch.searchsorted(left, fit, right=True)
    below = torch.searchsorted(right, fit)
    excess = sum_left[..., -1:] - sum_left.gather(-1, not_above) - (half - not_above) * fit
    excess -= below * fit - sum_right.gather(-1, below)
    excess[..., half:].neg_()
    pooled = (excess < 0) & (left[..., -1:] > right[..., :1])
    count = pooled.sum(-1, keepdim=True)
    level = torch.where(pooled, fit, 0.0).sum(-1, keepdim=True) / count.clamp(min=1)
    return torch.where(pooled, level, fit)
