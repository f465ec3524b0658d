"""Time training steps of the detectors of scales paper and small at full width, with and without the loss.

    python benchmarks/full_width.py                       # on a GPU: about ten minutes
    python benchmarks/full_width.py --scale small --detectors atss --steps 2    # on a CPU: patience

The models are those of the recipes with random weights, the batches those of the recipes' data pipelines on
made images of COCO's usual size, 640 x 480 pixels, with seven objects each. Per detector two models of the
baseline and one with the loss are trained in turns on the same batches (corrloss.engine.step_timing). Columns
are those of `snakemake overhead`, seconds with the data ready; the row `none` is the noise.
"""

import argparse
import contextlib
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image

from corrloss.coco.published import COCO_CATEGORIES
from corrloss.engine.environment import device_name
from corrloss.engine.step_timing import measure
from corrloss.plan.experiments import Experiments
from corrloss.plan.matrix import Matrix, load_matrix
from corrloss.plan.runs import Run
from corrloss.plan.settings import Settings
from corrloss.tables.overhead import overhead_rows
from corrloss.tables.reference import load_reference

ROOT = Path(__file__).parents[1]
WIDTH, HEIGHT, OBJECTS = 640, 480, 7
COLUMNS = [
    "scale",
    "detector",
    "coefficient",
    "images",
    "seconds_without",
    "seconds_with",
    "ratio",
    "loss_ms",
]


def make_coco(folder: Path, annotations: list[str], images: int = 32) -> None:
    """Write one set of images under the names of all of COCO's parts, the objects as ellipses."""
    generator = np.random.default_rng(0)
    document = {"images": [], "annotations": []}
    document["categories"] = [{"id": i, "name": name} for i, name in COCO_CATEGORIES.items()]
    (folder / "annotations").mkdir(parents=True)
    (folder / "pixels").mkdir()
    for image in range(1, images + 1):
        name = f"{image:012d}.jpg"
        pixels = generator.integers(0, 256, (HEIGHT // 8, WIDTH // 8, 3), np.uint8)
        Image.fromarray(pixels).resize((WIDTH, HEIGHT)).save(folder / "pixels" / name)
        document["images"].append({"id": image, "file_name": name, "width": WIDTH, "height": HEIGHT})
        for _ in range(OBJECTS):
            size = generator.uniform(0.05, 0.6, 2) * (WIDTH, HEIGHT)
            corner = generator.uniform(0, 1, 2) * ((WIDTH, HEIGHT) - size)
            angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)[:, None]
            outline = corner + size / 2 * (1 + np.hstack([np.cos(angle), np.sin(angle)]))
            document["annotations"].append({
                "id": len(document["annotations"]) + 1, "image_id": image, "iscrowd": 0,
                "category_id": int(generator.choice(list(COCO_CATEGORIES))), "area": float(size.prod()),
                "bbox": [*corner, *size], "segmentation": [outline.ravel().tolist()],
            })  # fmt: skip
    for name in annotations:
        (folder / "annotations" / f"{name}.json").write_text(json.dumps(document))
    for part in ("train2017", "val2017", "small2017"):
        (folder / part).symlink_to("pixels")


def pairs_of(matrix: Matrix) -> dict[str, tuple[Run, Run]]:
    """Of each detector on COCO that is trained, a run without and one with the loss."""
    runs = [planned.run for planned in matrix.planned.values() if planned.run.dataset.startswith("coco")]
    baselines = {run.detector: run for run in reversed(runs) if run.is_baseline and not run.options}
    with_loss = {run.detector: run for run in reversed(runs) if run.has_loss}
    return {name: (baselines[name], with_loss[name]) for name in sorted(baselines.keys() & with_loss.keys())}


def time_detector(matrix: Matrix, pair: tuple[Run, Run], steps: int, reference: pd.DataFrame) -> pd.DataFrame:
    configs = [matrix.planned[run.name].config for run in pair]
    with contextlib.redirect_stdout(sys.stderr):  # pycocotools prints what it reads
        timings = measure(configs, steps, print)
    rows = pd.DataFrame(overhead_rows(pair, timings, reference))
    images = configs[0]["train_dataloader"]["batch_size"]
    rows.insert(0, "scale", matrix.scale)
    return rows.assign(images=images, loss_ms=10 * rows["share_percent"] * rows["seconds_without"])[COLUMNS]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--scale", nargs="+", choices=["paper", "small"], default=["paper", "small"])
    parser.add_argument("--detectors", nargs="+", help="by default all")
    parser.add_argument("--steps", type=int, default=10, help="timed, after 5 of warm-up")
    args = parser.parse_args()
    print(f"torch {torch.__version__}, {device_name()}", file=sys.stderr)
    reference = load_reference(Experiments(ROOT))
    print(",".join(COLUMNS))
    with tempfile.TemporaryDirectory() as folder:
        make_coco(Path(folder) / "coco", ["instances_train2017", "instances_val2017", "instances_small2017"])
        for scale in args.scale:
            matrix = load_matrix(Settings.load(ROOT, [f"scale={scale}", f"data_root={folder}"]))
            for name, pair in pairs_of(matrix).items():
                if name in (args.detectors or [name]):
                    rows = time_detector(matrix, pair, args.steps, reference)
                    print(rows.to_csv(index=False, header=False, float_format="%.4f"), end="", flush=True)


if __name__ == "__main__":
    main()
