"""Watching a detector post-process: what goes in, what comes out, and what would with other scores.

A detector hands its candidates, boxes with a class and a score, to a post-processing (NMS, score voting, the
best hundred). A context manager stands in front of that one function of mmdet while it predicts, reads the
arguments and leaves them as they are; no function body of mmdet is repeated. Candidates are what the detector
itself hands over: its own `nms_pre` best of each level, above its own `score_thr`.

**The score of a candidate is the one that NMS ranks by**: the class probability (RetinaNet, FoveaBox, YOLACT,
detectors in two stages, Sparse R-CNN, DETR and its relatives), times the auxiliary branch where a detector
has one (ATSS, FCOS: centerness), sqrt(p * IoU) for PAA.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from mmdet.models.dense_heads import DETRHead, PAAHead, YOLACTHead
from mmdet.models.dense_heads.base_dense_head import BaseDenseHead
from mmdet.models.roi_heads import SparseRoIHead
from mmdet.models.roi_heads.bbox_heads import BBoxHead, bbox_head
from mmdet.structures.bbox import get_box_tensor
from mmengine.structures import InstanceData
from torch import Tensor, nn


@dataclass(frozen=True)
class Candidates:
    """What the detector holds of one image before its post-processing; n candidates.

    Attributes:
        boxes: Float (n, 4), ``x1, y1, x2, y2``.
        labels: int64 (n,), positions in the data set's classes.
        scores: Float (n,), in [0, 1]: what NMS ranks by.
        dealt: Takes other scores for the candidates, (n,), and gives the arguments of the post-processing
            that makes NMS rank by these.
    """

    boxes: Tensor
    labels: Tensor
    scores: Tensor
    dealt: Callable[[Tensor], dict[str, Any]]


class Outcome(NamedTuple):
    """What post-processing leaves of one image, best first, on the CPU; n detections.

    Attributes:
        boxes: Float (n, 4), ``x1, y1, x2, y2`` in pixels of the original image.
        scores: Float (n,).
        labels: int64 (n,).
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor


Again = Callable[[Tensor], Outcome]
#: Called for each image with its meta data, the candidates (boxes in pixels of the original image), what was
#: made of them, and a function that runs the detector's own post-processing with other scores, (n,).
Visit = Callable[[dict, Candidates, Outcome, Again], None]


@contextmanager
def watched_post_processing(model: nn.Module, visit: Visit) -> Iterator[None]:
    """Call ``visit`` for each image that ``model`` post-processes while the block runs.

    The detections stay what they are without it, bit by bit. A detector without post-processing (Sparse
    R-CNN, DETR) has its final predictions as candidates. Of a detector of another kind nothing is seen.

    Args:
        model: An mmdet detector.
        visit: See `Visit`.
    """
    roi_head, head = getattr(model, "roi_head", None), getattr(model, "bbox_head", None)
    if isinstance(roi_head, SparseRoIHead) or isinstance(head, DETRHead):
        watch = _watched_predictions(model, visit)
    elif roi_head is not None:
        watch = _watched_roi_head(roi_head, visit)
    else:
        watch = _watched_dense_head(head, visit)
    with watch:
        yield


@contextmanager
def _watched_dense_head(head: nn.Module, visit: Visit) -> Iterator[None]:
    # The innermost method, mmdet's own: a subclass that prepares the scores (PAA without its IoU branch)
    # has done so by then. None is found for other kinds of heads.
    owner = next((kind for kind in type(head).__mro__ if kind in _DENSE), None)
    if owner is None:
        yield
        return
    original = owner._bbox_post_process
    signature = inspect.signature(original)

    @functools.wraps(original)
    def watched(*args, **kwargs):
        call = signature.bind(*args, **kwargs)
        call.apply_defaults()
        if call.arguments["self"] is not head:
            return original(*args, **kwargs)
        meta = call.arguments["img_meta"]
        candidates = _DENSE[owner](call.arguments)
        seen = _in_original_pixels(candidates, meta)
        left = None if call.arguments["rescale"] else meta  # YOLACT rescales boxes with their masks, later
        return _visited(original, call, seen, meta, left, visit)

    with replaced(owner, "_bbox_post_process", watched):
        yield


@contextmanager
def _watched_roi_head(roi_head: nn.Module, visit: Visit) -> Iterator[None]:
    last = roi_head.bbox_head[-1] if isinstance(roi_head.bbox_head, nn.ModuleList) else roi_head.bbox_head
    predict = BBoxHead._predict_by_feat_single
    of_predict, of_nms = inspect.signature(predict), inspect.signature(bbox_head.multiclass_nms)

    @functools.wraps(predict)
    def watched(*args, **kwargs):
        outer = of_predict.bind(*args, **kwargs)
        outer.apply_defaults()
        if outer.arguments["self"] is not last:
            return predict(*args, **kwargs)
        meta = outer.arguments["img_meta"]
        left = None if outer.arguments["rescale"] else meta
        nms = bbox_head.multiclass_nms

        def watched_nms(*args, **kwargs):
            call = of_nms.bind(*args, **kwargs)
            call.apply_defaults()
            candidates = _of_multiclass_nms(call.arguments)
            seen = candidates if left is None else _in_original_pixels(candidates, meta)
            return _visited(nms, call, seen, meta, left, visit)

        with replaced(bbox_head, "multiclass_nms", watched_nms):
            return predict(*args, **kwargs)

    with replaced(BBoxHead, "_predict_by_feat_single", watched):
        yield


@contextmanager
def _watched_predictions(model: nn.Module, visit: Visit) -> Iterator[None]:
    def see(_module: nn.Module, _args: tuple, samples: list) -> None:
        for sample in samples:
            outcome = _outcome(sample.pred_instances, None)
            candidates = Candidates(outcome.boxes, outcome.labels, outcome.scores, lambda scores: {})
            visit(sample.metainfo, candidates, outcome, lambda scores, of=outcome: of._replace(scores=scores))

    handle = model.register_forward_hook(see)
    try:
        yield
    finally:
        handle.remove()


def _visited(
    original: Callable,
    call: inspect.BoundArguments,
    candidates: Candidates,
    meta: dict,
    left: dict | None,
    visit: Visit,
) -> object:
    """Run the post-processing as called, show it to ``visit``, and return what it returned."""

    def again(scores: Tensor) -> Outcome:
        changed = inspect.BoundArguments(call.signature, call.arguments | candidates.dealt(scores))
        return _outcome(original(*changed.args, **changed.kwargs), left)

    result = original(*call.args, **call.kwargs)
    visit(meta, candidates, _outcome(result, left), again)
    return result


def _of_dense_head(call: dict[str, Any]) -> Candidates:
    """Read one class and score a candidate, and perhaps a factor, as most dense heads have it."""
    results = call["results"].clone()  # copies no tensor, but post-processing takes factors out of the other
    factors = results.pop("score_factors", None)
    boxes = results.bboxes.clone()  # boxes of mmdet's own type are rescaled in place

    def dealt(scores: Tensor) -> dict[str, Any]:
        again = results.clone()
        again.bboxes, again.scores = boxes.clone(), scores
        return {"results": again}

    scores = results.scores if factors is None else results.scores * factors
    return Candidates(get_box_tensor(boxes), results.labels, scores, dealt)


def _of_paa(call: dict[str, Any]) -> Candidates:
    """Read PAA's scores of all classes, which it ranks by sqrt(p * IoU), in NMS as in its score voting."""
    results = call["results"]
    ranked = (results.scores * results.score_factors[:, None]).sqrt()
    row, label = (ranked > call["cfg"].score_thr).nonzero(as_tuple=True)
    used, position = row.unique(return_inverse=True)  # no other box takes part in what follows
    results, ranked = results[used], ranked[used]

    def dealt(scores: Tensor) -> dict[str, Any]:
        again = results.clone()
        again.bboxes = results.bboxes.clone()  # PAA rescales in place
        again.scores = ranked.index_put((position, label), scores).square()  # the root of a square is exact
        again.score_factors = ranked.new_ones(len(used))
        return {"results": again}

    return Candidates(results.bboxes[position], label, ranked[position, label], dealt)


def _of_yolact(call: dict[str, Any]) -> Candidates:
    # With softmax the scores have a column for the background, with sigmoid they have none.
    return _of_scored_rows(call, call["cfg"].score_thr, call["self"].num_classes)


def _of_multiclass_nms(call: dict[str, Any]) -> Candidates:
    return _of_scored_rows(call, call["score_thr"], call["multi_scores"].shape[1] - 1)


def _of_scored_rows(call: dict[str, Any], score_thr: float, num_classes: int) -> Candidates:
    """Read ``multi_scores``, a row a proposal, and ``multi_bboxes``, its one box or one for each class."""
    row, label = (call["multi_scores"][:, :num_classes] > score_thr).nonzero(as_tuple=True)
    used, position = row.unique(return_inverse=True)  # no other row takes part in what follows
    names = ("multi_scores", "multi_bboxes", "multi_coeffs")
    rows = {name: call[name][used] for name in names if name in call}
    boxes = rows["multi_bboxes"].unflatten(1, (-1, 4))

    def dealt(scores: Tensor) -> dict[str, Any]:
        changed = {"multi_scores": rows["multi_scores"].index_put((position, label), scores)}
        return rows | changed | {"multi_bboxes": rows["multi_bboxes"].clone()}  # YOLACT may rescale in place

    return Candidates(
        boxes=boxes[position, label if boxes.shape[1] > 1 else 0],
        labels=label,
        scores=rows["multi_scores"][position, label],
        dealt=dealt,
    )


#: How to read the arguments of ``_bbox_post_process``, by the class that defines it.
_DENSE = {BaseDenseHead: _of_dense_head, PAAHead: _of_paa, YOLACTHead: _of_yolact}


def _in_original_pixels(candidates: Candidates, meta: dict) -> Candidates:
    return replace(candidates, boxes=_unscaled(candidates.boxes, meta))


def _outcome(result: InstanceData | tuple, left: dict | None) -> Outcome:
    """Copy what a post-processing returned; ``left`` is the image's meta data if boxes are not rescaled."""
    if isinstance(result, InstanceData):
        boxes, scores, labels = get_box_tensor(result.bboxes), result.scores, result.labels
    else:
        detections, labels = result
        boxes, scores = detections[:, :4], detections[:, 4]
    boxes = boxes if left is None else _unscaled(boxes, left)
    # mmdet may rescale the returned boxes in place later.
    return Outcome(*(part.detach().cpu().clone() for part in (boxes, scores, labels)))


def _unscaled(boxes: Tensor, meta: dict) -> Tensor:
    return boxes / boxes.new_tensor(meta["scale_factor"]).repeat(2)


@contextmanager
def replaced(owner: object, name: str, replacement: Callable) -> Iterator[None]:
    """Let ``replacement`` stand for an attribute of a class or module while the block runs."""
    original = getattr(owner, name)
    setattr(owner, name, replacement)
    try:
        yield
    finally:
        setattr(owner, name, original)
