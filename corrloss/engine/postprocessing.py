"""Observes the post-processing of a detector: its input, its output, and its output for other scores.

A detector passes its candidates (boxes with a class and a score) to a post-processing function: NMS, score
voting, the 100 best. A context manager wraps that function of mmdet during prediction and reads its arguments
without changing them. Candidates are what the detector itself passes on: its ``nms_pre`` best of each level
above its ``score_thr``.

**The score of a candidate is the one that NMS sorts by**: the class probability (RetinaNet, FoveaBox, YOLACT,
two-stage detectors, Sparse R-CNN, DETR and relatives), multiplied by the auxiliary branch where a detector
has one (ATSS, FCOS: centerness), sqrt(p * IoU) for PAA.
"""

from __future__ import annotations

import functools
import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from mmdet.models.dense_heads import DETRHead, PAAHead, YOLACTHead
from mmdet.models.dense_heads.base_dense_head import BaseDenseHead
from mmdet.models.roi_heads import SparseRoIHead
from mmdet.models.roi_heads.bbox_heads import BBoxHead, bbox_head
from mmdet.structures.bbox import get_box_tensor
from mmengine.structures import InstanceData
from torch import Tensor, nn

from corrloss.heads.observe import replaced_attribute


@dataclass(frozen=True)
class ScoredBoxes:
    """Candidates of one image before post-processing, or its detections, best first, on the CPU; n boxes.

    Attributes:
        boxes: Float (n, 4), ``x1, y1, x2, y2``.
        labels: int64 (n,), indices into the data set's classes.
        scores: Float (n,), in [0, 1]: what NMS sorts by.
    """

    boxes: Tensor
    labels: Tensor
    scores: Tensor


#: Runs the detector's own post-processing again, with other scores of the candidates, (n,).
Rerun = Callable[[Tensor], ScoredBoxes]
#: Called for each image with its meta data, the candidates, their detections (both in pixels of the original
#: image), and a function that runs the post-processing again.
Visit = Callable[[dict, ScoredBoxes, ScoredBoxes, Rerun], None]


def watched_post_processing(model: nn.Module, visit: Visit) -> AbstractContextManager[None]:
    """Call ``visit`` for each image that ``model`` post-processes while the block runs.

    The detections are bit-identical with and without it. For a detector without post-processing (Sparse
    R-CNN, DETR) the final predictions are the candidates. For an unknown kind ``visit`` is never called.

    Args:
        model: An mmdet detector.
        visit: See `Visit`.
    """
    roi_head, head = getattr(model, "roi_head", None), getattr(model, "bbox_head", None)
    if isinstance(roi_head, SparseRoIHead) or isinstance(head, DETRHead):
        return _watched_predictions(model, visit)
    return _watched_dense_head(head, visit) if roi_head is None else _watched_roi_head(roi_head, visit)


@contextmanager
def _watched_dense_head(head: nn.Module, visit: Visit) -> Iterator[None]:
    # The method of mmdet's class, not an override: PAA without its IoU branch changes the scores before it
    # calls that method. Unknown kinds of heads have none of these classes.
    owner = next((kind for kind in type(head).__mro__ if kind in _CANDIDATES_OF), None)
    if owner is None:
        yield
        return
    function = _WatchedFunction(owner._bbox_post_process, _CANDIDATES_OF[owner], visit)

    @functools.wraps(function.original)
    def watched(self, *args, **kwargs):
        if self is not head:
            return function.original(self, *args, **kwargs)
        arguments = function.bind(self, *args, **kwargs).arguments
        scale = arguments["img_meta"]["scale_factor"]
        after = None if arguments["rescale"] else scale  # YOLACT rescales boxes later, with their masks
        return function.call(arguments["img_meta"], scale, after, self, *args, **kwargs)

    with replaced_attribute(owner, "_bbox_post_process", watched):
        yield


@contextmanager
def _watched_roi_head(roi_head: nn.Module, visit: Visit) -> Iterator[None]:
    """Wrap ``multiclass_nms`` while the last stage predicts an image, whose arguments have the meta data."""
    last = roi_head.bbox_head[-1] if isinstance(roi_head.bbox_head, nn.ModuleList) else roi_head.bbox_head
    predict = BBoxHead._predict_by_feat_single
    signature = inspect.signature(predict)
    nms = _WatchedFunction(bbox_head.multiclass_nms, NMSCandidates.read, visit)

    @functools.wraps(predict)
    def watched(self, *args, **kwargs):
        if self is not last:
            return predict(self, *args, **kwargs)
        arguments = signature.bind(self, *args, **kwargs).arguments
        meta = arguments["img_meta"]
        scale = None if arguments.get("rescale") else meta["scale_factor"]
        with replaced_attribute(bbox_head, "multiclass_nms", partial(nms.call, meta, scale, scale)):
            return predict(self, *args, **kwargs)

    with replaced_attribute(BBoxHead, "_predict_by_feat_single", watched):
        yield


@contextmanager
def _watched_predictions(model: nn.Module, visit: Visit) -> Iterator[None]:
    def visit_predictions(_module: nn.Module, _args: tuple, samples: list) -> None:
        for sample in samples:
            found = _detections(sample.pred_instances, None)
            visit(sample.metainfo, found, found, partial(ScoredBoxes, found.boxes, found.labels))

    handle = model.register_forward_hook(visit_predictions)
    try:
        yield
    finally:
        handle.remove()


class _WatchedFunction:
    """A post-processing function of mmdet whose calls are passed to ``visit``.

    ``read`` reads the candidates from the arguments of ``original`` by name.
    """

    def __init__(
        self, original: Callable, read: Callable[[dict[str, Any]], ReassignableCandidates], visit: Visit
    ) -> None:
        self.original, self.read, self.visit = original, read, visit
        self._signature = inspect.signature(original)

    def bind(self, *args, **kwargs) -> inspect.BoundArguments:
        """The arguments of a call by name, with defaults."""
        call = self._signature.bind(*args, **kwargs)
        call.apply_defaults()
        return call

    def call(
        self, meta: dict, before: Sequence[float] | None, after: Sequence[float] | None, *args, **kwargs
    ) -> object:
        """Call the function and ``visit``; return the result of the function.

        Args:
            meta: Meta data of the image.
            before, after: Scale factors (x, y) of the boxes of the candidates and of the result; None where
                boxes are in pixels of the original image.
            args, kwargs: Arguments of the function.
        """
        call = self.bind(*args, **kwargs)
        candidates = self.read(call.arguments)
        visited = replace(candidates, boxes=_unscaled(candidates.boxes, before))
        result = self.original(*call.args, **call.kwargs)

        def rerun(scores: Tensor) -> ScoredBoxes:
            changed = call.arguments | candidates.arguments_with(scores)
            again = inspect.BoundArguments(call.signature, changed)
            return _detections(self.original(*again.args, **again.kwargs), after)

        self.visit(meta, visited, _detections(result, after), rerun)
        return result


@dataclass(frozen=True)
class ReassignableCandidates(ScoredBoxes, ABC):
    """Candidates that were read from the arguments of a post-processing function.

    Attributes:
        rows: The arguments that hold the candidates, copied: post-processing changes its arguments in place.
    """

    rows: Any

    @abstractmethod
    def arguments_with(self, scores: Tensor) -> dict[str, Any]:
        """The arguments, by name, for which NMS sorts the candidates by ``scores``, (n,)."""


class DenseCandidates(ReassignableCandidates):
    """Candidates of most dense heads: one class and score for each box, possibly with a factor."""

    @classmethod
    def read(cls, arguments: dict[str, Any]) -> DenseCandidates:
        """Read the arguments of ``BaseDenseHead._bbox_post_process``."""
        results = arguments["results"].clone()  # shallow; post-processing removes factors from the original
        factors = results.pop("score_factors", None)
        results.bboxes = results.bboxes.clone()  # boxes of mmdet's own type are rescaled in place
        scores = results.scores if factors is None else results.scores * factors
        return cls(get_box_tensor(results.bboxes), results.labels, scores, results)

    def arguments_with(self, scores: Tensor) -> dict[str, Any]:
        """See `ReassignableCandidates`."""
        results = self.rows.clone()
        results.bboxes, results.scores = self.rows.bboxes.clone(), scores
        return {"results": results}


@dataclass(frozen=True)
class PAACandidates(ReassignableCandidates):
    """Candidates of PAA, one for each box and class above the threshold.

    PAA sorts by sqrt(p * IoU), in NMS and in its score voting.

    Attributes:
        all_scores: What PAA sorts by, of every box and class, (boxes, classes).
        position: Box of each candidate, int64 (n,).
    """

    all_scores: Tensor
    position: Tensor

    @classmethod
    def read(cls, arguments: dict[str, Any]) -> PAACandidates:
        """Read the arguments of ``PAAHead._bbox_post_process``."""
        results = arguments["results"]
        scores = (results.scores * results.score_factors[:, None]).sqrt()
        row, label = (scores > arguments["cfg"].score_thr).nonzero(as_tuple=True)
        used, position = row.unique(return_inverse=True)  # boxes without a candidate have no effect
        results, scores = results[used], scores[used]
        return cls(results.bboxes[position], label, scores[position, label], results, scores, position)

    def arguments_with(self, scores: Tensor) -> dict[str, Any]:
        """See `ReassignableCandidates`."""
        results = self.rows.clone()
        results.bboxes = self.rows.bboxes.clone()  # PAA rescales in place
        reassigned = self.all_scores.index_put((self.position, self.labels), scores)
        results.scores = reassigned.square()  # the root of a square is exact
        results.score_factors = reassigned.new_ones(len(reassigned))
        return {"results": results}


@dataclass(frozen=True)
class NMSCandidates(ReassignableCandidates):
    """Candidates in ``multi_scores``, one row per proposal, and ``multi_bboxes``, one box or one per class.

    Attributes:
        position: Row of each candidate, int64 (n,).
    """

    position: Tensor

    @classmethod
    def read(cls, arguments: dict[str, Any]) -> NMSCandidates:
        """Read the arguments of ``multiclass_nms``, whose last column is the background."""
        return cls._read(arguments, arguments["score_thr"], arguments["multi_scores"].shape[1] - 1)

    @classmethod
    def read_yolact(cls, arguments: dict[str, Any]) -> NMSCandidates:
        """Read the arguments of ``YOLACTHead._bbox_post_process``."""
        # With softmax the scores have a column for the background, with sigmoid they have none.
        return cls._read(arguments, arguments["cfg"].score_thr, arguments["self"].num_classes)

    @classmethod
    def _read(cls, arguments: dict[str, Any], score_thr: float, num_classes: int) -> NMSCandidates:
        row, label = (arguments["multi_scores"][:, :num_classes] > score_thr).nonzero(as_tuple=True)
        used, position = row.unique(return_inverse=True)  # rows without a candidate have no effect
        names = ("multi_scores", "multi_bboxes", "multi_coeffs")
        rows = {name: arguments[name][used] for name in names if name in arguments}
        boxes = rows["multi_bboxes"].unflatten(1, (-1, 4))
        boxes = boxes[position, label if boxes.shape[1] > 1 else 0]
        return cls(boxes, label, rows["multi_scores"][position, label], rows, position)

    def arguments_with(self, scores: Tensor) -> dict[str, Any]:
        """See `ReassignableCandidates`."""
        reassigned = self.rows["multi_scores"].index_put((self.position, self.labels), scores)
        boxes = self.rows["multi_bboxes"].clone()  # YOLACT may rescale in place
        return self.rows | {"multi_scores": reassigned, "multi_bboxes": boxes}


#: Reads the candidates from the arguments of ``_bbox_post_process``, by the class that defines it.
_CANDIDATES_OF = {
    BaseDenseHead: DenseCandidates.read,
    PAAHead: PAACandidates.read,
    YOLACTHead: NMSCandidates.read_yolact,
}


def _detections(result: InstanceData | tuple, scale: Sequence[float] | None) -> ScoredBoxes:
    """Copy the result of a post-processing function, with boxes in pixels of the original image."""
    if isinstance(result, InstanceData):
        boxes, scores, labels = get_box_tensor(result.bboxes), result.scores, result.labels
    else:
        detections, labels = result
        boxes, scores = detections[:, :4], detections[:, 4]
    # Copied: mmdet may rescale the returned boxes in place later.
    copies = (part.detach().cpu().clone() for part in (_unscaled(boxes, scale), labels, scores))
    return ScoredBoxes(*copies)


def _unscaled(boxes: Tensor, scale: Sequence[float] | None) -> Tensor:
    return boxes if scale is None else boxes / boxes.new_tensor(scale).repeat(2)
