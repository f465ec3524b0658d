"""Correlation Loss in Ultralytics' YOLO detectors, from v8 to 26."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from corrloss.integrations.host import IntegrationError, apply_loss, build_loss, host_imports

with host_imports("ultralytics"):
    from ultralytics.nn.tasks import DetectionModel
    from ultralytics.utils.loss import v8DetectionLoss
    from ultralytics.utils.torch_utils import unwrap_model

if TYPE_CHECKING:
    from ultralytics import YOLO
    from ultralytics.engine.trainer import BaseTrainer


class CorrelationDetectionLoss(v8DetectionLoss):
    """Ultralytics' criterion; its positives are the points that the task-aligned assigner selected.

    A loss that is NaN is left to Ultralytics, which goes back to the last checkpoint.
    """

    def get_assigned_targets_and_loss(self, preds: dict, batch: dict, **kwargs) -> tuple:
        """Targets, losses and their names as in Ultralytics, and a fourth loss, ``corr_loss``."""
        found: list[tuple] = []
        with self.assigner.register_forward_hook(lambda _module, _args, out: found.append(out)):
            assigned, losses, items = super().get_assigned_targets_and_loss(preds, batch, **kwargs)
        labels, targets, _, foreground, _ = found[0]
        points, strides = assigned[3:5]
        image, point = foreground.nonzero(as_tuple=True)
        label = labels[image, point].long()
        scores = preds["scores"][image, label, point].float().sigmoid()
        distances = preds["boxes"][image, :, point].float()[None]
        boxes = self.bbox_decode(points[point].float(), distances)[0] * strides[point]
        corr = apply_loss(
            self.loss_corr, scores, boxes, targets[image, point], image, "YOLO", check_finite=False
        )
        return assigned, torch.cat([losses, corr[None]]), {**items, "corr_loss": corr.detach()}


class AddLoss:
    """Callback of a training that adds Correlation Loss to its model and to the average of its weights.

    Ultralytics pickles it for the processes of a training on several GPUs.
    """

    def __init__(self, settings: dict) -> None:
        self.settings = settings

    def __call__(self, trainer: BaseTrainer) -> None:
        """Change the criteria; each branch of a model without NMS has its own."""
        add_loss(unwrap_model(trainer.model), self.settings)
        if trainer.ema:  # validation computes its losses with the average
            add_loss(trainer.ema.ema, self.settings)


def add_loss(model: DetectionModel, settings: dict) -> None:
    """Add Correlation Loss to a model's criterion, which is not saved in checkpoints.

    Raises:
        IntegrationError: The criterion is of another class.
    """
    if getattr(model, "criterion", None) is None:
        model.criterion = model.init_criterion()
    branches = [getattr(model.criterion, name, None) for name in ("one2many", "one2one")]
    for criterion in [branch for branch in branches if branch] or [model.criterion]:
        if type(criterion) not in (v8DetectionLoss, CorrelationDetectionLoss):
            raise IntegrationError(
                f"expected a YOLO detector with v8DetectionLoss, found {type(model).__name__} with "
                f"{type(criterion).__name__}; use a detection model such as yolo11n.yaml"
            )
        criterion.__class__ = CorrelationDetectionLoss
        criterion.loss_corr = build_loss(settings)


def with_correlation_loss(model: YOLO, **settings: object) -> YOLO:
    """Add Correlation Loss to the trainings of a YOLO detector, as ``corr_loss`` in progress and results.csv.

    Args:
        model: A detector of Ultralytics, such as ``YOLO("yolo11n.yaml")``. Its trainings get a callback;
            weights, checkpoints and predictions stay the same.
        **settings: Arguments of `corrloss.CorrelationLoss`; ``scope`` is ``"batch"`` or ``"image"``.

    Returns:
        The model.

    Raises:
        IntegrationError: The model is not a YOLO detector.
    """
    build_loss(settings)  # a wrong setting is an error now rather than when the training starts
    if type(model.model) is not DetectionModel:
        raise IntegrationError(
            f"expected a YOLO detector such as YOLO('yolo11n.yaml'), found {type(model).__name__} with "
            f"{type(model.model).__name__}; for RT-DETR use corrloss.integrations.transformers"
        )
    event = model.callbacks["on_train_start"]
    event[:] = [callback for callback in event if not isinstance(callback, AddLoss)]
    model.add_callback("on_train_start", AddLoss(settings))
    return model
