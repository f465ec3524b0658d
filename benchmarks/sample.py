"""Time and memory of the sample of COCO, on a made annotation file of train2017's size.

    python benchmarks/sample.py [--images 10000]

118,287 images and 860,001 annotations with polygons, made from a seed: 460 MB of JSON (half a minute). Then
the command's work, in a process of its own: reading, choosing, writing; and the check of what it wrote. Last,
how close the sample is to the full set.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec
import numpy as np

from corrloss.coco.published import COCO_CATEGORIES, PUBLISHED
from corrloss.data.sample import choose_images, read_objects, statistics

ROOT = Path(__file__).parents[1]
TRAIN = PUBLISHED["coco_2017_train"]
POINTS = 30  # of a polygon: with these the file is as large as the published one
TIMED = r"""
import json, re, sys, time
from pathlib import Path
from corrloss.data.sample import check_sample, write_sample
source, sample, images = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
start = time.perf_counter()
write_sample(source, sample, images=images, expected="coco_2017_train")
written = time.perf_counter()
check_sample(sample, images=images)
# Linux's; getrusage would give that of the process that started this one, if it is larger
peak = int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 2**20
print(json.dumps([written - start, time.perf_counter() - written, peak]))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--images", type=int, default=10_000, help="images of the sample")
    images = parser.parse_args().images
    with tempfile.TemporaryDirectory() as folder:
        source, sample = Path(folder) / "instances_train2017.json", Path(folder) / "sample.json"
        source.write_bytes(msgspec.json.encode(make_document()))
        command = [sys.executable, "-c", TIMED, source, sample, str(images)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        seconds, checked, peak = json.loads(done.stdout)
        sizes = [path.stat().st_size / 1e6 for path in (source, sample)]
        full = read_objects(source)
        chosen = {"sample": read_objects(sample)}
        chosen["simple random sample"] = full.of(choose_images(full, images, 0, exchange=False))
    print(f"{images:,} of {TRAIN.images:,} images, {sizes[1]:.0f} of {sizes[0]:.0f} MB")
    print(f"sample: {seconds:.1f} s, check of it: {checked:.2f} s, peak memory {peak:.2f} GiB")
    print("\n" + statistics(full, chosen).partition("\n\n")[0])


def make_document() -> dict:
    """As many images, objects and points as in train2017; classes are skewed, and go together in scenes."""
    rng = np.random.default_rng(0)
    ids = np.sort(rng.choice(600_000, TRAIN.images, replace=False))
    weight = rng.gamma(0.9, size=TRAIN.images)
    weight[rng.random(TRAIN.images) < 0.01] = 0  # images without objects
    owner = rng.choice(TRAIN.images, TRAIN.annotations, p=weight / weight.sum())
    frequency = 1 / np.arange(1, 81) ** 1.1
    scenes = rng.dirichlet(12 * frequency / frequency.sum(), size=64).cumsum(1)
    scene = rng.integers(64, size=TRAIN.images)[owner]
    category = np.empty(TRAIN.annotations, int)
    for number in range(64):
        members = scene == number
        category[members] = np.searchsorted(scenes[number], rng.random(members.sum())).clip(0, 79)
    area = np.exp(rng.normal(rng.normal(8, 1, 80)[category], 1.6)).clip(4, 640 * 480)
    is_crowd = rng.random(TRAIN.annotations) < 0.012
    numbers = list(COCO_CATEGORIES)
    annotations = []
    for k, side in enumerate(np.sqrt(area).tolist()):
        corners = np.round(rng.random(2 * POINTS) * side, 2).tolist()
        annotations.append(
            {
                "segmentation": [corners],
                "area": float(area[k]),
                "iscrowd": int(is_crowd[k]),
                "image_id": int(ids[owner[k]]),
                "bbox": [0.0, 0.0, side, side],
                "category_id": numbers[category[k]],
                "id": k + 1,
            }
        )
    return {
        "info": {"description": "made; not COCO"},
        "licenses": [],
        "images": [image(number) for number in ids.tolist()],
        "annotations": annotations,
        "categories": [{"id": key, "name": name} for key, name in COCO_CATEGORIES.items()],
    }


def image(number: int) -> dict:
    name = f"{number:012d}.jpg"
    return {
        "license": 1,
        "file_name": name,
        "coco_url": f"http://images.cocodataset.org/train2017/{name}",
        "height": 480,
        "width": 640,
        "date_captured": "2013-11-14 11:18:45",
        "flickr_url": f"http://farm9.staticflickr.com/8186/8119368305_{number:010x}_z.jpg",
        "id": number,
    }


if __name__ == "__main__":
    main()
