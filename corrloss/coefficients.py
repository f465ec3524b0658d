"""Pearson's, Lin's and Spearman's coefficient between scores and IoUs, differentiable.

Each is one node of the graph with a gradient written by hand. Sums are taken over differences from a value
of the sample: equal values have a variance of exactly zero, and a spread of 1e-6 near 1 keeps its digits.
"""

import torch
from torch import Tensor

from corrloss._exact_rank import exact_rank
from corrloss._nodes import Correlation, CorrelationOnCpu, GroupedCorrelationOnCpu, Wanted, number_groups
from corrloss.ranks import check_strength, rank_rows, runs_on_cpu

COEFFICIENTS = ("pearson", "concordance", "spearman", "spearman_exact")


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

    >>> pearson(torch.tensor([0.1, 0.5, 0.9]), torch.tensor([0.6, 0.7, 0.8]))
    tensor(1.)
    """
    return correlate("pearson", scores, ious)


def concordance(scores: Tensor, ious: Tensor) -> Tensor:
    """Lin's concordance, ``2 cov(s, u) / (var(s) + var(u) + (mean(s) - mean(u))**2)``.

    Lin, *A Concordance Correlation Coefficient to Evaluate Reproducibility*, Biometrics 1989. The variances
    and the covariance are the unbiased ones (n - 1), as in the release of Correlation Loss.

    Arguments, dtype and errors are those of :func:`pearson`. It is undefined, hence 0 with a zero gradient,
    only where the denominator is zero: n < 2, or both samples are one and the same constant.

    >>> concordance(torch.tensor([0.1, 0.5, 0.9]), torch.tensor([0.1, 0.5, 0.9]))
    tensor(1.)
    """
    return correlate("concordance", scores, ious)


def spearman(scores: Tensor, ious: Tensor, strength: float = 1.0) -> Tensor:
    """Pearson's correlation of the L2 soft ranks of scores and IoUs (:func:`corrloss.soft_rank`).

    Blondel et al., *Fast Differentiable Sorting and Ranking*, ICML 2020.

    With ``strength=1``, as in the release of Correlation Loss, the soft rank of numbers from [0, 1] is the
    numbers plus a constant, so that the result *is* Pearson's: it is computed as such, without sorting.
    ``docs/spearman.md`` has the proof. A rank correlation needs a strength well below the gaps between the
    scores, about ``0.05 / n``.

    Args:
        scores: Shape (n,), floating point, in [0, 1].
        ious: Shape (n,), floating point, in [0, 1].
        strength: Regularisation strength of the soft rank, > 0.

    Returns and errors are those of :func:`pearson`; also ValueError where ``strength`` is not positive. On a
    GPU, at a strength of 1 or more, the result is NaN if the values of an argument lie further apart than
    the strength: to look, and rank them then, would cost a wait. On the CPU they are ranked.

    >>> scores, ious = torch.tensor([0.1, 0.2, 0.9]), torch.tensor([0.6, 0.7, 0.8])
    >>> spearman(scores, ious, strength=0.01)
    tensor(1.)
    >>> spearman(scores, ious) == pearson(scores, ious)
    tensor(True)
    """
    return correlate("spearman", scores, ious, strength)


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

    Arguments, returns and errors are those of :func:`pearson`. A second derivative is refused.

    >>> spearman_exact(torch.tensor([0.1, 0.2, 0.9]), torch.tensor([0.6, 0.7, 0.8]))
    tensor(1.)
    """
    return correlate("spearman_exact", scores, ious)


def correlate(
    coefficient: str,
    scores: Tensor,
    ious: Tensor,
    strength: float = 1.0,
    constant: float = 0.0,
    factor: float = 1.0,
) -> Tensor:
    """``constant + factor * rho`` where rho is defined, and 0 with a zero gradient where it is not.

    Args:
        coefficient: One of ``COEFFICIENTS``.
        scores: Shape (n,), floating point.
        ious: Shape (n,), floating point.
        strength: Regularisation strength, for ``"spearman"`` alone.
        constant: Added to the multiple of rho.
        factor: What rho is multiplied by.
    """
    return _correlate(coefficient, scores, ious, None, "sum", strength, constant, factor)


def correlate_groups(
    coefficient: str,
    scores: Tensor,
    ious: Tensor,
    ids: Tensor,
    reduction: str,
    strength: float = 1.0,
    constant: float = 0.0,
    factor: float = 1.0,
) -> Tensor:
    """As :func:`correlate`, within each group of pairs that have one id, and over the groups.

    Args:
        coefficient: One of ``COEFFICIENTS``.
        scores: Shape (n,), floating point.
        ious: Shape (n,), floating point.
        ids: Shape (n,), int64.
        reduction: ``"mean"`` or ``"sum"`` over the groups.
        strength: As for :func:`correlate`, and so are the last two.
        constant: Added to the multiple of rho.
        factor: What rho is multiplied by.
    """
    return _correlate(coefficient, scores, ious, ids, reduction, strength, constant, factor)


def _correlate(coefficient, scores, ious, ids, reduction, strength, constant, factor) -> Tensor:
    check_pairs(scores, ious)
    if scores.numel() == 0:
        return connected_zero(scores, ious)
    on_cpu = runs_on_cpu(scores)
    if not on_cpu:  # NumPy is out of its reach
        device = scores.device.type
        if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
            with torch.autocast(device, enabled=False):  # it would take the moments in half precision
                return _correlate(coefficient, scores, ious, ids, reduction, strength, constant, factor)
    formula = "concordance" if coefficient == "concordance" else "pearson"
    if coefficient == "spearman":
        check_strength(strength)
    else:
        strength = None
    group, count = None, 1
    if ids is not None and not (on_cpu and coefficient != "spearman_exact"):
        group, count = number_groups(ids)
    wanted = Wanted(formula, strength, constant, factor, _out_dtype(scores, ious), reduction)
    if coefficient == "spearman_exact":
        scores, ious = exact_rank(scores, group), exact_rank(ious, group)
    if on_cpu and ids is None:
        return CorrelationOnCpu.apply(scores, ious, wanted)
    if on_cpu:
        return GroupedCorrelationOnCpu.apply(scores, ious, ids, wanted)
    rho = _on_device(scores, ious, group, wanted)
    return rho if ids is None else rho.sum() / count if reduction == "mean" else rho.sum()


def _on_device(scores, ious, group, wanted: Wanted) -> Tensor:
    """An entry for each group, without a look at a value, but on the CPU."""
    strength, plain = wanted.strength, wanted._replace(strength=None)
    if strength is None:
        return Correlation.apply(scores, ious, group, plain)
    if scores.is_cpu and not torch.compiler.is_compiling():
        is_one_block = _is_one_block(scores, strength) and _is_one_block(ious, strength)
    elif strength >= 1:
        return _refuse_range(Correlation.apply(scores, ious, group, plain), scores, ious, strength)
    else:
        is_one_block = False
    if not is_one_block:
        scores, ious = rank_rows(torch.stack((scores, ious)), strength, group).unbind()
    return Correlation.apply(scores, ious, group, plain)


def _is_one_block(values: Tensor, strength: float) -> bool:
    """Whether the range alone proves that the soft rank is the values plus a constant; false with a NaN."""
    low, high = values.detach().aminmax()
    return high.item() - low.item() <= strength


def _refuse_range(rho: Tensor, scores: Tensor, ious: Tensor, strength: float) -> Tensor:
    """NaN where the arguments are wider than [0, 1], for which rho was taken without a look at them."""
    low, high = torch.stack((scores.detach(), ious.detach())).aminmax(dim=1)
    return torch.where(((high - low) > strength).any(), torch.nan, rho)


def connected_zero(*inputs: Tensor) -> Tensor:
    """A zero that is part of the graph of the inputs, with a zero gradient, whatever they hold."""
    return sum(value[:0].sum() for value in inputs).to(_out_dtype(*inputs))


def _out_dtype(scores: Tensor, ious: Tensor) -> torch.dtype:
    return torch.float64 if torch.float64 in (scores.dtype, ious.dtype) else torch.float32


def check_pairs(scores: Tensor, ious: Tensor) -> None:
    """Raise TypeError or ValueError unless both are 1-d floating point tensors of one length and device."""
    are_tensors = isinstance(scores, Tensor) and isinstance(ious, Tensor)
    if (
        are_tensors
        and scores.is_floating_point()
        and ious.is_floating_point()
        and scores.ndim == 1
        and scores.shape == ious.shape
        and scores.device == ious.device
    ):
        return  # nothing to explain
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
