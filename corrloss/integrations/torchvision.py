"""Correlation Loss in torchvision's RetinaNet, FCOS and Faster R-CNN (Mask and Keypoint R-CNN included)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from corrloss.integrations.host import IntegrationError, apply_loss, build_loss, host_imports

with host_imports("torchvision"):
    from torchvision.models.detection.fcos import FCOSHead
    from torchvision.models.detection.retinanet import RetinaNetHead
    from torchvision.models.detection.roi_heads import RoIHeads


class _DenseHeadMixin:
    """A head whose ``compute_loss`` receives the box that each anchor was matched to; negative: no box."""

    def compute_loss(self, targets: list, head_outputs: dict, anchors: list, matched_idxs: list) -> dict:
        losses = super().compute_loss(targets, head_outputs, anchors, matched_idxs)
        images = []
        for image, (target, points, match) in enumerate(zip(targets, anchors, matched_idxs, strict=True)):
            row = (match >= 0).nonzero().squeeze(1)
            logits = head_outputs["cls_logits"][image, row, target["labels"][match[row]]]
            boxes = self._decode(head_outputs["bbox_regression"][image, row].float(), points[row])
            images.append(
                (logits.float().sigmoid(), boxes, target["boxes"][match[row]], torch.full_like(row, image))
            )
        positives = (torch.cat(column) for column in zip(*images, strict=True))
        losses["loss_corr"] = apply_loss(self.loss_corr, *positives, where=type(self).__name__)
        return losses


class CorrelationRetinaNetHead(_DenseHeadMixin, RetinaNetHead):
    """torchvision's RetinaNetHead; its positives are the anchors that the matcher assigned to a box."""

    def _decode(self, deltas: Tensor, anchors: Tensor) -> Tensor:
        return self.regression_head.box_coder.decode_single(deltas, anchors)


class CorrelationFCOSHead(_DenseHeadMixin, FCOSHead):
    """torchvision's FCOSHead; its positives are the points assigned to a box. Centerness is not used."""

    def _decode(self, deltas: Tensor, anchors: Tensor) -> Tensor:
        return self.box_coder.decode(deltas, anchors)


class CorrelationRoIHeads(RoIHeads):
    """torchvision's RoIHeads; its positives are the sampled proposals that were matched to a box."""

    def select_training_samples(self, proposals: list, targets: list) -> tuple:
        """Samples as in torchvision, which are kept for the loss."""
        self._samples = super().select_training_samples(proposals, targets)
        return self._samples

    def forward(self, features: dict, proposals: list, image_shapes: list, targets: list | None = None):
        """Detections and losses as in torchvision, and ``loss_corr`` in training."""
        predicted: list[tuple[Tensor, Tensor]] = []
        with self.box_predictor.register_forward_hook(lambda _module, _args, out: predicted.append(out)):
            detections, losses = super().forward(features, proposals, image_shapes, targets)
        if self.training:
            positives = self._positives(*predicted[0], *self._samples[:3], targets)
            losses["loss_corr"] = apply_loss(self.loss_corr, *positives, where="RoIHeads")
            self._samples = None
        return detections, losses

    def _positives(
        self, logits: Tensor, deltas: Tensor, proposals: list, matched: list, labels: list, targets
    ):
        positive = [label > 0 for label in labels]
        row = torch.cat(positive).nonzero().squeeze(1)
        label = torch.cat(labels)[row]
        scores = logits[row].float().softmax(dim=1).gather(1, label[:, None]).squeeze(1)
        deltas = deltas.reshape(len(deltas), -1, 4)[row, label].float()  # those of the matched class
        boxes = self.box_coder.decode_single(deltas, torch.cat(proposals)[row])
        pairs = zip(targets, matched, positive, strict=True)
        true = torch.cat([target["boxes"][match[of]] for target, match, of in pairs])
        image = torch.cat([torch.full_like(of, i, dtype=torch.int64) for i, of in enumerate(positive)])
        return scores, boxes, true, image[row]


HEADS = {
    RetinaNetHead: CorrelationRetinaNetHead,
    FCOSHead: CorrelationFCOSHead,
    RoIHeads: CorrelationRoIHeads,
}


def with_correlation_loss(model: nn.Module, **settings: object) -> nn.Module:
    """Add ``loss_corr`` to the losses that a detector of torchvision returns in training.

    Args:
        model: RetinaNet, FCOS, Faster R-CNN, Mask R-CNN or Keypoint R-CNN. It is changed in place: its head
            gets a subclass of its class. Weights, their names and predictions stay the same.
        **settings: Arguments of `corrloss.CorrelationLoss`; ``scope`` is ``"batch"`` or ``"image"``.

    Returns:
        The model.

    Raises:
        IntegrationError: The head's class is not one of torchvision's three.
    """
    head = getattr(model, "roi_heads", None) or getattr(model, "head", None)
    if type(head) not in (*HEADS, *HEADS.values()):
        raise IntegrationError(
            f"expected a model of torchvision with a {', '.join(kind.__name__ for kind in HEADS)}, found "
            f"{type(model).__name__} with {type(head).__name__}; derive its head from one of the classes of "
            "corrloss.integrations.torchvision, or use corrloss.CorrelationLoss (docs/outside_mmdet.md)"
        )
    head.loss_corr = build_loss(settings)
    head.__class__ = HEADS.get(type(head), type(head))
    return model
