"""Scores and IoUs of positives, for `corrloss.CorrelationLoss` in your own training loop."""

import torch
from torch import Tensor

BOX_FORMATS = ("xyxy", "xywh", "cxcywh")
ACTIVATIONS = ("sigmoid", "softmax")


def aligned_iou(boxes: Tensor, targets: Tensor, box_format: str = "xyxy") -> Tensor:
    """IoU of each box with the target of the same row.

    Args:
        boxes: Decoded boxes of the positives, shape (n, 4), floating point.
        targets: The ground-truth box of each, shape (n, 4), floating point.
        box_format: Of both: ``"xyxy"`` (two corners), ``"xywh"`` (first corner, width, height) or
            ``"cxcywh"`` (centre, width, height). Any unit: pixels, or fractions of the image.

    Returns:
        Shape (n,), in [0, 1], float64 if an argument is float64 and float32 otherwise, with a gradient. Zero
        with a zero gradient where both boxes have no area. A negative width or height counts as zero. NaN
        propagates.

    Raises:
        TypeError: An argument is not a floating point tensor.
        ValueError: Another shape, or an unknown ``box_format``.

    Examples:
        >>> aligned_iou(torch.tensor([[0.0, 0, 2, 2]]), torch.tensor([[1.0, 0, 3, 2]]))
        tensor([0.3333])
    """
    for name, value in (("boxes", boxes), ("targets", targets)):
        _check_floating(name, value)
        if value.ndim != 2 or value.shape[1] != 4:
            raise ValueError(
                f"{name} must have shape (n, 4), one box for each positive, got {tuple(value.shape)}"
            )
    if boxes.shape != targets.shape:
        raise ValueError(
            f"boxes and targets must have one row for each positive, got {len(boxes)} and {len(targets)}"
        )
    dtype = torch.promote_types(torch.promote_types(boxes.dtype, targets.dtype), torch.float32)
    first, second = (to_xyxy(each.to(dtype), box_format) for each in (boxes, targets))
    overlap = _area(
        torch.maximum(first[:, :2], second[:, :2]),
        torch.minimum(first[:, 2:], second[:, 2:]),
    )
    union = _area(first[:, :2], first[:, 2:]) + _area(second[:, :2], second[:, 2:]) - overlap
    empty = union <= 0
    return (overlap / union.masked_fill(empty, 1.0)).masked_fill(empty, 0.0)


def to_xyxy(boxes: Tensor, box_format: str) -> Tensor:
    """Boxes of a format of `aligned_iou`, shape (..., 4), as two corners, shape (..., 4).

    Examples:
        >>> to_xyxy(torch.tensor([5.0, 5.0, 2.0, 4.0]), "cxcywh")
        tensor([4., 3., 6., 7.])
    """
    _check_choice("box_format", box_format, BOX_FORMATS)
    if box_format == "xyxy":
        return boxes
    point, size = boxes.split(2, dim=-1)
    corner = point if box_format == "xywh" else point - size / 2
    return torch.cat((corner, corner + size), dim=-1)


def matched_scores(logits: Tensor, labels: Tensor, activation: str) -> Tensor:
    """Probability of the matched class of each positive, from the detector's classification logits.

    Args:
        logits: Shape (n, classes), floating point; with the background's column where the detector has one.
        labels: Class of the matched ground-truth box, shape (n,), int64: a column of ``logits``.
        activation: What the detector applies to its logits: ``"sigmoid"`` (RetinaNet, FCOS, YOLO,
            Deformable DETR) or ``"softmax"`` over all columns (Faster R-CNN, DETR).

    Returns:
        Shape (n,), in [0, 1], float64 for float64 logits and float32 otherwise, with a gradient.

    Raises:
        TypeError: ``logits`` are not floating point, or ``labels`` not int64.
        ValueError: Another shape, or an unknown ``activation``.

    Examples:
        >>> matched_scores(torch.tensor([[0.0, 9.0]]), torch.tensor([0]), "sigmoid")
        tensor([0.5000])
    """
    _check_choice("activation", activation, ACTIVATIONS)
    _check_floating("logits", logits)
    if not isinstance(labels, Tensor) or labels.dtype != torch.int64:
        raise TypeError(
            f"labels must be an int64 tensor, got {getattr(labels, 'dtype', type(labels).__name__)}"
        )
    if logits.ndim != 2 or labels.shape != logits.shape[:1]:
        raise ValueError(
            "logits must have shape (n, classes) and labels shape (n,), "
            f"got {tuple(logits.shape)} and {tuple(labels.shape)}"
        )
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    if activation == "softmax":
        return logits.softmax(dim=1).gather(1, labels[:, None]).squeeze(1)
    return logits.gather(1, labels[:, None]).squeeze(1).sigmoid()


def _area(low: Tensor, high: Tensor) -> Tensor:
    """Area between two corners, shapes (n, 2), and zero where one is not below the other."""
    return (high - low).clamp(min=0).prod(dim=1)


def _check_floating(name: str, value: object) -> None:
    if not isinstance(value, Tensor) or not value.is_floating_point():
        got = getattr(value, "dtype", type(value).__name__)
        raise TypeError(f"{name} must be a floating point tensor, got {got}")


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}")
