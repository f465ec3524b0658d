"""Correlation Loss for a head without an adapter: ``dict(type="WithCorrelationLoss", head="FCOSHead")``."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from mmdet.models import dense_heads, losses
from mmdet.models.dense_heads.base_dense_head import BaseDenseHead
from mmdet.models.roi_heads.bbox_heads import BBoxHead
from mmdet.registry import MODELS
from torch import Tensor, nn

from corrloss.heads.detr import QueryCorrelationMixin
from corrloss.heads.head_positives import PositivesError
from corrloss.heads.mixin import DecodedBoxMixin, PositivesCollector
from corrloss.heads.observe import LossCall, add_loss
from corrloss.heads.retinanet import AnchorCorrelationMixin
from corrloss.heads.roi import RoICorrelationMixin

#: Losses that are functions of two boxes: the arguments of such a ``loss_bbox`` are decoded boxes.
BOX_LOSSES = (
    losses.BoundedIoULoss, losses.CIoULoss, losses.DIoULoss, losses.EIoULoss, losses.GIoULoss, losses.IoULoss,
    losses.SIoULoss,
)  # fmt: skip


class ObservedMixin(DecodedBoxMixin):
    """For dense heads without an adapter: the positives are read from the calls of the head's losses.

    Whatever cannot be derived from these calls raises an error.
    """

    def check_fit(self) -> None:
        """Refuse a head whose positives its loss calls would not show.

        Raises:
            PositivesError: A loss is missing or does not take decoded boxes, the activation is unknown, or
                the scope is not ``"batch"``.
        """
        self.classification_losses = tuple(n for n, _ in self.named_children() if n.endswith("loss_cls"))
        for name in ("loss_cls", "loss_bbox"):
            if not isinstance(getattr(self, name, None), nn.Module):
                raise PositivesError(self, f"has no loss module called {name!r}")
        if not isinstance(self.loss_bbox, BOX_LOSSES):
            raise PositivesError(
                self,
                f"its loss_bbox is {type(self.loss_bbox).__name__}, whose arguments may not be decoded "
                "boxes; use a loss of boxes such as GIoULoss (anchor heads: with reg_decoded_bbox=True)",
            )
        if getattr(self.loss_cls, "custom_activation", False):
            raise PositivesError(self, f"the activation of {type(self.loss_cls).__name__} is not known")
        if self.loss_corr.scope != "batch":
            raise PositivesError(
                self,
                f"scope {self.loss_corr.scope!r} needs the order of its levels and images, which is not "
                "known; use scope 'batch'",
            )

    def _logits_and_labels(self, call: LossCall) -> tuple[Tensor, Tensor]:
        logits, labels = super()._logits_and_labels(call)
        fits = isinstance(labels, Tensor) and logits.ndim == 2 and labels.shape == logits.shape[:1]
        if not fits or labels.is_floating_point() or logits.shape[1] != self.cls_out_channels:
            raise PositivesError(
                self,
                f"expected {call.name} to be called with logits of shape (n, {self.cls_out_channels}) and "
                f"integer labels of shape (n,), got {_kind(logits)} and {_kind(labels)}",
            )
        return logits, labels

    def _collector(self, cls_scores: Sequence[Tensor]) -> PositivesCollector:
        collector = super()._collector(cls_scores)
        if getattr(self.loss_cls, "activated", False):  # its logits are probabilities, as TOOD's
            collector.use_sigmoid = None
        return collector


def _kind(value: object) -> str:
    return f"{value.dtype} {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__


#: The mixin that finds the positives of a head, by the base class of the head.
FAMILIES = {
    BBoxHead: RoICorrelationMixin,
    dense_heads.DETRHead: QueryCorrelationMixin,
    BaseDenseHead: ObservedMixin,
}
#: Heads whose loss calls do not show what they are trained on.
UNSUPPORTED = {
    dense_heads.AutoAssignHead: "weights all points of a box instead of matching positives",
    dense_heads.FreeAnchorRetinaHead: "weights a bag of anchors for each box instead of matching positives",
    dense_heads.FSAFHead: "selects among its positives after their losses are computed",
    dense_heads.YOLOFHead: "calls its box loss with other anchors than its positives",
}
#: Methods that an adapter of a class relies on; a subclass that overrides one needs an adapter of its own.
LOSS_METHODS = ("loss", "loss_by_feat", "loss_by_feat_single", "OHEMloss_by_feat_single", "loss_and_target")


@MODELS.register_module()
class WithCorrelationLoss:
    """Builds any head of mmdet with ``loss_corr`` among its losses.

    If `corrloss.heads` has an adapter for the head, or for a base class whose losses the head does not
    override, that adapter is used. Otherwise the head's class is extended by the mixin of its family.

    Example:
        ``model = dict(bbox_head=dict(type="WithCorrelationLoss", head="FCOSHead", loss_corr=dict(
        type="CorrelationLoss", coefficient="concordance", weight=0.2)))`` over mmdet's config of FCOS.
    """

    def __new__(cls, head: str, loss_corr: dict | None = None, **settings: object) -> nn.Module:
        """Build the head.

        Args:
            head: Name of the head's class in mmdet's registry, such as ``"FCOSHead"``.
            loss_corr: Config of `corrloss.CorrelationLoss`, or None for the plain head.
            **settings: The head's own arguments.

        Raises:
            PositivesError: The head's positives cannot be determined. Also raised in the backward pass of a
                training step, see `corrloss.heads.observe.add_loss`.
        """
        if MODELS.get(f"Correlation{head}"):
            return MODELS.build(dict(type=f"Correlation{head}", loss_corr=loss_corr, **settings))
        built = MODELS.build(dict(type=head, **settings))
        if loss_corr is not None:
            # The class is changed after construction, as torch's parametrizations do: some constructors check
            # for their exact class (DETRHead).
            built.__class__ = _with_loss(type(built))
            add_loss(built, loss_corr)
            if hasattr(built, "check_fit"):
                built.check_fit()
        return built


@functools.cache
def _with_loss(kind: type) -> type:
    """The class of a head with the loss; it pickles as the plain class and `_unpickled`."""
    bases = (_mixin_for(kind), kind)
    return type(f"Correlation{kind.__name__}", bases, {"__module__": __name__, "__reduce__": _reduce})


def _mixin_for(kind: type) -> type:
    for unsupported, reason in UNSUPPORTED.items():
        if issubclass(kind, unsupported):
            raise PositivesError(kind.__name__, reason)
    for base in kind.__mro__[1:]:
        adapter = MODELS.get(f"Correlation{base.__name__}")
        if base is dense_heads.AnchorHead:
            adapter = AnchorCorrelationMixin
        if adapter and all(getattr(kind, name, None) is getattr(base, name, None) for name in LOSS_METHODS):
            return adapter
    for family, mixin in FAMILIES.items():
        if issubclass(kind, family):
            return mixin
    known = ", ".join(family.__name__ for family in FAMILIES)
    raise PositivesError(kind.__name__, f"is not a subclass of any of {known}")


def _reduce(head: nn.Module) -> tuple:
    """How a head of a class made at run time is pickled and copied: its plain class and its attributes."""
    return _unpickled, (type(head).__bases__[1],), head.__dict__


def _unpickled(plain: type) -> nn.Module:
    """A head without attributes, which pickle and copy fill."""
    return object.__new__(_with_loss(plain))
