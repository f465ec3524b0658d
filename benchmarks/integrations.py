"""Train small detectors of torchvision, transformers and Ultralytics on mini_coco, with and without the loss.

    python benchmarks/integrations.py                       # the table of docs/integrations.md
    python benchmarks/integrations.py --hosts torchvision   # one host

Needs `pip install 'corrloss[torchvision,transformers,ultralytics]' hotcoco msgspec` and no network. Each
training starts from random weights of one seed, on one thread. AP is that of `corrloss.analysis.ap` on the
validation images.
"""

import argparse
import json
import tempfile
import time
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from corrloss.analysis.ap import average_precision
from corrloss.coco import load_detections, load_ground_truth
from corrloss.data.mini_coco import make_mini_coco

SIZE, BATCH = 128, 8
SETTINGS = {"coefficient": "concordance", "weight": 0.2}


class Split:
    """Images and boxes of one split of mini_coco; classes are 0 to 3."""

    def __init__(self, root: Path, split: str) -> None:
        self.path = root / "annotations" / f"instances_{split}.json"
        content = json.loads(self.path.read_text())
        self.categories = [category["id"] for category in content["categories"]]
        self.files = [root / split / image["file_name"] for image in content["images"]]
        self.ids = [image["id"] for image in content["images"]]
        pixels = [np.asarray(Image.open(file).convert("RGB")).copy() for file in self.files]
        self.images = [torch.from_numpy(image).permute(2, 0, 1) / 255 for image in pixels]
        boxes: dict[int, list] = {image: [] for image in self.ids}
        for entry in content["annotations"]:
            x, y, width, height = entry["bbox"]
            if not entry["iscrowd"] and width > 1 and height > 1:
                label = self.categories.index(entry["category_id"])
                boxes[entry["image_id"]].append([x, y, x + width, y + height, label])
        self.boxes = [torch.tensor(boxes[image], dtype=torch.float32).reshape(-1, 5) for image in self.ids]

    def batches(self, epochs: int):
        """Indices of each batch, shuffled in each epoch."""
        for _ in range(epochs):
            yield from torch.randperm(len(self.ids))[: len(self.ids) // BATCH * BATCH].split(BATCH)

    def ap(self, detections: list[dict[str, Tensor]]) -> dict[str, float]:
        """AP in points of detections with ``boxes`` in corner form, ``scores`` and ``labels`` per image."""
        entries = [
            {
                "image_id": image,
                "category_id": self.categories[label],
                "score": score,
                "bbox": [box[0], box[1], box[2] - box[0], box[3] - box[1]],
            }
            for image, found in zip(self.ids, detections, strict=True)
            for box, score, label in zip(
                *(found[key].tolist() for key in ("boxes", "scores", "labels")), strict=True
            )
        ]
        ground_truth = load_ground_truth(self.path)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "detections.json"
            path.write_text(json.dumps(entries))
            return average_precision(ground_truth, load_detections(path, ground_truth))


def fit(model: nn.Module, steps: list, total_loss, lr: float = 1e-3) -> None:
    """AdamW with warm-up and cosine decay, and clipped gradients."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=len(steps), pct_start=0.1)
    model.train()
    for indices in steps:
        optimizer.zero_grad()
        total_loss(indices.tolist()).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimizer.step()
        schedule.step()
    model.eval()


def small_backbone() -> nn.Module:
    """Five stages of two convolutions, and a pyramid of three levels."""
    from torchvision.models.detection.backbone_utils import BackboneWithFPN
    from torchvision.ops import Conv2dNormActivation

    widths = [3, 16, 32, 48, 64, 96]
    stages = [
        nn.Sequential(Conv2dNormActivation(before, after, stride=2), Conv2dNormActivation(after, after))
        for before, after in pairwise(widths)
    ]
    layers = {str(stage): str(stage - 2) for stage in (2, 3, 4)}
    return BackboneWithFPN(nn.Sequential(*stages), layers, widths[3:], 48)


def train_torchvision(
    train: Split, val: Split, settings: dict | None, epochs: int
) -> list[dict[str, Tensor]]:
    """RetinaNet on strides 8 to 64."""
    from torchvision.models.detection import RetinaNet
    from torchvision.models.detection.anchor_utils import AnchorGenerator

    from corrloss.integrations.torchvision import with_correlation_loss

    sizes = tuple((size, int(size * 1.26), int(size * 1.59)) for size in (16, 32, 64, 128))
    anchors = AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * 4)
    model = RetinaNet(small_backbone(), 4, anchor_generator=anchors, min_size=SIZE, max_size=160)
    if settings:
        model = with_correlation_loss(model, **settings)

    def total_loss(indices: list[int]) -> Tensor:
        targets = [{"boxes": train.boxes[i][:, :4], "labels": train.boxes[i][:, 4].long()} for i in indices]
        return sum(model([train.images[i] for i in indices], targets).values())

    fit(model, list(train.batches(epochs)), total_loss)
    with torch.no_grad():
        return [model([image])[0] for image in val.images]


def squared(images: list[Tensor]) -> Tensor:
    """Images resized to squares of one size, normalised."""
    resized = [nn.functional.interpolate(image[None], (SIZE, SIZE), mode="bilinear") for image in images]
    return (torch.cat(resized) - 0.45) / 0.23


def train_transformers(
    train: Split, val: Split, settings: dict | None, epochs: int
) -> list[dict[str, Tensor]]:
    """RT-DETR with two decoder layers and 40 queries."""
    from transformers import RTDetrConfig, RTDetrForObjectDetection, RTDetrResNetConfig

    from corrloss.integrations.transformers import with_correlation_loss

    backbone = RTDetrResNetConfig(
        embedding_size=16, hidden_sizes=[16, 32, 48, 64], depths=[1, 1, 1, 1], layer_type="basic",
        out_features=["stage2", "stage3", "stage4"],
    )  # fmt: skip
    config = RTDetrConfig(
        backbone_config=backbone, encoder_in_channels=[32, 48, 64], encoder_hidden_dim=64, d_model=64,
        encoder_ffn_dim=128, decoder_in_channels=[64, 64, 64], decoder_ffn_dim=128, decoder_layers=2,
        num_queries=40, num_denoising=20, num_labels=4, freeze_backbone_batch_norms=False,
    )  # fmt: skip
    model = RTDetrForObjectDetection(config)
    if settings:
        model = with_correlation_loss(model, **settings)

    def labels_of(index: int) -> dict[str, Tensor]:
        height, width = train.images[index].shape[1:]
        corners = train.boxes[index][:, :4] / torch.tensor([width, height, width, height])
        boxes = torch.cat([(corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]], dim=1)
        return {"boxes": boxes, "class_labels": train.boxes[index][:, 4].long()}

    def total_loss(indices: list[int]) -> Tensor:
        images = squared([train.images[i] for i in indices])
        return model(pixel_values=images, labels=[labels_of(i) for i in indices]).loss

    fit(model, list(train.batches(epochs)), total_loss)
    return [detect(model, image) for image in val.images]


@torch.no_grad()
def detect(model: nn.Module, image: Tensor) -> dict[str, Tensor]:
    """The 100 best pairs of query and class."""
    output = model(pixel_values=squared([image]))
    scores, index = output.logits[0].sigmoid().flatten().topk(100)
    center, sides = output.pred_boxes[0][index // 4].split(2, dim=1)
    height, width = image.shape[1:]
    boxes = torch.cat([center - sides / 2, center + sides / 2], dim=1).clamp(0, 1)
    return {"boxes": boxes * torch.tensor([width, height] * 2), "scores": scores, "labels": index % 4}


def train_ultralytics(
    train: Split, val: Split, settings: dict | None, epochs: int
) -> list[dict[str, Tensor]]:
    """YOLO11n by Ultralytics' own trainer, with its defaults."""
    from ultralytics import YOLO

    from corrloss.integrations.ultralytics import with_correlation_loss

    model = YOLO("yolo11n.yaml")
    if settings:
        model = with_correlation_loss(model, **settings)
    with tempfile.TemporaryDirectory() as folder:
        data = write_yolo_labels(Path(folder), train, val)
        model.train(
            data=str(data), epochs=epochs, imgsz=SIZE, batch=BATCH, device="cpu", amp=False, plots=False,
            workers=0, project=folder, verbose=False, optimizer="AdamW", lr0=0.001, seed=0,
        )  # fmt: skip
        results = model.predict(
            [str(file) for file in val.files], imgsz=160, conf=0.001, iou=0.6, verbose=False
        )
    found = [result.boxes for result in results]
    return [{"boxes": of.xyxy, "scores": of.conf, "labels": of.cls.long()} for of in found]


def write_yolo_labels(folder: Path, train: Split, val: Split) -> Path:
    """The data set in Ultralytics' layout."""
    for name, split in (("train", train), ("val", val)):
        for kind in ("images", "labels"):
            (folder / kind / name).mkdir(parents=True)
        for file, image, boxes in zip(split.files, split.images, split.boxes, strict=True):
            (folder / "images" / name / file.name).symlink_to(file)
            scale = torch.tensor([image.shape[2], image.shape[1]] * 2)
            low, high = (boxes[:, :4] / scale).split(2, dim=1)
            rows = torch.cat([boxes[:, 4:], (low + high) / 2, high - low], dim=1).tolist()
            text = "".join(
                f"{int(row[0])} {row[1]:.6f} {row[2]:.6f} {row[3]:.6f} {row[4]:.6f}\n" for row in rows
            )
            (folder / "labels" / name / f"{file.stem}.txt").write_text(text)
    path = folder / "data.yaml"
    names = "names: [circle, square, triangle, star]"
    path.write_text(f"path: {folder}\ntrain: images/train\nval: images/val\n{names}\n")
    return path


HOSTS = {
    "torchvision": ("RetinaNet", train_torchvision, 8),
    "transformers": ("RT-DETR", train_transformers, 16),
    "ultralytics": ("YOLO11n", train_ultralytics, 8),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--hosts", nargs="+", choices=HOSTS, default=list(HOSTS))
    parser.add_argument(
        "--data", type=Path, default=Path("data/integrations"), help="where mini_coco is made"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    root = arguments.data.resolve()
    make_mini_coco(root)
    train, val = Split(root, "train"), Split(root, "val")
    print(
        "| host | detector | epochs | loss | AP | AP50 | AP75 | seconds |\n" + "| --- " * 8 + "|", flush=True
    )
    for host in arguments.hosts:
        detector, run, epochs = HOSTS[host]
        if find_spec(host) is None:
            print(f"{host} is not installed: pip install 'corrloss[{host}]'", flush=True)
            continue
        for name, settings in (("none", None), ("concordance, 0.2", SETTINGS)):
            torch.manual_seed(0)
            started = time.monotonic()
            points = val.ap(run(train, val, settings, epochs))
            cells = [f"{points[key]:.1f}" for key in ("AP", "AP50", "AP75")]
            row = [host, detector, str(epochs), name, *cells, f"{time.monotonic() - started:.0f}"]
            print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
