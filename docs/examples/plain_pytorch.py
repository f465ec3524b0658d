"""Correlation Loss in a plain PyTorch training loop: a tiny detector of rectangles. Needs torch alone.

``python docs/examples/plain_pytorch.py --weight 1`` trains with the loss, ``--weight 0`` without.
"""

import argparse

import torch
from torch import nn
from torch.nn import functional as F

from corrloss import CorrelationLoss, pearson

SIZE, STRIDE, CLASSES = 64, 8, 2


def make_batch(count: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Noisy images of one rectangle each, their boxes (x1, y1, x2, y2) and labels: 0 dark, 1 bright."""
    sides = torch.randint(12, 40, (count, 2), generator=generator)
    corners = (torch.rand(count, 2, generator=generator) * (SIZE - sides)).long()
    boxes = torch.cat([corners, corners + sides], dim=1).float()
    labels = torch.randint(CLASSES, (count,), generator=generator)
    grid = torch.arange(SIZE)
    x, y = grid[None, None, :], grid[None, :, None]
    x1, y1, x2, y2 = (side[:, None, None] for side in boxes.unbind(1))
    inside = (x >= x1) & (x < x2) & (y >= y1) & (y < y2)
    images = torch.randn(count, SIZE, SIZE, generator=generator)
    images += inside * torch.where(labels == 1, 1.0, -1.0)[:, None, None]
    return images[:, None], boxes, labels


class Detector(nn.Module):
    """For each cell of 8 pixels: logits of the classes, and a box by its distances from the cell's centre."""

    def __init__(self) -> None:
        super().__init__()
        layers = []
        for before, after, stride in ((1, 16, 2), (16, 32, 2), (32, 64, 2), (64, 64, 1)):
            layers += [nn.Conv2d(before, after, 3, stride, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
        self.backbone = nn.Sequential(*layers)
        self.classifier = nn.Conv2d(64, CLASSES, 1)
        self.regressor = nn.Conv2d(64, 4, 1)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits (images, cells, classes) and boxes (images, cells, 4)."""
        features = self.backbone(images)
        distances = F.softplus(self.regressor(features).flatten(2).transpose(1, 2)) * STRIDE
        centres = cell_centres()
        boxes = torch.cat([centres - distances[..., :2], centres + distances[..., 2:]], dim=-1)
        return self.classifier(features).flatten(2).transpose(1, 2), boxes


def cell_centres() -> torch.Tensor:
    """Centres x, y of the cells, row by row, shape (cells, 2)."""
    line = (torch.arange(SIZE // STRIDE) + 0.5) * STRIDE
    y, x = torch.meshgrid(line, line, indexing="ij")
    return torch.stack([x, y], dim=-1).reshape(-1, 2)


def box_iou(boxes: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """IoU of each box with the other of its row."""
    low, high = torch.maximum(boxes[:, :2], others[:, :2]), torch.minimum(boxes[:, 2:], others[:, 2:])
    shared = (high - low).clamp(min=0).prod(dim=1)
    areas = [(some[:, 2:] - some[:, :2]).prod(dim=1) for some in (boxes, others)]
    return shared / (sum(areas) - shared)


def positives(logits, boxes, true_boxes, labels):
    """The cells whose centre lies in the object: which they are, their scores for its class, their IoUs."""
    centres = cell_centres()[None]
    inside = ((centres > true_boxes[:, None, :2]) & (centres < true_boxes[:, None, 2:])).all(dim=-1)
    image, cell = inside.nonzero(as_tuple=True)
    scores = logits[image, cell, labels[image]].sigmoid()
    return image, cell, scores, box_iou(boxes[image, cell], true_boxes[image])


def train(weight: float, steps: int, seed: int = 0) -> Detector:
    """A detector trained with Correlation Loss of this weight; 0 is without it."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    model = Detector()
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3)
    criterion = CorrelationLoss("concordance", weight=weight)
    for _ in range(steps):
        images, true_boxes, labels = make_batch(16, generator)
        logits, boxes = model(images)
        image, cell, scores, ious = positives(logits, boxes, true_boxes, labels)
        targets = torch.zeros_like(logits)
        targets[image, cell, labels[image]] = 1
        loss = F.binary_cross_entropy_with_logits(logits, targets, reduction="sum") / len(image)
        loss = loss + (1 - ious).mean()
        loss = loss + criterion(scores, ious)  # the one line; the IoUs are detached inside
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return model


@torch.no_grad()
def evaluate(model: Detector) -> tuple[float, float]:
    """Correlation of the positives' scores and IoUs, and their mean IoU, on images not trained on."""
    images, true_boxes, labels = make_batch(500, torch.Generator().manual_seed(123))
    _, _, scores, ious = positives(*model.eval()(images), true_boxes, labels)
    return float(pearson(scores, ious)), float(ious.mean())


def main() -> None:
    """Train, and print what the positives' scores are worth."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--weight", type=float, default=1.0, help="λ of the loss; 0 is without it")
    parser.add_argument("--steps", type=int, default=300)
    arguments = parser.parse_args()
    rho, iou = evaluate(train(arguments.weight, arguments.steps))
    print(f"weight {arguments.weight:g}: Pearson of scores and IoUs {rho:.3f}, mean IoU {iou:.3f}")


if __name__ == "__main__":
    main()
