"""aLRP Loss: the average Localisation-Recall-Precision error of the ranking.

Oksuz et al., *A Ranking-based, Balanced Loss Function Unifying Classification and Localisation in Object
Detection*, NeurIPS 2020 (arXiv 2009.13592), Sections 3 and 4.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from corrloss.ranking.gradients import with_gradient
from corrloss.ranking.inputs import find_positives, lift_half
from corrloss.ranking.steps import check_options, make_steps, step_at_zero

# A positive with fewer false positives than this has no negative to share its error with, and gets no update,
# as in the paper's released code. At delta = 0 the count is an integer, and only 0 is below.
MIN_FALSE_POSITIVES = 1e-5
#: Which positives count as ranked above another one in the localisation component.
LOCALISATION_ORDERS = ("smooth", "hard")


class ALRPErrors(NamedTuple):
    """The two components of aLRP, scalars; their sum is the aLRP error."""

    classification: Tensor
    localisation: Tensor


def alrp_loss(
    logits: Tensor,
    targets: Tensor,
    localisation_errors: Tensor,
    delta: float = 1.0,
    form: str = "bucketed",
    localisation_order: str = "smooth",
) -> ALRPErrors:
    """The average LRP error over the positives, split into its two components.

    With `H` the step of half-width ``delta``, `x_ik = x_k - x_i`, rank and `N_FP` as
    in `corrloss.ranking.ap_loss.ap_loss`, and `E(k)` the localisation error of positive k, for
    each positive i

        ℓ(i) = (N_FP(i) + E(i) + Σ_{k∈P,k≠i} H(x_ik) E(k)) / rank(i)

    The mean of the first term is the classification component (AP Loss without interpolation), of the
    others the localisation component. Their gradients:

    - to ``logits``, through the classification component alone: the target error of i is its error when it is
      ranked first, `E(i) / rank(i)`. The difference,
      `(N_FP(i) + Σ_{k≠i} H(x_ik) E(k)) / rank(i)`, is the update of i (upwards) and, in
      proportion to `H(x_ij)`, of the negatives above i (downwards). The updates sum to zero. A
      poorly localised positive above i increases the update of i;
    - to ``localisation_errors``, through the localisation component alone, with the ranks held constant.

    Args:
        logits: (N,) float16, bfloat16, float32 or float64; larger ranks higher.
        targets: (N,) of any real dtype: > 0 positive, 0 negative, < 0 ignored.
        localisation_errors: (P,) floating point, >= 0, one for each positive in the order of ``targets``. In
            the paper `(1 - IoU) / (1 - 0.5)`, or with GIoU
            `(1 - GIoU) / 2 / (1 - 0.5) = 1 - GIoU`.
        delta: half-width of the step in logits; 1 in the paper; 0 is the exact step.
        form: ``"bucketed"`` or, for checks, ``"pairwise"``: the same numbers in O(P N) memory.
        localisation_order: ``"smooth"`` sums the localisation errors of the other positives with H, as in the
            equation; ``"hard"`` sums those of the positives with larger logits, still divided by the smooth
            rank, as in the paper's released code. The two are equal at ``delta = 0`` without ties.

    Returns:
        The two components, each in the dtype of its input (float32 for half precision). Without positives
        both are zero and connected to the graph.

    Raises:
        TypeError, ValueError: see `corrloss.ranking.inputs.find_positives`; also where the number of
            localisation errors is not that of the positives, or one is negative or not finite; unknown
            options.

    Examples:
        >>> logits = torch.tensor([3.0, 2.0, 1.0])
        >>> errors = alrp_loss(logits, torch.tensor([1, 0, 1]), torch.tensor([0.2, 0.4]), delta=0)
        >>> [round(e.item(), 4) for e in errors]  # (0 + 1/3) / 2 and (0.2 + (0.2 + 0.4)/3) / 2
        [0.1667, 0.2]
    """
    check_options(delta, form)
    check_localisation_order(localisation_order)
    wrong = ~((localisation_errors >= 0) & torch.isfinite(localisation_errors))
    what = "localisation error that is negative or not finite"
    index = find_positives("ALRPLoss", logits, targets, also_wrong={what: wrong})
    _check_errors(localisation_errors, len(index), logits.device)
    logits, localisation_errors = lift_half(logits), lift_half(localisation_errors)
    if len(index) == 0:
        return ALRPErrors((logits * 0).sum(), localisation_errors.sum())
    wide, negative = logits.detach().double(), (targets == 0).double()
    positive, errors = wide[index], localisation_errors.detach().double()
    itself = 1 - step_at_zero(delta)  # a positive counts in full in its own rank
    steps = make_steps(positive, delta, form)
    located, located_positive = steps.locate(wide), steps.locate(positive)
    false_positives = steps.sum_above(located, negative)
    among = steps.sum_above(located_positive, torch.ones_like(positive)) + itself
    rank = among + false_positives
    errors_above = steps.sum_above(located_positive, errors) + itself * errors

    update = (false_positives + errors_above - errors) / rank
    update = torch.where(false_positives > MIN_FALSE_POSITIVES, update, 0)
    share = update / false_positives.clamp(min=MIN_FALSE_POSITIVES)
    to_logits = steps.spread(located, share) * negative
    to_logits.index_copy_(0, index, -update)
    if localisation_order == "hard":
        errors_above, to_errors = _hard_order_sums(positive, errors, 1 / rank)
    else:
        to_errors = steps.spread(located_positive, 1 / rank) + itself / rank
    return ALRPErrors(
        with_gradient((false_positives / rank).mean(), logits, to_logits / len(index)),
        with_gradient((errors_above / rank).mean(), localisation_errors, to_errors / len(index)),
    )


def check_localisation_order(order: str) -> None:
    """Raise ValueError unless ``order`` is one of `LOCALISATION_ORDERS`."""
    if order not in LOCALISATION_ORDERS:
        raise ValueError(f"localisation_order must be one of {', '.join(LOCALISATION_ORDERS)}; got {order!r}")


def _check_errors(errors: Tensor, positives: int, device: torch.device) -> None:
    if not errors.is_floating_point():
        raise TypeError(f"ALRPLoss: localisation_errors must be floating point, got {errors.dtype}")
    if errors.shape != (positives,):
        raise ValueError(
            f"ALRPLoss: targets hold {positives} positives, so localisation_errors must have shape "
            f"({positives},), one error for each in the same order; got {tuple(errors.shape)}"
        )
    if errors.device != device:
        raise ValueError(f"ALRPLoss: logits are on {device}, localisation_errors on {errors.device}")


def _hard_order_sums(positive: Tensor, errors: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Return two sums over the exact order of the (P,) logits ``positive``, each (P,).

    The first is, for each positive, the sum of the errors of itself and of all positives ranked above it; the
    second the sum of the weights of itself and of all positives ranked below it. The order of equal logits is
    that of ``argsort``.
    """
    order = positive.argsort(stable=True)  # ascending
    above = torch.empty_like(errors).index_copy_(0, order, errors[order].flip(0).cumsum(0).flip(0))
    below = torch.empty_like(weights).index_copy_(0, order, weights[order].cumsum(0))
    return above, below


class ALRPLoss(nn.Module):
    """`alrp_loss` as a module, whose arguments are the options of the function."""

    def __init__(
        self, delta: float = 1.0, form: str = "bucketed", localisation_order: str = "smooth"
    ) -> None:
        super().__init__()
        check_options(delta, form)
        check_localisation_order(localisation_order)
        self.delta, self.form, self.localisation_order = delta, form, localisation_order

    def forward(self, logits: Tensor, targets: Tensor, localisation_errors: Tensor) -> ALRPErrors:
        """Return both components of (N,) logits, (N,) targets, (P,) errors; see `alrp_loss`."""
        return alrp_loss(logits, targets, localisation_errors, self.delta, self.form, self.localisation_order)
