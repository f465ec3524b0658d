"""Positives before post-processing, and the detections of the best and the worst order of their scores.

For the image-level correlation and its bounds (Kahraman et al., *Correlation Loss*, AAAI 2023): a positive is
a candidate that overlaps an annotation of its class. `corrloss.engine.postprocessing` defines candidates
and their scores.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from mmdet.structures.bbox import bbox_overlaps, get_box_tensor
from mmengine.structures import InstanceData
from torch import Tensor, nn

from corrloss.analysis.bounds import ORDERS, reassign_scores
from corrloss.analysis.correlation import POSITIVE_IOU
from corrloss.coco import GroundTruth
from corrloss.engine.postprocessing import Rerun, ScoredBoxes, watched_post_processing
from corrloss.errors import CorrLossError
from corrloss.files import atomic_write
from corrloss.run import RunFolder

#: Lowest IoU of a positive that is stored, below POSITIVE_IOU so that the threshold can be varied later.
MIN_IOU = 0.3


class CandidatesUnavailable(CorrLossError):
    """The candidates of this kind of detector are unknown; the message gives the reason."""


_COLUMNS = np.dtype(
    [(name, np.int64) for name in ("image_id", "category_id", "annotation_id")]
    + [(name, np.float32) for name in ("score", "iou")]
)


class CandidateRecorder:
    """Records, for each image, the positives of a detector and its detections in the best and worst order.

    Args:
        ground_truth: The annotations of the test images.
        category_ids: Category ids in the order of the detector's labels.
    """

    def __init__(self, ground_truth: GroundTruth, category_ids: Sequence[int]) -> None:
        self._category_ids = np.asarray(category_ids, dtype=np.int64)
        self._ground_truth = ground_truth
        self._may_match = ~ground_truth.is_crowd & np.isin(ground_truth.category_id, self._category_ids)
        self._positives: list[np.ndarray] = []
        self._bounds: dict[str, list[tuple[int, ScoredBoxes]]] = {order: [] for order in ORDERS}
        self._unconfirmed: dict[int, ScoredBoxes] = {}
        self._n_seen = 0
        self._problem: str | None = None

    @contextmanager
    def recording(self, model: nn.Module) -> Iterator[None]:
        """Record the predictions of ``model``, an mmdet detector, in the block; they do not change."""
        with watched_post_processing(model, self._record):
            handle = model.register_forward_hook(self._check_predictions)
            try:
                yield
            finally:
                handle.remove()

    def write(self, folder: Path) -> None:
        """Write ``positives.npz``, ``detections_best.bbox.json`` and ``detections_worst.bbox.json``.

        ``positives.npz`` has one entry per positive: ``image_id``, ``category_id``, ``annotation_id`` (of the
        annotation of its class with the highest IoU), all int64, ``score`` and ``iou``, both float32; and
        ``min_iou``, the lowest stored IoU. A box with several classes is one entry per class.

        Args:
            folder: Folder of the run.

        Raises:
            CandidatesUnavailable: The candidates are unknown; no file is written.
        """
        if self._problem or not self._n_seen:
            raise CandidatesUnavailable(self._problem or "no known kind of post-processing was called")
        bounds = {
            order: (entry for bound in self._bounds[order] for entry in self._coco_entries(*bound))
            for order in ORDERS
        }
        write_candidates(folder, self._positives, bounds)

    def _record(self, meta: dict, candidates: ScoredBoxes, detections: ScoredBoxes, rerun: Rerun) -> None:
        image_id = meta["img_id"]
        self._n_seen += 1
        self._unconfirmed[image_id] = detections
        annotations = np.flatnonzero(self._may_match & (self._ground_truth.image_id == image_id))
        row, iou, nearest = self._find_positives(candidates, annotations)
        score = candidates.scores[row].cpu().numpy()
        self._positives.append(self._columns(score, iou, annotations[nearest]))

        chosen = np.flatnonzero(iou >= POSITIVE_IOU)
        one_group = np.zeros(len(chosen), dtype=int)
        for order in ORDERS:
            reassigned = reassign_scores(score[chosen], iou[chosen], one_group, order)
            bound = detections
            if not np.array_equal(reassigned, score[chosen]):
                scores = candidates.scores.clone()
                scores[row[chosen]] = torch.from_numpy(reassigned).to(scores)
                bound = rerun(scores)
            self._bounds[order].append((image_id, bound))

    def _check_predictions(self, _model: nn.Module, _args: tuple, samples: list) -> None:
        """Forward hook of the detector: compare its predictions with the output of the post-processing."""
        for sample in samples:
            recorded, final = self._unconfirmed.pop(sample.img_id, None), sample.pred_instances
            if recorded is None and len(final) == 0:
                continue  # heads may return early for an image without candidates
            if recorded is None or not _are_equal(recorded, final):
                self._problem = self._problem or (
                    f"image {sample.img_id}: the detections are not the output of the known post-processing"
                )

    def _find_positives(
        self, candidates: ScoredBoxes, annotations: np.ndarray
    ) -> tuple[Tensor, np.ndarray, np.ndarray]:
        """Find the candidates that overlap an annotation of their class.

        Args:
            candidates: Of one image, boxes in pixels of the original image.
            annotations: int64, positions of the annotations of the same image that may match.

        Returns:
            ``(row, iou, nearest)`` of the positives, on the CPU, each of shape (n,): the candidate (int64),
            the highest of its IoUs (float32, in [MIN_IOU, 1]), and the index into ``annotations`` (int64).
        """
        device = candidates.boxes.device
        boxes = self._ground_truth.bbox[annotations].astype(np.float32)
        boxes[:, 2:] += boxes[:, :2]
        category = torch.from_numpy(self._ground_truth.category_id[annotations]).to(device)
        category_of = torch.from_numpy(self._category_ids).to(device)[candidates.labels]
        row = torch.isin(category_of, category).nonzero().squeeze(1)
        if len(row) == 0:
            return row.cpu(), np.zeros(0, np.float32), np.zeros(0, np.int64)
        overlaps = bbox_overlaps(candidates.boxes[row].float(), torch.from_numpy(boxes).to(device))
        iou, nearest = overlaps.masked_fill(category_of[row, None] != category, -1).max(dim=1)
        kept = iou >= MIN_IOU
        return row[kept].cpu(), iou[kept].clamp(max=1).cpu().numpy(), nearest[kept].cpu().numpy()

    def _columns(self, score: np.ndarray, iou: np.ndarray, annotations: np.ndarray) -> np.ndarray:
        columns = np.empty(len(score), _COLUMNS)
        for name in ("image_id", "category_id", "annotation_id"):
            columns[name] = getattr(self._ground_truth, name)[annotations]
        columns["score"], columns["iou"] = score, iou
        return columns

    def _coco_entries(self, image_id: int, detections: ScoredBoxes) -> list[dict]:
        categories = self._category_ids[detections.labels.numpy()].tolist()
        rows = zip(detections.boxes.tolist(), detections.scores.tolist(), categories, strict=True)
        return [
            dict(image_id=image_id, bbox=[x1, y1, x2 - x1, y2 - y1], score=score, category_id=category)
            for (x1, y1, x2, y2), score, category in rows
        ]


def write_candidates(folder: Path, positives: list[np.ndarray], bounds: dict[str, Iterable[dict]]) -> None:
    """Write the files of `CandidateRecorder.write`.

    Args:
        folder: Folder of the run.
        positives: Parts of the positives, structured arrays with the columns of that file.
        bounds: Detections in COCO's result format, by the order of their scores.
    """
    columns = np.concatenate([np.empty(0, _COLUMNS), *positives])
    run = RunFolder(folder)
    with atomic_write(run.positives) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, min_iou=MIN_IOU, **{name: columns[name] for name in _COLUMNS.names})
    for order in ORDERS:
        with atomic_write(run.bound(order)) as temporary:
            temporary.write_text("[" + ",\n".join(map(json.dumps, bounds[order])) + "]\n", encoding="utf-8")


def _are_equal(recorded: ScoredBoxes, final: InstanceData) -> bool:
    boxes = get_box_tensor(final.bboxes).cpu()
    if not torch.equal(recorded.scores, final.scores.cpu()):
        return False
    # PAA's score voting gives NaN for a box without area.
    return torch.allclose(recorded.boxes, boxes, rtol=1e-4, atol=1e-2, equal_nan=True)
