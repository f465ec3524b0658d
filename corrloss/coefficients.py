"""Pearson's, Lin's and Spearman's coefficient between scores and IoUs, differentiable.

All moments are taken in float64, over differences from a value of the sample. So equal values have a variance
of exactly zero, and a spread of 1e-6 near 1 keeps its digits.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from corrloss.ranks import (
    check_strength,
    exact_rank,
    find_blocks,
    is_one_block,
    is_readable,
    rank_on_host,
    soft_rank_rows,
)

COEFFICIENTS = ("pearson", "concordance", "spearman", "spearman_exact")

# A denominator up to this is zero. Its square, which gradients divide by, is still a float64; the smallest
# variance that float32 values can have, about 1e-90, is above it.
_ZERO = 1e-100


def pearson(scores: Tensor, ious: Tensor) -> Tensor:
    """Pearson's correlation, ``cov(s, u) / (sd(s) sd(u))``.

    Args:
        scores: Shape (n,), floating point.
        ious: Shape (n,), floating point.

    Returns:
        Scalar in [-1, 1], float64 if an argument is float64 and float32 otherwise. Where the coefficient is
        undefined (n < 2, or no variance in one of the samples) it is 0 with a zero gradient.
        NaN and infinities propagate.

    Raises:
        TypeError: An argument is not a floating point tensor.
        ValueError: An argument is not 1-d, or the lengths differ.

    Examples:
        >>> pearson(torch.tensor([0.1, 0.5, 0.9]), torch.tensor([0.6, 0.7, 0.8]))
        tensor(1.)
    """
    return correlate("pearson", scores, ious).to(out_dtype(scores, ious))


def concordance(scores: Tensor, ious: Tensor) -> Tensor:
    """Lin's concordance, ``2 cov(s, u) / (var(s) + var(u) + (mean(s) - mean(u))**2)``.

    Lin, *A Concordance Correlation Coefficient to Evaluate Reproducibility*, Biometrics 1989. The variances
    and the covariance are the unbiased ones (n - 1), as in the release of Correlation Loss.

    Arguments, dtype and errors are those of `pearson`. It is undefined, hence 0 with a zero gradient,
    only where the denominator is zero: n < 2, or both samples are one and the same constant.

    Examples:
        >>> concordance(torch.tensor([0.1, 0.5, 0.9]), torch.tensor([0.1, 0.5, 0.9]))
        tensor(1.)
    """
    return correlate("concordance", scores, ious).to(out_dtype(scores, ious))


def spearman(scores: Tensor, ious: Tensor, strength: float = 1.0) -> Tensor:
    """Pearson's correlation of the L2 soft ranks of scores and IoUs (`corrloss.soft_rank`).

    Blondel et al., *Fast Differentiable Sorting and Ranking*, ICML 2020.

    With ``strength=1``, as in the release of Correlation Loss, the soft rank of numbers from [0, 1] is the
    numbers plus a constant, so that the result *is* Pearson's: it is computed as such, without sorting.
    ``docs/spearman.md`` has the proof. A rank correlation needs a strength well below the gaps between the
    scores, about ``0.05 / n``.

    Args:
        scores: Shape (n,), floating point, in [0, 1].
        ious: Shape (n,), floating point, in [0, 1].
        strength: Regularisation strength of the soft rank, > 0.

    Returns:
        As `pearson`. On a GPU, at a strength of 1 or more, the result is NaN if the values of an
        argument lie further apart than the strength: ranking only in that case would force a GPU
        synchronisation. On the CPU they are ranked.

    Raises:
        TypeError: As `pearson`.
        ValueError: As `pearson`, or ``strength`` is not positive.

    Examples:
        >>> scores, ious = torch.tensor([0.1, 0.2, 0.9]), torch.tensor([0.6, 0.7, 0.8])
        >>> spearman(scores, ious, strength=0.01)
        tensor(1.)
        >>> spearman(scores, ious) == pearson(scores, ious)
        tensor(True)
    """
    return correlate("spearman", scores, ious, strength).to(out_dtype(scores, ious))


def spearman_exact(scores: Tensor, ious: Tensor) -> Tensor:
    """Spearman's correlation itself: Pearson's of the ranks, where tied values share their mean rank.

    The value needs no strength. Its derivative is zero wherever it exists, so the gradient is by blackbox
    differentiation (Vlastelica et al., *Differentiation of Blackbox Combinatorial Solvers*, ICLR 2020; for
    ranks, Rolinek et al., *Optimizing Rank-based Metrics with Blackbox Differentiation*, CVPR 2020): with r
    the ranks of the scores s and g the gradient with respect to them,

        gradient = (r(s) - r(s - lambda g)) / lambda,   lambda = sd(s) / (sqrt(n) rms(g)).

    lambda, an option in those papers, is chosen here such that the step to other ranks is as long as the
    standard error of the mean score: across some neighbours, but few of them, and the gradient scales with
    g, and inversely with s, as a derivative does. Much longer steps were seen to shrink the scores' spread.

    Arguments, returns and errors are those of `pearson`. A second derivative is refused, and so is
    forward mode (``torch.func.jvp``): the gradient is not a derivative.

    Examples:
        >>> spearman_exact(torch.tensor([0.1, 0.2, 0.9]), torch.tensor([0.6, 0.7, 0.8]))
        tensor(1.)
    """
    return correlate("spearman_exact", scores, ious).to(out_dtype(scores, ious))


def correlate(
    coefficient: str,
    scores: Tensor,
    ious: Tensor,
    strength: float = 1.0,
    group: Tensor | None = None,
    undefined: float = 0.0,
) -> Tensor:
    """The coefficient of all pairs, or of the pairs of each group.

    Args:
        coefficient: One of ``COEFFICIENTS``.
        scores: Shape (n,), floating point.
        ious: Shape (n,), floating point.
        strength: Regularisation strength, for ``"spearman"`` alone.
        group: Group of each pair, shape (n,), int64, in [0, n). None: all pairs are one group.
        undefined: Value, with a zero gradient, where the coefficient is undefined.

    Returns:
        float64: a scalar, or the coefficient of each group, shape (n,). Groups without a pair are undefined.
    """
    check_pairs(scores, ious)
    if coefficient == "spearman":
        check_strength(strength)
    if scores.numel() == 0:
        nothing = connected_zero(scores, ious).double()
        return nothing + undefined if group is None else nothing.expand(0)
    formula = "concordance" if coefficient == "concordance" else "pearson"
    strength = strength if coefficient == "spearman" else None
    if coefficient == "spearman_exact":
        scores, ious = exact_rank(scores, group), exact_rank(ious, group)
    in_range = None
    if strength is not None and is_readable(scores):
        if is_one_block(scores, strength) and is_one_block(ious, strength):
            strength = None  # soft ranks only shift and scale the values
    elif strength is not None and strength >= 1:  # on a GPU they are taken to, and the result is NaN if not
        in_range, strength = _is_in_range(scores, ious, strength), None
    if group is None and is_readable(scores):
        return _BatchOnCpu.apply(scores, ious, formula, strength, undefined)
    rho = _from_moments(scores, ious, formula, strength, group, undefined)
    return rho if in_range is None else torch.where(in_range, rho, torch.nan)


def _from_moments(scores, ious, formula, strength, group, undefined) -> Tensor:
    """The coefficient by plain autograd; of the soft ranks where a strength is given."""
    if strength is not None:
        scores, ious = soft_rank_rows(torch.stack((scores.double(), ious.double())), strength, group).unbind()
    return _divide(*_FORMULAS[formula](_moments(scores, ious, group)), undefined)


def _is_in_range(scores: Tensor, ious: Tensor, strength: float) -> Tensor:
    low, high = torch.stack((scores.detach().double(), ious.detach().double())).aminmax(dim=1)
    return ((high - low) <= strength).all()


class _Moments(NamedTuple):
    """Sums over the pairs of all, scalars, or of each group, shape (n,)."""

    n: Tensor
    """Pairs."""
    ss: Tensor
    """Sum of (s - mean(s))**2: n - 1 times the variance."""
    uu: Tensor
    su: Tensor
    shift: Tensor
    """mean(s) - mean(u)."""


def _moments(scores: Tensor, ious: Tensor, group: Tensor | None) -> _Moments:
    n = _total(torch.ones_like(scores, dtype=torch.float64), group)
    s, s_mean = _centre(scores, group)
    u, u_mean = _centre(ious, group)
    return _Moments(n, _total(s * s, group), _total(u * u, group), _total(s * u, group), s_mean - u_mean)


def _centre(values: Tensor, group: Tensor | None) -> tuple[Tensor, Tensor]:
    """The values less their mean, and the mean; by way of an anchor, which to autograd is a constant."""
    anchor = values.detach()
    if group is None:
        anchor = anchor[0].double()
        values = values.double() - anchor
        mean = values.mean()
        return values - mean, anchor + mean
    anchor = torch.zeros_like(anchor).scatter_reduce(0, group, anchor, "amin", include_self=False).double()
    values = values.double() - anchor.index_select(0, group)
    n = _total(torch.ones_like(values), group).clamp(min=1)
    mean = _total(values, group) / n
    return values - mean.index_select(0, group), anchor + mean


def _total(values: Tensor, group: Tensor | None) -> Tensor:
    """The sum of all values, a scalar, or of each group, shape (n,)."""
    return values.sum() if group is None else torch.zeros_like(values).scatter_add(0, group, values)


def _pearson(m: _Moments) -> tuple[Tensor, Tensor]:
    """Numerator and denominator of cov(s, u) / (sd(s) sd(u)), both times n - 1."""
    return m.su, _sqrt(m.ss) * _sqrt(m.uu)


def _concordance(m: _Moments) -> tuple[Tensor, Tensor]:
    """Numerator and denominator of 2 cov(s, u) / (var(s) + var(u) + shift**2), both times n - 1."""
    return 2 * m.su, m.ss + m.uu + (m.n - 1) * m.shift.square()


_FORMULAS = {"pearson": _pearson, "concordance": _concordance}


def _sqrt(square: Tensor) -> Tensor:
    """The square root, with a zero gradient at zero."""
    zero = square <= _ZERO
    return square.masked_fill(zero, 1.0).sqrt().masked_fill(zero, 0.0)


def _divide(numerator: Tensor, denominator: Tensor, undefined: float) -> Tensor:
    """The coefficient in [-1, 1], and ``undefined`` where the denominator is zero. NaN propagates."""
    zero = denominator <= _ZERO
    rho = numerator / denominator.masked_fill(zero, 1.0)
    return rho.clamp(-1, 1).masked_fill(zero, undefined)


class _BatchOnCpu(torch.autograd.Function):
    """The coefficient of all pairs on the CPU, with the moments as numbers on the host.

    Kept for its speed (``benchmarks/loss.py``): up to n = 10,000 most time is spent on operations with scalar
    tensors and on their nodes in the graph, and the formulas above by plain autograd take 1.3 to 1.6 times as
    long as the textbook's formula in float32. Second derivatives are those of the formulas above.
    """

    @staticmethod
    def forward(ctx, scores: Tensor, ious: Tensor, formula: str, strength: float | None, undefined: float):
        ctx.save_for_backward(scores, ious)
        ctx.options, ctx.blocks = (formula, strength, None, undefined), None
        s, u, shift = scores.detach(), ious.detach(), 0.0
        if strength is None:
            s, s_mean = _centre_on_host(s)
            u, u_mean = _centre_on_host(u)
            shift = s_mean - u_mean
        else:
            rows = torch.stack((s.double(), u.double()))
            ctx.blocks = find_blocks(rows, strength)
            ranks = rank_on_host(rows, ctx.blocks, strength)
            s, u = (ranks - (len(s) + 1) / 2).unbind()  # less their mean
        ss, uu, su = s.dot(s).item(), u.dot(u).item(), s.dot(u).item()
        found = _SLOPES[formula](len(s), ss, uu, su, shift)
        rho, *ctx.slopes = found or (undefined, 0.0, 0.0, 0.0, 0.0)
        ctx.centred = s, u
        return torch.full((), rho if not abs(rho) > 1 else math.copysign(1.0, rho), dtype=torch.float64)

    @staticmethod
    def backward(ctx, grad: Tensor):
        if torch.is_grad_enabled() or not is_readable(grad):
            return *_differentiable_gradient(ctx, grad), None, None, None
        (s, u), (own_s, own_u, cross, constant) = ctx.centred, ctx.slopes
        terms = ((s, own_s, u, constant), (u, own_u, s, -constant))
        grads, scale = [None, None], grad.item()
        for i, (own, own_slope, other, constant) in enumerate(terms):
            if ctx.needs_input_grad[i]:
                value = ctx.saved_tensors[i]
                total = other * (scale * cross)
                if constant:
                    total += scale * constant
                if ctx.blocks is None:
                    out = torch.empty_like(value)  # the cast to its dtype needs no pass of its own
                    grads[i] = torch.add(total, own, alpha=scale * own_slope, out=out)
                else:
                    total.add_(own, alpha=scale * own_slope)
                    total = ctx.blocks.of_row(i, len(own)).pull_back(total) / ctx.options[1]
                    grads[i] = total.to(value.dtype)
        return *grads, None, None, None


def _differentiable_gradient(ctx, grad: Tensor) -> list[Tensor | None]:
    """The gradient by plain autograd, where it is to be differentiated in turn (``create_graph=True``)."""
    create_graph = torch.is_grad_enabled()
    needed = ctx.needs_input_grad[:2]
    with torch.enable_grad():
        pair = [value.view_as(value) for value in ctx.saved_tensors]  # two nodes, also for one tensor
        rho = _from_moments(*pair, *ctx.options)
        inputs = [value for value, need in zip(pair, needed, strict=True) if need]
        grads = iter(torch.autograd.grad(rho, inputs, grad, create_graph=create_graph))
    return [next(grads) if need else None for need in needed]


def _centre_on_host(values: Tensor) -> tuple[Tensor, float]:
    """The values less their mean, float64, and the mean."""
    anchor = 0.0
    if (
        values.dtype == torch.float64
    ):  # sums of equal float32 values are exact in float64; of these they are not
        anchor = values[0].item()
        values = values - anchor
    mean = values.mean(0, keepdim=True, dtype=torch.float64)
    return values - mean, anchor + mean.item()


def _pearson_slopes(n, ss, uu, su, shift):
    """rho, and a, b, c, d of its gradient: a s + c u + d for the scores, c s + b u - d for the IoUs."""
    if ss <= _ZERO or uu <= _ZERO:
        return None
    inverse = 1 / (math.sqrt(ss) * math.sqrt(uu))
    rho = su * inverse
    return rho, -rho / ss, -rho / uu, inverse, 0.0


def _concordance_slopes(n, ss, uu, su, shift):
    denominator = ss + uu + (n - 1) * shift * shift
    if denominator <= _ZERO:
        return None
    rho = 2 * su / denominator
    own = -2 * rho / denominator
    return rho, own, own, 2 / denominator, own * (n - 1) * shift / n


_SLOPES = {"pearson": _pearson_slopes, "concordance": _concordance_slopes}


def connected_zero(*inputs: Tensor) -> Tensor:
    """A zero that is part of the graph of the inputs, with a zero gradient, whatever they hold."""
    return sum(value[:0].sum() for value in inputs).to(out_dtype(*inputs))


def out_dtype(scores: Tensor, ious: Tensor) -> torch.dtype:
    """The dtype of results: float64 if one of both is, else float32."""
    return torch.float64 if torch.float64 in (scores.dtype, ious.dtype) else torch.float32


def check_pairs(scores: Tensor, ious: Tensor) -> None:
    """Raise TypeError or ValueError unless both are 1-d floating point tensors of one length and device."""
    for name, value in (("scores", scores), ("ious", ious)):
        if not isinstance(value, Tensor) or not value.is_floating_point():
            got = getattr(value, "dtype", type(value).__name__)
            raise TypeError(f"{name} must be a floating point tensor, got {got}")
        if value.ndim != 1:
            raise ValueError(
                f"{name} must be 1-d, one value for each positive, got shape {tuple(value.shape)}"
            )
    if scores.shape != ious.shape:
        raise ValueError(f"scores and ious must have one length, got {len(scores)} and {len(ious)}")
    if scores.device != ious.device:
        raise ValueError(f"scores and ious must be on one device, got {scores.device} and {ious.device}")
