"""Rank & Sort Loss: positives above negatives, and positives in the order of their IoU.

Oksuz et al., *Rank & Sort Loss for Object Detection and Instance Segmentation*, ICCV 2021
(arXiv 2107.11669).
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from corrloss.ranking.gradients import with_gradient
from corrloss.ranking.inputs import find_positives, lift_half
from corrloss.ranking.steps import check_options, make_steps, step

# Pairs of positives in memory at a time: 8 MiB per float64 matrix, for any number of positives.
PAIRS_AT_A_TIME = 2**20


class RankSortErrors(NamedTuple):
    """The two components of Rank & Sort Loss, scalars; their sum is the loss."""

    ranking: Tensor
    sorting: Tensor


def rank_sort_loss(
    logits: Tensor, targets: Tensor, delta: float = 0.5, form: str = "bucketed"
) -> RankSortErrors:
    """The ranking error and the sorting error of ``logits``, each with its identity update as gradient.

    With `H` the step of half-width ``delta``, `x_ij = x_j - x_i`, `y` the targets of the
    positives, `rank^+(i) = Σ_{j∈P} H(x_ij)` and
    `rank(i) = rank^+(i) + N_FP(i)`, the current errors of positive i are (Eq. 7)

        ℓ_R(i) = N_FP(i) / rank(i)
        ℓ_S(i) = Σ_{j∈P} H(x_ij) (1 - y_j) / rank^+(i)

    and the target errors (Eq. 8) are zero for ranking, and for sorting `ℓ^*_S(i)`, the same mean
    over the j with `y_j ≥ y_i` alone, which are correctly ranked above i. The values are the means
    over the positives of `ℓ_R` and of `ℓ_S - ℓ^*_S`.

    Identity update (Eq. 9): each error is the upward update of its positive and is distributed as a downward
    update: the ranking error over the negatives by `H(x_ij) / N_FP(i)`, the sorting error over the
    positives above i with a smaller target, by their share of `Σ H(x_ij)`. Each gradient sums to
    zero.

    A positive is also compared with itself, where H is 0.5 if ``delta > 0``: it counts half in its own rank.
    So do the paper's equations and its released code; AP Loss and aLRP Loss count it in full.

    Args:
        logits: (N,) float16, bfloat16, float32 or float64; larger ranks higher.
        targets: (N,) of any real dtype: in (0, 1] the IoU of a positive, 0 a negative, < 0 ignored. A
            positive whose IoU is exactly 0 would be a negative: give it a tiny number, as
            `corrloss.ranking.flatten_targets` does.
        delta: half-width of the step in logits; 0.5 in the paper; 0 is the exact step.
        form: ``"bucketed"`` or, for checks, ``"pairwise"``: the same numbers in O(P N) memory.

    Returns:
        Both errors, each in [0, 1], float32 for half precision input, else of the dtype of ``logits``.
        Without positives both are zero and connected to the graph.

    Raises:
        TypeError, ValueError: see `corrloss.ranking.inputs.find_positives`; also where a target is
            above 1; unknown options.

    Examples:
        >>> logits = torch.tensor([3.0, 2.0, 1.0])
        >>> errors = rank_sort_loss(logits, torch.tensor([0.5, 0.0, 0.9]), delta=0)
        >>> [round(e.item(), 4) for e in errors]  # (0 + 1/3) / 2 and (0 + (0.5 + 0.1)/2 - 0.1) / 2
        [0.1667, 0.1]
    """
    check_options(delta, form)
    index = find_positives("RankSortLoss", logits, targets, also_wrong={"target above 1": targets > 1})
    logits = lift_half(logits)
    if len(index) == 0:
        return RankSortErrors((logits * 0).sum(), (logits * 0).sum())
    wide, negative = logits.detach().double(), (targets == 0).double()
    positive, quality = wide[index], targets[index].double()
    steps = make_steps(positive, delta, form)
    located = steps.locate(wide)
    false_positives = steps.sum_above(located, negative)
    rank = false_positives + steps.sum_above(steps.locate(positive), torch.ones_like(positive))
    ranking_error = false_positives / rank
    by_ranking = steps.spread(located, 1 / rank) * negative  # share: the error over its false positives
    by_ranking.index_copy_(0, index, -ranking_error)
    sorting_error, update = sort_positives(positive, quality, delta)
    by_sorting = torch.zeros_like(wide).index_copy_(0, index, update)
    return RankSortErrors(
        with_gradient(ranking_error.mean(), logits, by_ranking / len(index)),
        with_gradient(sorting_error.mean(), logits, by_sorting / len(index)),
    )


def sort_positives(positive: Tensor, quality: Tensor, delta: float) -> tuple[Tensor, Tensor]:
    """Return the sorting error of each positive, (P,), and the identity update of all before division by P.

    Uses all P x P pairs of the float64 logits ``positive`` and targets ``quality``, a few rows at a time.
    """
    errors, update = torch.zeros_like(positive), torch.zeros_like(positive)
    rows = max(1, PAIRS_AT_A_TIME // len(positive))
    for start in range(0, len(positive), rows):
        part = slice(start, start + rows)
        above = step(positive - positive[part, None], delta)
        correct = above * (quality >= quality[part, None])
        wrong = above - correct
        badness = 1 - quality
        error = above @ badness / above.sum(1) - correct @ badness / correct.sum(1)
        n_wrong = wrong.sum(1)
        error = torch.where(n_wrong > 0, error.clamp(min=0), 0)  # rounding can give values below 0
        errors[part] = error
        update[part] -= error
        update += (torch.where(n_wrong > 0, error / n_wrong, 0)) @ wrong
    return errors, update


class RankSortLoss(nn.Module):
    """`rank_sort_loss` as a module, whose arguments are the options of the function."""

    def __init__(self, delta: float = 0.5, form: str = "bucketed") -> None:
        super().__init__()
        check_options(delta, form)
        self.delta, self.form = delta, form

    def forward(self, logits: Tensor, targets: Tensor) -> RankSortErrors:
        """Return both errors of (N,) logits and (N,) targets; see `rank_sort_loss`."""
        return rank_sort_loss(logits, targets, self.delta, self.form)
