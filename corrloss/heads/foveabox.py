"""FoveaBox (Kong et al. 2020) with Correlation Loss."""

import torch
from mmdet.models.dense_heads import FoveaHead
from mmdet.registry import MODELS
from torch import Tensor

from corrloss.heads.head_positives import aligned_ious
from corrloss.heads.mixin import DecodedBoxMixin


@MODELS.register_module()
class CorrelationFoveaHead(DecodedBoxMixin, FoveaHead):
    """mmdet's FoveaHead; its positives are the cells of each object's fovea."""

    def ious_of(self, boxes: Tensor, targets: Tensor) -> Tensor:
        """IoU of boxes given as logarithms of the four distances from one shared cell.

        The IoU does not depend on the cell's position or the level's scale, so the boxes are placed around
        the origin in units of the level's base edge. mmdet and the release clamp targets
        to [1/16, 16] of that edge.
        """
        return aligned_ious(_around_origin(boxes), _around_origin(targets))


def _around_origin(sides: Tensor) -> Tensor:
    left_up, right_down = sides.float().exp().chunk(2, dim=1)
    return torch.cat([-left_up, right_down], dim=1)
