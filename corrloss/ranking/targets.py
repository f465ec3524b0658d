"""Converts a detector's labels to the flat targets of the ranking losses."""

import torch
from torch import Tensor


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
