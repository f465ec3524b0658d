"""Positives before post-processing, and detections from the best and the worst order of their scores.

For the image-level correlation and its bounds (Kahraman et al., *Correlation Loss*, AAAI 2023): a positive is
a candidate that overlaps an annotation of its class. All candidates above the detector's own `score_thr` and
among its own `nms_pre` best take part; `corrloss.engine.postprocessing` says what their score is.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from mmdet.structures.bbox import bbox_overlaps, get_box_tensor
from mmengine.structures import InstanceData
from torch import Tensor, nn

from corrloss.analysis.bounds import ORDERS, reassign_scores
from corrloss.analysis.correlation import POSITIVE_IOU
from corrloss.coco import GroundTruth
from corrloss.engine.postprocessing import Again, Candidates, Outcome, watched_post_processing
from corrloss.files import atomic_write

#: Lowest IoU of a positive that is kept, below POSITIVE_IOU so that the threshold can be varied later.
MIN_IOU = 0.3
POSITIVES = "positives.npz"
#: Detections in COCO's result format, by the order in which the scores of the positives were dealt out.
BOUNDS = {order: f"detections_{order}.bbox.json" for order in ORDERS}


class CandidatesUnavailable(RuntimeError):
    """The detector is of a kind whose candidates cannot be seen, or not truthfully; the message says why."""


class Truth(NamedTuple):
    """The annotations of one image without crowds; n of them.

    Attributes:
        boxes: float32 (n, 4), ``x1, y1, x2, y2`` in pixels.
        labels: int64 (n,), positions in the data set's classes.
        ids: int64 (n,), annotation ids.
    """

    boxes: Tensor
    labels: Tensor
    ids: Tensor


NO_TRUTH = Truth(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.int64))
_COLUMNS = np.dtype(
    [
        ("image_id", np.int64),
        ("category_id", np.int64),
        ("annotation_id", np.int64),
        ("score", np.float32),
        ("iou", np.float32),
    ]
)


class CandidateKeeper:
    """Keeps, image by image, the positives of a detector and its detections in the best and worst order.

    Args:
        ground_truth: The annotations of the test images.
        category_ids: Category ids in the order of the detector's labels.
    """

    def __init__(self, ground_truth: GroundTruth, category_ids: Sequence[int]) -> None:
        self._category_ids = np.asarray(category_ids, dtype=np.int64)
        self._truths = truths_by_image(ground_truth, self._category_ids)
        self._positives: list[np.ndarray] = []
        self._bounds: dict[str, list[tuple[int, Outcome]]] = {order: [] for order in ORDERS}
        self._unconfirmed: dict[int, Outcome] = {}
        self._n_seen = 0
        self._problem: str | None = None

    @contextmanager
    def watching(self, model: nn.Module) -> Iterator[None]:
        """Keep what ``model``, an mmdet detector, predicts in the block; its detections do not change."""
        with watched_post_processing(model, self._keep):
            handle = model.register_forward_hook(lambda _model, _args, samples: self._confirm(samples))
            try:
                yield
            finally:
                handle.remove()

    def write(self, folder: Path) -> None:
        """Write ``positives.npz``, ``detections_best.bbox.json`` and ``detections_worst.bbox.json``.

        ``positives.npz`` has an entry a positive: ``image_id``, ``category_id``, ``annotation_id`` (of the
        annotation of its class that it overlaps most), all int64, ``score`` and ``iou``, both float32; and
        ``min_iou``, the lowest IoU that was kept. A box with several classes counts once a class.

        Raises:
            CandidatesUnavailable: There is nothing truthful to write; no file is touched.
        """
        if self._problem or not self._n_seen:
            raise CandidatesUnavailable(self._problem or "no post-processing of a known kind was seen")
        bounds = {
            order: (entry for bound in self._bounds[order] for entry in self._coco_entries(*bound))
            for order in ORDERS
        }
        write_candidates(folder, self._positives, bounds)

    def _keep(self, meta: dict, candidates: Candidates, outcome: Outcome, again: Again) -> None:
        image_id = meta["img_id"]
        self._n_seen += 1
        self._unconfirmed[image_id] = outcome
        truth = self._truths.get(image_id, NO_TRUTH)
        row, iou, nearest = find_positives(candidates, truth)
        score = candidates.scores[row].cpu().numpy()
        self._positives.append(self._columns(image_id, truth, score, iou, nearest))

        chosen = np.flatnonzero(iou >= POSITIVE_IOU)
        for order in ORDERS:
            dealt = reassign_scores(score[chosen], iou[chosen], np.zeros(len(chosen), dtype=int), order)
            bound = outcome
            if not np.array_equal(dealt, score[chosen]):
                scores = candidates.scores.clone()
                scores[row[chosen]] = torch.from_numpy(dealt).to(scores)
                bound = again(scores)
            self._bounds[order].append((image_id, bound))

    def _confirm(self, samples: list) -> None:
        """Compare what was seen to leave post-processing with what left the detector."""
        for sample in samples:
            seen, final = self._unconfirmed.pop(sample.img_id, None), sample.pred_instances
            if seen is None and len(final) == 0:
                continue  # heads may return early from an image without candidates
            if seen is None or not _same(seen, final):
                self._problem = self._problem or (
                    f"image {sample.img_id}: the detections are not those of a known kind of post-processing"
                )

    def _columns(
        self, image_id: int, truth: Truth, score: np.ndarray, iou: np.ndarray, nearest: Tensor
    ) -> np.ndarray:
        columns = np.empty(len(score), _COLUMNS)
        columns["image_id"] = image_id
        columns["category_id"] = self._category_ids[truth.labels[nearest].numpy()]
        columns["annotation_id"] = truth.ids[nearest].numpy()
        columns["score"], columns["iou"] = score, iou
        return columns

    def _coco_entries(self, image_id: int, outcome: Outcome) -> list[dict]:
        categories = self._category_ids[outcome.labels.numpy()].tolist()
        rows = zip(outcome.boxes.tolist(), outcome.scores.tolist(), categories, strict=True)
        return [
            {
                "image_id": image_id,
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "score": score,
                "category_id": category,
            }
            for (x1, y1, x2, y2), score, category in rows
        ]


def write_candidates(folder: Path, positives: list[np.ndarray], bounds: dict[str, Iterable[dict]]) -> None:
    """Write the files that `CandidateKeeper.write` describes.

    Args:
        folder: Where they go.
        positives: Parts of the positives, each in the columns of that file.
        bounds: Detections in COCO's result format, by the order of their scores.
    """
    columns = np.concatenate([np.empty(0, _COLUMNS), *positives])
    with atomic_write(folder / POSITIVES) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, min_iou=MIN_IOU, **{name: columns[name] for name in _COLUMNS.names})
    for order, name in BOUNDS.items():
        with atomic_write(folder / name) as temporary:
            temporary.write_text("[" + ",\n".join(map(json.dumps, bounds[order])) + "]\n", encoding="utf-8")


def truths_by_image(ground_truth: GroundTruth, category_ids: np.ndarray) -> dict[int, Truth]:
    """The annotations that a positive may overlap: no crowds, no classes unknown to the detector.

    Args:
        ground_truth: All annotations.
        category_ids: int64 (n,), category ids in the order of the detector's labels.

    Returns:
        One `Truth` for each image that has such annotations.
    """
    label_of = {category: label for label, category in enumerate(category_ids.tolist())}
    kept = np.flatnonzero(~ground_truth.is_crowd & np.isin(ground_truth.category_id, category_ids))
    kept = kept[np.argsort(ground_truth.image_id[kept], kind="stable")]
    images, starts = np.unique(ground_truth.image_id[kept], return_index=True)
    truths = {}
    for image, rows in zip(images.tolist(), np.split(kept, starts[1:]), strict=True):
        boxes = ground_truth.bbox[rows].astype(np.float32)
        boxes[:, 2:] += boxes[:, :2]
        labels = [label_of[category] for category in ground_truth.category_id[rows].tolist()]
        ids = torch.from_numpy(ground_truth.annotation_id[rows])
        truths[image] = Truth(torch.from_numpy(boxes), torch.tensor(labels), ids)
    return truths


def find_positives(candidates: Candidates, truth: Truth) -> tuple[Tensor, np.ndarray, Tensor]:
    """Find the candidates that overlap an annotation of their class.

    Args:
        candidates: Of one image, boxes in pixels of the original image.
        truth: The annotations of this image.

    Returns:
        ``(row, iou, nearest)`` of the positives, on the CPU, each of shape (n,): the candidate (int64), the
        highest of its IoUs (float32, in [MIN_IOU, 1]), and the annotation (position in ``truth``, int64).
    """
    boxes, labels = truth.boxes.to(candidates.boxes.device), truth.labels.to(candidates.labels.device)
    row = torch.isin(candidates.labels, labels).nonzero().squeeze(1)
    if len(row) == 0:
        return row.cpu(), np.zeros(0, np.float32), row.cpu()
    overlaps = bbox_overlaps(candidates.boxes[row].float(), boxes)
    iou, nearest = overlaps.masked_fill(candidates.labels[row, None] != labels, -1).max(dim=1)
    kept = iou >= MIN_IOU
    return row[kept].cpu(), iou[kept].clamp(max=1).cpu().numpy(), nearest[kept].cpu()


def _same(outcome: Outcome, final: InstanceData) -> bool:
    boxes = get_box_tensor(final.bboxes).cpu()
    return torch.equal(outcome.scores, final.scores.cpu()) and torch.allclose(
        outcome.boxes,
        boxes,
        rtol=1e-4,
        atol=1e-2,
        equal_nan=True,  # PAA votes NaN for a box without area
    )
