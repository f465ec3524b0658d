"""Input checks of all ranking losses, with a single synchronisation with the device."""

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
            raise ValueError(describe_wrong(loss, what, where, count))
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


def describe_wrong(loss: str, what: str, where: Tensor, count: int) -> str:
    """Message with the number of wrong entries and the index of the first one."""
    first = int(where.nonzero()[0])
    return f"{loss}: {count} of {len(where)} entries have a {what}, the first at index {first}"


def lift_half(values: Tensor) -> Tensor:
    """Return float16 and bfloat16 as float32 (autograd casts the gradient back), other dtypes unchanged."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values
