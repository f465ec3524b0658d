"""Correlation Loss as a module: ``weight * (1 - rho)`` over the positives of a batch, level or image."""

import torch
from torch import Tensor, nn

from corrloss.coefficients import COEFFICIENTS, check_pairs, connected_zero, correlate, out_dtype
from corrloss.distributed import gather_positives, is_distributed
from corrloss.ranks import check_strength, is_number, number_groups

SCOPES = ("batch", "level", "image")
REDUCTIONS = ("mean", "sum")
GRADIENTS = ("classifier", "regressor", "both")
PROCESSES = ("own", "all")


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
    ):
        super().__init__()
        _check_choice("coefficient", coefficient, COEFFICIENTS)
        _check_choice("scope", scope, SCOPES)
        _check_choice("reduction", reduction, REDUCTIONS)
        _check_choice("gradient_to", gradient_to, GRADIENTS)
        _check_choice("processes", processes, PROCESSES)
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

    def forward(
        self, scores: Tensor, ious: Tensor, *, level: Tensor | None = None, image: Tensor | None = None
    ) -> Tensor:
        """The loss of the positives.

        On a GPU this never synchronises, except with ``processes="all"``: then every process must call the
        loss, also one without positives, and the number of positives of each process is read on the host.

        Args:
            scores: Probability of the matched class, shape (n,), in [0, 1], floating point.
            ious: IoU of the predicted box with its ground truth, shape (n,), in [0, 1], floating point.
            level: Pyramid level of each positive, shape (n,), integers. Needed for scope ``"level"``.
            image: Image of each positive, shape (n,), integers. Needed for scope ``"image"``.

        Returns:
            Scalar, float64 if an argument is float64 and float32 otherwise. It is part of the graph also
            where it is zero: with no positives, or where the coefficient is undefined (n < 2, no variance).
            NaN and infinities propagate.

        Raises:
            TypeError: An argument is not a tensor of the kind named above.
            ValueError: An argument has another shape, or the scope's ids are missing.
        """
        check_pairs(scores, ious)
        ids = self._ids(scores, level, image)
        if self.gradient_to == "classifier":
            ious = ious.detach()
        elif self.gradient_to == "regressor":
            scores = scores.detach()
        if self.weight == 0:
            return connected_zero(scores, ious)
        if self.processes == "all" and is_distributed():
            scores, ious, ids = self._join_processes(scores, ious, ids)
        group = None if ids is None else number_groups(ids)
        # Where rho is undefined it is taken as 1, with a zero gradient: the loss is zero.
        rho = correlate(self.coefficient, scores, ious, self.strength, group, undefined=1.0)
        loss = self.weight * (1 - rho).clamp(min=0)  # rounding may exceed 1
        if group is not None:
            loss = loss.sum()
            if self.reduction == "mean":
                count = torch.zeros_like(rho).index_add(0, group, torch.ones_like(group, dtype=rho.dtype))
                loss = loss / (count >= 2).sum().clamp(min=1)
        return loss.to(out_dtype(scores, ious))

    def extra_repr(self) -> str:
        """The arguments, for ``print(model)``."""
        names = ("coefficient", "weight", "scope", "reduction", "gradient_to", "strength", "processes")
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in names)

    @staticmethod
    def _join_processes(scores: Tensor, ious: Tensor, ids: Tensor | None):
        own = (scores, ious) if ids is None else (scores, ious, ids)
        scores, ious, *ids = gather_positives(*own)
        return scores, ious, ids[0] if ids else None

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
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}")
