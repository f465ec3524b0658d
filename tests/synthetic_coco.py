"""Seeded COCO data without pixels: ground truth, and detectors whose errors are known.

`make_dataset(seed)` draws objects with COCO's skew of classes and sizes; `make_detections` answers them with
noisy boxes (whose score follows the IoU as closely as asked), duplicates, wrong classes and background.
"""

import json
from pathlib import Path

import numpy as np

from corrloss.coco import load_detections, load_ground_truth


def make_dataset(
    seed: int,
    images: int = 40,
    categories: int = 5,
    objects: float = 7.0,
    crowd: float = 0.05,
    masks: bool = False,
    size: tuple[int, int] = (480, 640),
) -> dict:
    """Return a COCO annotation document; ids are not contiguous and not ordered, as in COCO."""
    rng = np.random.default_rng(seed)
    image_ids = rng.choice(np.arange(1, 20 * images), images, replace=False)
    category_ids = np.sort(rng.choice(np.arange(1, 2 * categories + 2), categories, replace=False))
    frequency = 1 / np.arange(1, categories + 1)
    counts = rng.poisson(objects, images)
    total = int(counts.sum())
    height, width = size
    side = np.exp(rng.uniform(np.log(8), np.log(0.8 * height), total))
    aspect = np.exp(rng.normal(0, 0.35, total))
    w, h = np.minimum(side * aspect, width - 2), np.minimum(side / aspect, height - 2)
    x, y = rng.uniform(0, 1, total) * (width - w), rng.uniform(0, 1, total) * (height - h)
    boxes = np.round(np.stack([x, y, w, h], axis=1), 2)
    chosen = rng.choice(category_ids, total, p=frequency / frequency.sum())
    is_crowd = rng.random(total) < crowd
    annotations = []
    for index, image in enumerate(np.repeat(image_ids, counts)):
        bx, by, bw, bh = boxes[index].tolist()
        annotations.append(
            {
                "id": 3 * index + 1,
                "image_id": int(image),
                "category_id": int(chosen[index]),
                "bbox": [bx, by, bw, bh],
                "area": round(bw * bh * (0.7 if masks else 1.0), 3),
                "iscrowd": int(is_crowd[index]),
                "segmentation": [ellipse([bx, by, bw, bh])] if masks else [],
            }
        )
    return {
        "images": [
            {"id": int(i), "height": height, "width": width, "file_name": f"{i}.png"} for i in image_ids
        ],
        "annotations": annotations,
        "categories": [{"id": int(c), "name": f"class {c}"} for c in category_ids],
    }


def ellipse(box: list[float]) -> list[float]:
    """Return the polygon of the ellipse inscribed in the box."""
    x, y, w, h = box
    angle = np.linspace(0, 2 * np.pi, 17)[:-1]
    points = np.stack([x + w / 2 * (1 + np.cos(angle)), y + h / 2 * (1 + np.sin(angle))], axis=1)
    return np.round(points, 2).ravel().tolist()


def make_detections(
    seed: int,
    dataset: dict,
    noise: float = 0.15,
    correlation: float = 0.5,
    recall: float = 0.85,
    duplicates: float = 0.6,
    background: float = 6.0,
    ties: bool = False,
) -> list[dict]:
    """Return COCO results for the boxes of `dataset`; `ties` rounds the scores to two digits."""
    rng = np.random.default_rng(seed)
    annotations = dataset["annotations"]
    category_ids = np.array([c["id"] for c in dataset["categories"]])
    image_ids = np.array([i["id"] for i in dataset["images"]])
    height, width = dataset["images"][0]["height"], dataset["images"][0]["width"]
    found = np.flatnonzero(rng.random(len(annotations)) < recall)
    found = np.concatenate([found, found[rng.random(len(found)) < duplicates]])
    truth = np.array([a["bbox"] for a in annotations])[found]
    spread = noise * rng.gamma(1.5, 0.5, len(found))
    shift = rng.normal(0, 1, (len(found), 4)) * spread[:, None]
    boxes = np.empty_like(truth)
    boxes[:, :2] = truth[:, :2] + shift[:, :2] * truth[:, 2:]
    boxes[:, 2:] = truth[:, 2:] * np.exp(shift[:, 2:])
    quality = np.exp(-2 * spread / max(noise, 1e-9) * noise)
    score = correlation * quality + (1 - correlation) * rng.beta(2, 2, len(found))
    classes = np.array([a["category_id"] for a in annotations])[found]
    wrong = rng.random(len(found)) < 0.08
    classes[wrong] = rng.choice(category_ids, wrong.sum())
    images = np.array([a["image_id"] for a in annotations])[found]

    extra = rng.poisson(background * len(image_ids))
    side = np.exp(rng.uniform(np.log(8), np.log(0.8 * height), (extra, 2)))
    corner = rng.uniform(0, 1, (extra, 2)) * np.array([width, height]) * 0.8
    boxes = np.concatenate([boxes, np.concatenate([corner, side], axis=1)])
    score = np.concatenate([score, rng.beta(1.2, 5, extra)])
    classes = np.concatenate([classes, rng.choice(category_ids, extra)])
    images = np.concatenate([images, rng.choice(image_ids, extra)])

    order = rng.permutation(len(score))
    digits = 2 if ties else 6
    return [
        {
            "image_id": int(images[i]),
            "category_id": int(classes[i]),
            "bbox": np.round(boxes[i], 3).tolist(),
            "score": round(float(np.clip(score[i], 0, 1)), digits),
        }
        for i in order
    ]


def with_masks(detections: list[dict], dataset: dict) -> list[dict]:
    """Return the same detections with the ellipse of each box as a compressed RLE, and no box."""
    from pycocotools import mask as coco_mask

    height, width = dataset["images"][0]["height"], dataset["images"][0]["width"]
    results = []
    for entry in detections:
        rle = coco_mask.frPyObjects([ellipse(entry["bbox"])], height, width)[0]
        mask = {"size": [int(s) for s in rle["size"]], "counts": rle["counts"].decode("ascii")}
        results.append({k: v for k, v in entry.items() if k != "bbox"} | {"segmentation": mask})
    return results


def write(path: Path, content: object) -> Path:
    """Write JSON and return the path."""
    path.write_text(json.dumps(content))
    return path


def load(folder, dataset, entries, iou_type="bbox"):
    """Write and load a data set and its detections."""
    truth = load_ground_truth(write(folder / "annotations.json", dataset))
    return truth, load_detections(write(folder / "detections.json", entries), truth, iou_type)


def with_copies(dataset, entries, weights):
    """Return a data set in which each image is as often as its weight says, copies side by side."""
    images, annotations, detections = [], [], []
    for image in dataset["images"]:
        for copy in range(weights[image["id"]]):
            number = 100 * image["id"] + copy
            images.append(image | {"id": number, "file_name": f"{number}.png"})
            for a in dataset["annotations"]:
                if a["image_id"] == image["id"]:
                    annotations.append(a | {"id": len(annotations) + 1, "image_id": number})
            detections += [e | {"image_id": number} for e in entries if e["image_id"] == image["id"]]
    return dataset | {"images": images, "annotations": annotations}, detections
