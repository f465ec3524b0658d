"""Correlation Loss as a module: ``weight * (1 - rho)`` over the positives of a batch, level or image."""

import torch
from torch import Tensor, nn

from corrloss.coefficients import COEFFICIENTS, check_pairs, connected_zero, correlate, out_dtype
from corrloss.distributed import gather_positives, is_distributed
from corrloss.ranks import check_strength, is_number, is_readable, number_groups

SCOPES = ("batch", "level", "image")
REDUCTIONS = ("mean", "sum")
GRADIENTS = ("classifier", "regressor", "both")
PROCESSES = ("own", "all")

# Scores and IoUs may exceed [0, 1] by as much: by rounding, in bfloat16 too.
_TOLERANCE = 0.01


class CorrelationLoss(nn.Module):
    """``weight * (1 - rho(scores, ious))`` over the positives (Kahraman et al., AAAI 2023).

    Args:
        coefficient: ``"pearson"``, ``"concordance"``, ``"spearman"`` or ``"spearman_exact"``: the
            functions of `corrloss.coefficients`.
        weight: Factor of the loss, >= 0. At 0 nothing is computed.
        scope: Which positives share a coefficient: all of the ``"batch"``, or those of one ``"level"`` of the
            feature pyramid or of one ``"image"``.
        reduction: ``"mean"`` or ``"sum"`` over the levels or images with two or more positives, as in the
            release: fewer have no coefficient and do not count. Two or more whose coefficient is undefined
            (no variance) add zero and count in the mean.
        gradient_to: ``"classifier"`` detaches the IoUs, ``"regressor"`` the scores, ``"both"`` neither.
        strength: Regularisation strength of the soft rank, > 0, for ``"spearman"``. At 1 it is Pearson's.
        processes: In a distributed training, ``"own"`` takes the positives of this process alone, as the
            release does, so that images per GPU is part of the recipe; ``"all"`` joins those of all processes
            into one batch, or into its levels. An image lies in one process: not with scope ``"image"``.
        check_range: Whether scores or IoUs outside [0, 1] by more than 0.01, such as logits, raise an error.
            None: on a CPU only, because on a GPU the check synchronises. NaN propagates.

    Raises:
        ValueError: An argument is not one of its choices or out of its range.

    Examples:
        >>> loss = CorrelationLoss("concordance", weight=0.2)
        >>> scores = torch.tensor([0.3, 0.6, 0.9], requires_grad=True)
        >>> loss(scores, torch.tensor([0.3, 0.9, 0.6]))
        tensor(0.1000, grad_fn=<ToCopyBackward0>)
    """

    def __init__(
        self,
        coefficient: str = "spearman",
        weight: float = 0.2,
        scope: str = "batch",
        reduction: str = "mean",
        gradient_to: str = "classifier",
        strength: float = 1.0,
        processes: str = "own",
        check_range: bool | None = None,
    ):
        super().__init__()
        _check_choice("coefficient", coefficient, COEFFICIENTS)
        _check_choice("scope", scope, SCOPES)
        _check_choice("reduction", reduction, REDUCTIONS)
        _check_choice("gradient_to", gradient_to, GRADIENTS)
        _check_choice("processes", processes, PROCESSES)
        _check_choice("check_range", check_range, (None, True, False))
        check_strength(strength)
        if scope == "image" and processes == "all":
            raise ValueError('processes="all" needs scope "batch" or "level": an image lies in one process')
        if not is_number(weight) or not 0 <= weight < float("inf"):
            raise ValueError(f"weight must be a finite number >= 0, got {weight!r}")
        self.coefficient = coefficient
        self.weight = weight
        self.scope = scope
        self.reduction = reduction
        self.gradient_to = gradient_to
        self.strength = strength
        self.processes = processes
        self.check_range = check_range

    def forward(
        self,
        scores: Tensor,
        ious: Tensor,
        *,
        level: Tensor | None = None,
        image: Tensor | None = None,
        sample_weight: Tensor | None = None,
    ) -> Tensor:
        """The loss of the positives.

        On a GPU this never synchronises, except with ``check_range=True`` and with ``processes="all"``: then
        every process must call the loss, also one without positives, and the number of positives of each
        process is read on the host.

        Args:
            scores: Probability of the matched class, shape (n,), in [0, 1], floating point.
            ious: IoU of the predicted box with its ground truth, shape (n,), in [0, 1], floating point.
            level: Pyramid level of each positive, shape (n,), integers. Needed for scope ``"level"``.
            image: Image of each positive, shape (n,), integers. Needed for scope ``"image"``.
            sample_weight: Weight w of each positive, shape (n,), floating point, >= 0, without a gradient.
                With n the number of positives with w > 0, and v = w n / sum(w), the mean is sum(v x) / n and
                the covariance sum(v (x - mean(x)) (y - mean(y))) / (n - 1). So only ratios of weights count,
                equal weights change nothing, and a positive with weight 0 counts only in the ranks of
                others. A negative weight gives NaN.

        Returns:
            Scalar, float64 if an argument is float64 and float32 otherwise. It is part of the graph also
            where it is zero: with no positives, or where the coefficient is undefined (n < 2, no variance).
            NaN and infinities propagate.

        Raises:
            TypeError: An argument is not a tensor of the kind named above.
            ValueError: An argument has another shape, the scope's ids are missing, or ``check_range`` found
                values outside [0, 1].
        """
        check_pairs(scores, ious)
        ids = self._ids(scores, level, image)
        if sample_weight is not None:
            _check_weight(sample_weight, scores)
        if self.check_range or (self.check_range is None and is_readable(scores)):
            _check_in_range("scores", scores, "pass probabilities: apply the detector's sigmoid or softmax")
            _check_in_range("ious", ious, "pass the IoU of decoded boxes, not GIoU or distances")
        if self.gradient_to == "classifier":
            ious = ious.detach()
        elif self.gradient_to == "regressor":
            scores = scores.detach()
        if self.weight == 0:
            return connected_zero(scores, ious)
        if self.processes == "all" and is_distributed():
            columns = [scores, ious, ids, sample_weight]
            joined = iter(gather_positives(*(column for column in columns if column is not None)))
            scores, ious, ids, sample_weight = (c if c is None else next(joined) for c in columns)
        group = None if ids is None else number_groups(ids)
        # Where rho is undefined it is taken as 1, with a zero gradient: the loss is zero.
        rho = correlate(self.coefficient, scores, ious, self.strength, group, 1.0, sample_weight)
        loss = self.weight * (1 - rho).clamp(min=0)  # rounding may exceed 1
        if group is not None:
            loss = loss.sum()
            if self.reduction == "mean":
                counted = torch.ones_like(scores) if sample_weight is None else sample_weight > 0
                count = torch.zeros_like(rho).index_add(0, group, counted.to(rho.dtype))
                loss = loss / (count >= 2).sum().clamp(min=1)
        return loss.to(out_dtype(scores, ious))

    def extra_repr(self) -> str:
        """The arguments, for ``print(model)``."""
        names = (
            "coefficient",
            "weight",
            "scope",
            "reduction",
            "gradient_to",
            "strength",
            "processes",
            "check_range",
        )
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in names)

    def _ids(self, scores: Tensor, level: Tensor | None, image: Tensor | None) -> Tensor | None:
        if self.scope == "batch":
            return None
        ids = level if self.scope == "level" else image
        if ids is None:
            raise ValueError(f"scope={self.scope!r} needs {self.scope}=, the {self.scope} of each positive")
        if not isinstance(ids, Tensor) or ids.is_floating_point() or ids.dtype == torch.bool:
            got = getattr(ids, "dtype", type(ids).__name__)
            raise TypeError(f"{self.scope} must be an integer tensor, got {got}")
        if ids.shape != scores.shape:
            raise ValueError(
                f"{self.scope} must have one id for each positive, "
                f"got shape {tuple(ids.shape)} for {len(scores)} positives"
            )
        return ids.long()


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(str, choices))}, got {value!r}")


def _check_weight(weight: Tensor, scores: Tensor) -> None:
    if not isinstance(weight, Tensor) or not weight.is_floating_point():
        got = getattr(weight, "dtype", type(weight).__name__)
        raise TypeError(f"sample_weight must be a floating point tensor, got {got}")
    if weight.shape != scores.shape:
        raise ValueError(
            f"sample_weight must have one weight for each positive, "
            f"got shape {tuple(weight.shape)} for {len(scores)} positives"
        )


def _check_in_range(name: str, values: Tensor, remedy: str) -> None:
    if not len(values):
        return
    low, high = (bound.item() for bound in values.detach().aminmax())
    if low < -_TOLERANCE or high > 1 + _TOLERANCE:
        raise ValueError(
            f"expected {name} in [0, 1], found values from {low:.4g} to {high:.4g} among the {len(values)} "
            f"positives of CorrelationLoss: {remedy} (check_range=False turns this check off)"
        )
