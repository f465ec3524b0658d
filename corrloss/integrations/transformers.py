"""Correlation Loss in Hugging Face transformers: DETR and its descendants."""

from __future__ import annotations

import threading
from collections.abc import Callable

import torch
from torch import Tensor, nn

from corrloss.integrations.host import IntegrationError, apply_loss, build_loss, host_imports
from corrloss.loss import CorrelationLoss

with host_imports("transformers"):
    from transformers.image_transforms import center_to_corners_format
    from transformers.loss.loss_for_object_detection import HungarianMatcher
    from transformers.loss.loss_rt_detr import RTDetrHungarianMatcher

MATCHERS = (HungarianMatcher, RTDetrHungarianMatcher)
#: Names of the supported models, and how they turn logits into scores.
MODELS = {
    "DetrForObjectDetection": "softmax",
    "ConditionalDetrForObjectDetection": "sigmoid",
    "DeformableDetrForObjectDetection": "sigmoid",
    "RTDetrForObjectDetection": "sigmoid",
    "RTDetrV2ForObjectDetection": "sigmoid",
    "DFineForObjectDetection": "sigmoid",
}


class LossWithCorrelation:
    """A model's ``loss_function`` that adds Correlation Loss to the total and to ``loss_dict``.

    Its positives are the queries that Hungarian matching assigned to a box, separately in each decoder layer
    that the model's own loss covers; encoder proposals and denoising queries are left out.

    Args:
        host_loss: The model's own loss function.
        loss: The loss.
        activation: ``"softmax"`` or ``"sigmoid"``.
    """

    def __init__(self, host_loss: Callable, loss: CorrelationLoss, activation: str) -> None:
        self.host_loss, self.loss, self.activation = host_loss, loss, activation

    @torch.compiler.disable  # the matching runs on the host, so the graph ends here anyway
    def __call__(
        self, logits: Tensor, labels: list, device, pred_boxes: Tensor, config, *args, **kwargs
    ) -> tuple:
        """Total loss, ``loss_dict`` and auxiliary outputs; arguments as in transformers."""
        matchings: list[tuple[dict, list]] = []  # the last decoder layer, then the others, then the encoder
        thread = threading.get_ident()  # DataParallel runs replicas in threads

        def record(module: nn.Module, inputs: tuple, matching: list) -> None:
            if isinstance(module, MATCHERS) and threading.get_ident() == thread:
                matchings.append((inputs[0], matching))

        with nn.modules.module.register_module_forward_hook(record):
            total, losses, auxiliary = self.host_loss(
                logits, labels, device, pred_boxes, config, *args, **kwargs
            )
        layers = config.decoder_layers if config.auxiliary_loss else 1
        if len(matchings) < layers:
            raise IntegrationError(
                f"{type(config).__name__}: expected a matching for each of {layers} decoder layers, found "
                f"{len(matchings)}; use one of the tested versions: pip install 'corrloss[transformers]'"
            )
        for layer, (outputs, matching) in enumerate(matchings[:layers]):
            name = "loss_corr" if layer == 0 else f"loss_corr_{layer - 1}"
            losses[name] = self._layer_loss(outputs, matching, labels, type(config).__name__)
            total = total + losses[name]
        return total, losses, auxiliary

    def _layer_loss(self, outputs: dict, matching: list, labels: list, where: str) -> Tensor:
        device = outputs["logits"].device
        query = torch.cat([index for index, _ in matching]).to(device)
        image = torch.cat([torch.full_like(index, i) for i, (index, _) in enumerate(matching)]).to(device)
        label = torch.cat(
            [of["class_labels"][match] for of, (_, match) in zip(labels, matching, strict=True)]
        )
        true = torch.cat([of["boxes"][match] for of, (_, match) in zip(labels, matching, strict=True)])
        logits = outputs["logits"][image, query].float()
        scores = logits.softmax(dim=1) if self.activation == "softmax" else logits.sigmoid()
        scores = scores.gather(1, label[:, None]).squeeze(1)
        boxes = center_to_corners_format(outputs["pred_boxes"][image, query].float())
        return apply_loss(self.loss, scores, boxes, center_to_corners_format(true), image, where)


def with_correlation_loss(model: nn.Module, **settings: object) -> nn.Module:
    """Add Correlation Loss to the loss of a detector of transformers; ``Trainer`` needs no change.

    Args:
        model: One of `MODELS`. It is changed in place; weights and predictions stay the same. The loss is not
            saved with the model: call this again after ``from_pretrained``.
        **settings: Arguments of `corrloss.CorrelationLoss`; ``scope`` is ``"batch"`` or ``"image"``.

    Returns:
        The model. With labels its output has ``loss_dict["loss_corr"]``, and where the model has auxiliary
        losses ``loss_corr_0`` and so on for the other decoder layers; all are in its ``loss``.

    Raises:
        IntegrationError: The model is of another class.
    """
    names = [kind.__name__ for kind in type(model).__mro__ if kind.__name__ in MODELS]
    if not names:
        raise IntegrationError(
            f"expected one of {', '.join(MODELS)}, found {type(model).__name__}; for another detector use "
            "corrloss.CorrelationLoss in its loss_function (docs/outside_mmdet.md)"
        )
    host_loss = model.loss_function
    host_loss = getattr(host_loss, "host_loss", host_loss)  # called before: its settings are replaced
    model.loss_function = LossWithCorrelation(host_loss, build_loss(settings), MODELS[names[0]])
    return model
