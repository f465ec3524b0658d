"""DETR (Carion et al. 2020) and its relatives with Correlation Loss at each decoder layer."""

from __future__ import annotations

import torch
from mmdet.models.dense_heads import DETRHead
from torch import Tensor

from corrloss.heads.observe import observed_losses
from corrloss.heads.positives import PositivesError, aligned_ious, matched_scores


class QueryCorrelationMixin:
    """Adds a ``loss_corr`` for each decoder layer to what a head of the DETR family returns.

    Positives are the queries that Hungarian matching gave to a box, in each layer anew. Scores are sigmoid or
    softmax probabilities, as the head has them. The release leaves λ out here; this does not.
    """

    _matched: list[Tensor] | None = None

    def check_fit(self) -> None:
        """Refuse a head of this family whose positives this mixin would not see.

        Raises:
            PositivesError: It computes its losses in a way of its own.
        """
        for name in ("loss_by_feat_single", "get_targets"):
            if getattr(type(self), name) is not getattr(DETRHead, name):
                raise PositivesError(self, f"has a `{name}` of its own, other than DETR's")

    def loss_by_feat(self, all_layers_cls_scores: Tensor, *args, **kwargs) -> dict:
        """The detector's losses, and ``loss_corr`` of each layer; arguments as in mmdet."""
        layers, images = all_layers_cls_scores.shape[:2]
        self._matched = matched = []
        try:
            with observed_losses(self, ("loss_cls", "loss_iou")) as calls:
                losses = super().loss_by_feat(all_layers_cls_scores, *args, **kwargs)
        finally:
            self._matched = None
        for layer in range(layers):  # they come first; proposals of the encoder or denoising may follow
            classified, boxes = calls[2 * layer : 2 * layer + 2]
            queries = len(classified.pred) // images
            of_images = matched[layer * images : (layer + 1) * images]
            index = torch.cat([queries * image + index for image, index in enumerate(of_images)])
            image = torch.cat([torch.full_like(index, image) for image, index in enumerate(of_images)])
            name = "loss_corr" if layer == layers - 1 else f"d{layer}.loss_corr"
            target = classified.target
            labels = (target[0] if isinstance(target, tuple) else target)[index]
            losses[name] = self.loss_corr(
                matched_scores(classified.pred[index], labels, self.loss_cls.use_sigmoid),
                aligned_ious(boxes.pred[index], boxes.target[index]),
                level=torch.zeros_like(index),  # queries have no feature level
                image=image,
            )
        return losses

    def _get_targets_single(self, *args, **kwargs) -> tuple:
        """Targets of one image, as in mmdet; notes which queries were matched."""
        targets = super()._get_targets_single(*args, **kwargs)
        if self._matched is not None:
            self._matched.append(targets[4])
        return targets
