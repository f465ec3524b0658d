"""DETR (Carion et al. 2020) and its relatives with Correlation Loss at each decoder layer."""

from __future__ import annotations

from mmdet.models.dense_heads import DETRHead
from torch import Tensor

from corrloss.heads.head_positives import PositivesError, query_loss
from corrloss.heads.observe import observed_losses


class QueryCorrelationMixin:
    """Adds a ``loss_corr`` for each decoder layer to the losses of a head of the DETR family.

    Positives are the queries that Hungarian matching assigned to a box, separately in each layer. Scores are
    sigmoid or softmax probabilities, as in the head. The release does not apply λ here; this class does.
    """

    _matched: list[Tensor] | None = None

    def check_fit(self) -> None:
        """Refuse a head of this family whose positives this mixin would miss.

        Raises:
            PositivesError: It overrides the methods that compute the losses.
        """
        for name in ("loss_by_feat_single", "get_targets"):
            if getattr(type(self), name) is not getattr(DETRHead, name):
                raise PositivesError(self, f"overrides `{name}` of mmdet's DETRHead")

    def loss_by_feat(self, all_layers_cls_scores: Tensor, *args, **kwargs) -> dict:
        """The detector's losses, and ``loss_corr`` of each layer; arguments as in mmdet."""
        layers, images = all_layers_cls_scores.shape[:2]
        self._matched = matched = []
        try:
            with observed_losses(self, ("loss_cls", "loss_iou")) as calls:
                losses = super().loss_by_feat(all_layers_cls_scores, *args, **kwargs)
        finally:
            self._matched = None
        for layer in range(layers):  # calls for encoder proposals or denoising may follow
            classified, boxes = calls[2 * layer : 2 * layer + 2]
            labels = classified.target[0] if isinstance(classified.target, tuple) else classified.target
            of_layer = matched[layer * images : (layer + 1) * images]
            name = "loss_corr" if layer == layers - 1 else f"d{layer}.loss_corr"
            losses[name] = query_loss(self, classified.pred, boxes.pred, labels, boxes.target, of_layer)
        return losses

    def _get_targets_single(self, *args, **kwargs) -> tuple:
        """Targets of one image, as in mmdet; records which queries were matched."""
        targets = super()._get_targets_single(*args, **kwargs)
        if self._matched is not None:
            self._matched.append(targets[4])
        return targets
