"""Removes the auxiliary branch (centerness, IoU) from a head of the ATSS family."""

from torch import Tensor, nn


class AbsentBranch(nn.Module):
    """Replaces the auxiliary convolution: no parameters, logits of zero.

    Args:
        channels: Channels of the branch's output.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, features: Tensor) -> Tensor:
        """Zeros of shape (images, channels, height, width) for features of that size."""
        images, _, height, width = features.shape
        return features.new_zeros(images, self.channels, height, width)


class NoAuxiliaryMixin:
    """Removes the branch ``atss_centerness`` and its loss.

    A subclass names the loss in ``auxiliary_loss`` and keeps the branch out of the test score. No parameters
    of the branch remain, so distributed training finds no unused parameters.
    """

    auxiliary_loss: str

    def _init_layers(self) -> None:
        super()._init_layers()
        self.atss_centerness = AbsentBranch(self.atss_centerness.out_channels)

    def loss_by_feat(self, *args, **kwargs) -> dict:
        """The head's losses without the auxiliary one; arguments as in mmdet."""
        losses = super().loss_by_feat(*args, **kwargs)
        del losses[self.auxiliary_loss]
        return losses
