"""AP Loss: one minus the average precision of the ranking.

Chen et al., *Towards Accurate One-Stage Object Detection with AP-Loss*, CVPR 2019 (arXiv 1904.06373), and
*AP-Loss for Accurate One-Stage Object Detection*, TPAMI 2020 (arXiv 2008.07294).
"""

import torch
from torch import Tensor, nn

from corrloss.ranking.gradients import with_gradient
from corrloss.ranking.inputs import find_positives, lift_half
from corrloss.ranking.steps import check_options, make_steps, step_at_zero


def ap_loss(
    logits: Tensor, targets: Tensor, delta: float = 1.0, interpolated: bool = True, form: str = "bucketed"
) -> Tensor:
    """One minus the average precision of ``logits``, with the error-driven update as its gradient.

    With `H` the step of half-width ``delta`` and `x_ij = x_j - x_i`, for each positive i

        N_FP(i) = Σ_{j∈N} H(x_ij)
        rank(i) = 1 + Σ_{j∈P,j≠i} H(x_ij) + N_FP(i)

    and the loss is the mean over the positives of `ℓ(i) = N_FP(i) / rank(i) = 1 - precision(i)`
    (Eq. 5 of the CVPR paper; the 1 is the positive itself). The gradient is not the derivative
    of the value, which is zero almost everywhere: each positive moves by its own error,
    `-ℓ(i) / |P|`, and each negative j by the part of the errors that it caused,
    `Σ_i ℓ(i) H(x_ij) / N_FP(i) / |P|`. The two sum to zero.

    Args:
        logits: (N,) float16, bfloat16, float32 or float64; larger ranks higher.
        targets: (N,) of any real dtype: > 0 positive, 0 negative, < 0 ignored.
        delta: half-width of the step in logits; 1 in the paper; 0 is the exact step, and the loss then is
            one minus the AP, equal logits counting as ranked wrongly.
        interpolated: replace precision(i) by the largest precision at any recall not below that of i, as in
            the paper's "interpolated AP" and its released code; False gives the plain AP.
        form: ``"bucketed"`` or, for checks, ``"pairwise"``: the same numbers in O(P N) memory.

    Returns:
        Scalar in [0, 1], float32 for half precision input, else of the dtype of ``logits``. Without
        positives it is zero and connected to the graph.

    Raises:
        TypeError, ValueError: see `corrloss.ranking.inputs.find_positives`; unknown options.

    Examples:
        >>> logits = torch.tensor([3.0, 2.0, 1.0, 0.0], requires_grad=True)
        >>> loss = ap_loss(logits, torch.tensor([1, 0, 1, 0]), delta=0)
        >>> round(loss.item(), 4)  # precisions 1/1 and 2/3
        0.1667
        >>> loss.backward(); [round(g, 4) + 0.0 for g in logits.grad.tolist()]
        [0.0, 0.1667, -0.1667, 0.0]
    """
    check_options(delta, form)
    index = find_positives("APLoss", logits, targets)
    logits = lift_half(logits)
    if len(index) == 0:
        return (logits * 0).sum()
    wide, negative = logits.detach().double(), (targets == 0).double()
    positive = wide[index]
    steps = make_steps(positive, delta, form)
    located = steps.locate(wide)
    false_positives = steps.sum_above(located, negative)
    among = steps.sum_above(steps.locate(positive), torch.ones_like(positive))
    error = false_positives / (1 + among - step_at_zero(delta) + false_positives)
    if interpolated:
        error = smallest_error_from_below(error, positive)
    share = torch.where(false_positives > 0, error / false_positives, 0)
    update = steps.spread(located, share) * negative
    update.index_copy_(0, index, -error)
    return with_gradient(error.mean(), logits, update / len(index))


def smallest_error_from_below(error: Tensor, positive: Tensor) -> Tensor:
    """Return for each positive the smallest error of it and of all positives with smaller logits, (P,).

    Recall grows down the ranking, so this is one minus the largest precision at any recall not below.
    """
    order = positive.argsort()
    return torch.empty_like(error).index_copy_(0, order, error[order].cummin(0).values)


class APLoss(nn.Module):
    """`ap_loss` as a module, whose arguments are the options of the function."""

    def __init__(self, delta: float = 1.0, interpolated: bool = True, form: str = "bucketed") -> None:
        super().__init__()
        check_options(delta, form)
        self.delta, self.interpolated, self.form = delta, interpolated, form

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of (N,) logits and (N,) targets; see `ap_loss`."""
        return ap_loss(logits, targets, self.delta, self.interpolated, self.form)
