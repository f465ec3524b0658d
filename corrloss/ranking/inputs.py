"""Inputs of all ranking losses: checks with a single synchronisation, and targets from labels."""

import torch
from torch import Tensor


def find_positives(
    loss: str, logits: Tensor, targets: Tensor, also_wrong: dict[str, Tensor] | None = None
) -> Tensor:
    """Check logits and targets and return where the positives are.

    A ranking loss needs the number of its positives, which takes one synchronisation on a GPU. The results of
    the value checks are read in the same transfer; nothing else in this package synchronises.

    Args:
        loss: name of the loss, for error messages.
        logits: (N,) floating point.
        targets: (N,) of any real dtype: > 0 positive, 0 negative, < 0 ignored.
        also_wrong: further bool vectors, by the description of the fault that they mark.

    Returns:
        Ascending indices of the positives, (P,) int64.

    Raises:
        TypeError: logits are not floating point.
        ValueError: shapes or devices differ, a logit is not finite, a target is NaN, ``also_wrong`` is true.
    """
    check_vectors(loss, logits, targets)
    positive = targets > 0
    wrong = {
        "logit that is not finite": ~torch.isfinite(logits),
        "target that is NaN": torch.isnan(targets),
        **(also_wrong or {}),
    }
    number, *numbers_wrong = read_counts([positive, *wrong.values()])
    for (what, where), count in zip(wrong.items(), numbers_wrong, strict=True):
        if count:
            first = int(where.nonzero()[0])
            raise ValueError(
                f"{loss}: {count} of {len(where)} entries have a {what}, the first at index {first}"
            )
    # Not nonzero(): it would synchronise again to get the number of positives, which is known here.
    return torch.topk(positive.float(), number, sorted=False).indices.sort().values


def check_vectors(loss: str, logits: Tensor, targets: Tensor) -> None:
    """Raise TypeError or ValueError unless both are vectors of one length on one device."""
    if not logits.is_floating_point():
        raise TypeError(f"{loss}: logits must be floating point, got {logits.dtype}")
    if logits.dim() != 1 or logits.shape != targets.shape:
        raise ValueError(
            f"{loss}: logits and targets must be vectors of one length, got {tuple(logits.shape)} and "
            f"{tuple(targets.shape)}; corrloss.ranking.flatten_targets makes targets for (A, C) logits"
        )
    if logits.device != targets.device:
        raise ValueError(f"{loss}: logits are on {logits.device}, targets on {targets.device}")


def read_counts(masks: list[Tensor]) -> list[int]:
    """Return how many entries of each mask are true: the one transfer from device to host."""
    return torch.stack([mask.sum() for mask in masks]).tolist()


def lift_half(values: Tensor) -> Tensor:
    """Return float16 and bfloat16 as float32 (autograd casts the gradient back), other dtypes unchanged."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


def flatten_targets(
    labels: Tensor, num_classes: int, weights: Tensor | None = None, quality: Tensor | None = None
) -> Tensor:
    """Return the targets of ``logits.reshape(-1)`` for (A, C) logits.

    A ranking loss ranks all anchors and all classes together: the logit of an anchor's own class is a
    positive, its other classes and all classes of the background are negatives.

    Args:
        labels: (A,) int64 in [0, C], where C is the background, as in mmdet.
        num_classes: C.
        weights: (A,) or None. An anchor of weight 0 is ignored; other weights have no effect.
        quality: (A,) in [0, 1] or None: targets of the positives (the IoU, for Rank & Sort Loss) in place
            of 1. Only the entries of positives are used. A 0 is replaced by the smallest positive normal
            number of the dtype, so that a positive remains one.

    Returns:
        (A * C,) of the dtype of ``quality`` or float32: 1 or the quality for positives, 0 for negatives, -1
        for ignored entries.

    Raises:
        ValueError: lengths differ.

    Examples:
        >>> flatten_targets(torch.tensor([1, 2, 0]), 2, torch.tensor([1, 1, 0])).tolist()
        [0.0, 1.0, 0.0, 0.0, -1.0, -1.0]
    """
    for name, values in (("weights", weights), ("quality", quality)):
        if values is not None and values.shape != labels.shape:
            raise ValueError(f"{name} must be {tuple(labels.shape)} as labels are, got {tuple(values.shape)}")
    if quality is None:
        quality = torch.ones(len(labels), device=labels.device)
    quality = quality.detach().clamp(min=torch.finfo(quality.dtype).tiny)
    targets = quality.new_zeros(len(labels), num_classes + 1).scatter_(1, labels[:, None], quality[:, None])
    if weights is not None:
        targets = torch.where(weights[:, None] == 0, -1, targets)
    return targets[:, :num_classes].reshape(-1)
