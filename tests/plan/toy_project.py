"""A small project to break: one detector, data set, scale and table each; the schemas are the real ones."""

import shutil
from pathlib import Path

ROOT = Path(__file__).parents[2]

DETECTOR = """\
model = dict(type="Toy", backbone=dict(depth=50), bbox_head=dict(type="ToyHead", num_classes=80, width=256))
resize = dict(type="Resize", scale=(1333, 800))
images = dict(type="CocoDataset", data_root="?", ann_file="?", pipeline=[resize])
train_dataloader = dict(batch_size=4, num_workers=2, dataset=images)
test_dataloader = dict(batch_size=1, num_workers=2, dataset=images)
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=12)
optim_wrapper = dict(type="OptimWrapper", optimizer=dict(type="SGD", lr=0.01))
param_scheduler = [dict(type="MultiStepLR", milestones=[8, 11])]
visualizer = dict(type="DetLocalVisualizer")

correlation = dict(head="CorrelationToyHead", at="model.bbox_head", scope="batch")
small = dict(model=dict(bbox_head=dict(width=32)))
"""
DATASET = """\
folder = "shapes"
classes = ("circle", "square")
train = dict(ann_file="train.json", img="train/")
test = dict(ann_file="test.json", img="test/")
"""
SCALE = """\
datasets: {coco: shapes}
processes: 1
threads: 1
gpus: 0
section: small
overrides:
  model:
    backbone: {depth: 18}
"""
TABLE = """\
title: Toys
data: coco
metrics: [AP, AP50]
rows:
  - detector: toy
    variants:
      - coefficient: none
      - {coefficient: spearman, weight: 0.2}
"""


def write_project(root: Path) -> Path:
    """Write the small project below a folder, and return the folder."""
    shutil.copytree(ROOT / "config", root / "config")
    shutil.copytree(ROOT / "workflows" / "schemas", root / "workflows" / "schemas")
    files = {"detectors/toy.py": DETECTOR, "datasets/shapes.py": DATASET}
    files |= {"scales/mini.yaml": SCALE, "tables/toys.yaml": TABLE}
    for name, text in files.items():
        path = root / "experiments" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root
