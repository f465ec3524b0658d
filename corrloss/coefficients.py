"""Pearson's, Lin's and Spearman's coefficient between scores and IoUs, differentiable.

With s the scores and u the IoUs, both less their mean, and s.u the sum over their products:

    Pearson      s.u / (|s| |u|)
    Concordance  2 s.u / (s.s + u.u + (n - 1) (mean of scores - mean of IoUs)**2)
    Spearman     Pearson's, of the ranks of scores and IoUs

All sums are taken in float64, so that a spread of 1e-6 near 1 keeps its digits, and equal values have a
variance of exactly zero.
"""

import math

import torch
from torch import Tensor
from torch.linalg import vector_norm
from torch.nn.functional import threshold

from corrloss.ranks import check_strength, exact_rank, is_readable, soft_rank_rows

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
    return _in_bounds(correlate("pearson", scores, ious), out_dtype(scores, ious))


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
    return _in_bounds(correlate("concordance", scores, ious), out_dtype(scores, ious))


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
    return _in_bounds(correlate("spearman", scores, ious, strength), out_dtype(scores, ious))


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
    return _in_bounds(correlate("spearman_exact", scores, ious), out_dtype(scores, ious))


def correlate(
    coefficient: str,
    scores: Tensor,
    ious: Tensor,
    strength: float = 1.0,
    group: Tensor | None = None,
    undefined: float = 0.0,
    sample_weight: Tensor | None = None,
) -> Tensor:
    """The coefficient of all pairs, or of the pairs of each group.

    Args:
        coefficient: One of ``COEFFICIENTS``.
        scores: Shape (n,), floating point.
        ious: Shape (n,), floating point.
        strength: Regularisation strength, for ``"spearman"`` alone.
        group: Group of each pair, shape (n,), int64, in [0, n). None: all pairs are one group.
        undefined: Value, with a zero gradient, where the coefficient is undefined.
        sample_weight: Weight of each pair in means, variances and covariance, shape (n,), floating point, see
            `corrloss.CorrelationLoss.forward`. Ranks do not depend on it.

    Returns:
        float64, beyond [-1, 1] by rounding at most: a scalar, or the coefficient of each group, shape (g,)
        with g larger than any of ``group``. Groups without a pair are undefined.
    """
    check_pairs(scores, ious)
    if coefficient == "spearman":
        check_strength(strength)
    if scores.numel() == 0:
        nothing = connected_zero(scores, ious).double()
        return nothing + undefined if group is None else nothing.expand(0)
    one_block = True
    if coefficient == "spearman_exact":
        scores, ious = exact_rank(scores, group), exact_rank(ious, group)
    elif coefficient == "spearman":
        one_block = _is_one_block(scores, ious, strength)
        if one_block is False:
            pair = torch.stack((scores.double(), ious.double()))
            scores, ious = soft_rank_rows(pair, strength, group).unbind()
    sums = _SumsOfAll(scores) if group is None else _SumsOfGroups(group)
    if sample_weight is not None:
        sums.use_weight(sample_weight)
    formula = _concordance if coefficient == "concordance" else _pearson
    rho = _divide(*formula(scores, ious, sums), undefined)
    return torch.where(one_block, rho, torch.nan) if isinstance(one_block, Tensor) else rho


def _is_one_block(scores: Tensor, ious: Tensor, strength: float) -> bool | Tensor:
    """Whether the soft ranks only shift and scale the values, proved by their range alone.

    Where values cannot be read: false below a strength of 1. From 1 on a tensor, so that the result can be
    made NaN where it is false, without a GPU synchronisation.
    """
    bounds = [values.detach().aminmax() for values in (scores, ious)]
    if is_readable(scores):
        return all(high.item() - low.item() <= strength for low, high in bounds)
    if strength < 1:
        return False
    first, second = ((high.double() - low.double()) <= strength for low, high in bounds)
    return first & second


def _pearson(scores: Tensor, ious: Tensor, sums) -> tuple[Tensor, Tensor]:
    """Numerator and denominator of cov(s, u) / (sd(s) sd(u)), both times n - 1."""
    (s, _), (u, _) = _centre(scores, sums), _centre(ious, sums)
    return sums.dot(s, u), sums.norm(s) * sums.norm(u)


def _concordance(scores: Tensor, ious: Tensor, sums) -> tuple[Tensor, Tensor]:
    """Numerator and denominator of 2 cov(s, u) / (var(s) + var(u) + shift**2), both times n - 1."""
    (s, mean_s), (u, mean_u) = _centre(scores, sums), _centre(ious, sums)
    shift = (sums.n - 1) * (mean_s - mean_u).square()
    return 2 * sums.dot(s, u), sums.dot(s, s) + sums.dot(u, u) + shift


def _divide(numerator: Tensor, denominator: Tensor, undefined: float) -> Tensor:
    """The coefficient, and ``undefined`` where the denominator is zero. NaN propagates."""
    # A numerator divided by infinity is zero with a zero gradient.
    rho = numerator / threshold(denominator, _ZERO, math.inf)
    return rho.masked_fill(denominator <= _ZERO, undefined) if undefined else rho


def _in_bounds(rho: Tensor, dtype: torch.dtype) -> Tensor:
    """The coefficient in [-1, 1] and of that dtype. Rounding to float32 needs no clamp, which costs 10%."""
    return rho.clamp(-1, 1) if dtype == torch.float64 else rho.to(dtype)


def _centre(values: Tensor, sums) -> tuple[Tensor, Tensor]:
    """The values less their mean, times the root of their weight if they have one; and the mean. float64."""
    anchor, weight = None, sums.weight
    if values.dtype == torch.float64 or weight is not None:
        # Sums of equal values are exact if they are float32 and have no weight. Else differences are summed.
        anchor = sums.any_value(values.detach().double())
        values = values - sums.of_pairs(anchor)
    values = values.double()
    # Tensor.mean multiplies by 1 / n on a GPU, which rounds.
    mean = sums.total(values if weight is None else weight * values) / sums.n
    centred = values - sums.of_pairs(mean)
    if weight is not None:
        centred = weight.sqrt() * centred
    return centred, mean if anchor is None else anchor + mean


class _Sums:
    """Sums over the pairs. ``n``: number of pairs with a weight above zero, 1 if there is none."""

    weight = None

    def use_weight(self, weight: Tensor) -> None:
        """Set the weights, scaled such that their sum is the number of pairs with a weight above zero."""
        weight = weight.detach().double()
        weight = torch.where(weight >= 0, weight, torch.nan)
        count, total = self.total((weight > 0).double()), self.total(weight)
        self.n = count.clamp(min=1)
        self.weight = weight * self.of_pairs(count / total.masked_fill(total == 0, 1.0))


class _SumsOfAll(_Sums):
    """Over all pairs: scalars."""

    total = staticmethod(torch.sum)
    dot = staticmethod(torch.dot)
    norm = staticmethod(vector_norm)  # with a zero gradient at zero

    def __init__(self, values: Tensor):
        self.n = len(values)

    @staticmethod
    def any_value(values: Tensor) -> Tensor:
        return values[0]

    @staticmethod
    def of_pairs(value: Tensor) -> Tensor:
        """For each pair the value of its group."""
        return value


class _SumsOfGroups(_Sums):
    """Over the pairs of each group: shape (g,)."""

    def __init__(self, group: Tensor):
        self.group = group
        # How many groups there are is not known without reading it on the host; there are n at most.
        count = int(group.max()) + 1 if is_readable(group) else len(group)
        self.zeros = torch.zeros(count, dtype=torch.float64, device=group.device)
        self.n = self.total(torch.ones_like(group, dtype=torch.float64)).clamp(min=1)

    def total(self, values: Tensor) -> Tensor:
        return self.zeros.scatter_add(0, self.group, values)

    def dot(self, a: Tensor, b: Tensor) -> Tensor:
        return self.total(a * b)

    def norm(self, values: Tensor) -> Tensor:
        square = self.dot(values, values)
        zero = square <= _ZERO
        return square.masked_fill(zero, 1.0).sqrt().masked_fill(zero, 0.0)

    def any_value(self, values: Tensor) -> Tensor:
        return self.zeros.scatter(0, self.group, values)

    def of_pairs(self, values: Tensor) -> Tensor:
        return values.index_select(0, self.group)


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
