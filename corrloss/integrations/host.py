"""What the integrations share: the check of the host library, its errors, and the loss over its positives."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata

import torch
from torch import Tensor

from corrloss.errors import CorrLossError
from corrloss.loss import CorrelationLoss

#: Tested versions of each host: from the first, below the second. The extras in pyproject.toml are the same.
VERSIONS = {
    "torchvision": ("0.19", "0.30"),
    "transformers": ("5.24", "5.25"),
    "ultralytics": ("8.4.190", "8.5"),
}


class IntegrationError(CorrLossError):
    """A host library, its model or its predictions do not fit; the message says what to do."""


@contextmanager
def host_imports(host: str) -> Iterator[None]:
    """The block imports from a host library, whose version is checked first.

    Raises:
        IntegrationError: The host is missing, its version is not a tested one, or an import fails.
    """
    first, end = VERSIONS[host]
    tested = f"corrloss.integrations.{host} needs {host} >= {first}, < {end} (the tested versions)"
    way_out = f"install one with: pip install 'corrloss[{host}]'"
    try:
        found = metadata.version(host)
    except metadata.PackageNotFoundError:
        raise IntegrationError(f"{tested}, but {host} is not installed; {way_out}") from None
    if not _numbers(first) <= _numbers(found) < _numbers(end):
        raise IntegrationError(f"{tested}, but {host} {found} is installed; {way_out}")
    try:
        yield
    except (ImportError, RuntimeError) as error:  # RuntimeError: torchvision built for another torch
        raise IntegrationError(f"{tested}; {host} {found} does not import: {error}; {way_out}") from error


def _numbers(version: str) -> tuple[int, ...]:
    """The release part of a version, such as (0, 28, 0) of ``0.28.0+cpu``."""
    return tuple(int(part) for part in re.match(r"\d+(\.\d+)*", version)[0].split("."))


def build_loss(settings: dict) -> CorrelationLoss:
    """The loss with these settings.

    Raises:
        IntegrationError: ``scope`` is ``"level"``, which the hosts do not give to their losses.
    """
    loss = CorrelationLoss(**settings)
    if loss.scope == "level":
        raise IntegrationError(
            "expected scope 'batch' or 'image', got 'level': the host does not pass the feature level of a "
            "positive to its losses; leave scope out, or use the heads of mmdet (docs/any_detector.md)"
        )
    return loss


def apply_loss(
    loss: CorrelationLoss,
    scores: Tensor,
    boxes: Tensor,
    targets: Tensor,
    image: Tensor,
    where: str,
    check_finite: bool = True,
) -> Tensor:
    """Correlation Loss of the positives of one batch, computed in float32.

    Args:
        loss: The loss.
        scores: Probability of the matched class, shape (n,).
        boxes: Predicted boxes ``x1, y1, x2, y2`` in any unit of length, shape (n, 4).
        targets: Their ground-truth boxes in the same unit, shape (n, 4).
        image: Image of each positive, int64 (n,).
        where: Name of the model, for the message.
        check_finite: Raise if a score or an IoU is not finite; otherwise the loss is NaN.

    Raises:
        IntegrationError: A score or an IoU is not finite.
    """
    if loss.gradient_to == "classifier":
        boxes = boxes.detach()
    scores, ious = scores.float(), aligned_ious(boxes.float(), targets.float())
    lost = ~(torch.isfinite(scores) & torch.isfinite(ious))
    if check_finite and lost.any():
        raise IntegrationError(
            f"{where}: expected finite scores and boxes, found NaN or infinity in {int(lost.sum())} of "
            f"{len(scores)} positives; the training diverged, or float16 overflowed above 65504: lower the "
            "learning rate, clip gradients, or use bfloat16 or float32"
        )
    return loss(scores, ious, **({"image": image} if loss.scope == "image" else {}))


def aligned_ious(boxes: Tensor, targets: Tensor) -> Tensor:
    """IoU of each box with the target of the same row, shapes (n, 4) and (n, 4) to (n,)."""
    low, high = torch.maximum(boxes[:, :2], targets[:, :2]), torch.minimum(boxes[:, 2:], targets[:, 2:])
    shared = (high - low).clamp(min=0).prod(dim=1)
    union = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1) + (targets[:, 2:] - targets[:, :2]).prod(dim=1) - shared
    return shared / union.clamp(min=torch.finfo(union.dtype).tiny)
