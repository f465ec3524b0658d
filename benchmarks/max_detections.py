"""How far AP50, AP75 and AP by size depend on the limit of detections: COCO's 100, or mmdet's 1,000.

    python benchmarks/max_detections.py

Made data of 100 images with about 300 detections each, of 1, 2, 5 and 80 classes. The limit is per image and
class, so the difference falls with the number of classes.
"""

import sys
import tempfile
from pathlib import Path

from corrloss.analysis.ap import OF_MANY_DETECTIONS, average_precision, with_many_detections
from corrloss.coco import load_detections, load_ground_truth

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from synthetic_coco import make_dataset, make_detections, write


def main() -> None:
    print(f"| classes | {' | '.join(OF_MANY_DETECTIONS)} |", "| --- " * 6 + "|", sep="\n")
    for categories in (1, 2, 5, 80):
        dataset = make_dataset(0, images=100, categories=categories, objects=30)
        with tempfile.TemporaryDirectory() as folder:
            truth = load_ground_truth(write(Path(folder) / "annotations.json", dataset))
            entries = make_detections(1, dataset, background=258, correlation=0.3)
            found = load_detections(write(Path(folder) / "detections.json", entries), truth)
            coco = average_precision(truth, found)
            many = with_many_detections(truth, found, "hotcoco", coco)
        gains = [f"{many[f'{name}_1000'] - coco[name]:+.2f}" for name in OF_MANY_DETECTIONS]
        print(f"| {categories} | {' | '.join(gains)} |")


if __name__ == "__main__":
    main()
