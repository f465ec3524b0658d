from contextlib import ExitStack

import pytest
import torch
from slow_positives import Positive, assert_same_positives, decoded, iou, pearson_loss, probability
from tiny_detectors import OBJECTS, build, heads_with_loss, losses_of, model_config, watched

from corrloss.heads.head_positives import PositivesError
from corrloss.loss import SCOPES

IMAGES = (sum(OBJECTS, ()),) * 3  # many objects, each of which is a proposal too


@pytest.fixture(scope="module", params=["faster_rcnn", "cascade_rcnn"])
def model(request):
    model = build(model_config(request.param, "pearson", 0.3))
    for head in heads_with_loss(model):  # new weights hardly move a box and give all classes one score
        torch.nn.init.normal_(head.fc_reg.weight, std=0.05)
        torch.nn.init.normal_(head.fc_cls.weight, std=0.1)
    return model


def seen_by(model, monkeypatch):
    """Positives of each stage, from what its head's loss is called with."""
    calls = []
    for head in heads_with_loss(model):

        def loss_and_target(*, head=head, cls_score, bbox_pred, rois, sampling_results, **kwargs):
            calls.append(list(slow_positives(head, cls_score, bbox_pred, rois, sampling_results)))
            arguments = dict(cls_score=cls_score, bbox_pred=bbox_pred, rois=rois)
            return type(head).loss_and_target(head, **arguments, sampling_results=sampling_results, **kwargs)

        monkeypatch.setattr(head, "loss_and_target", loss_and_target)
    return calls


def slow_positives(head, cls_score, bbox_pred, rois, sampling_results):
    row = 0
    for image, sampled in enumerate(sampling_results):
        for label, target in zip(sampled.pos_gt_labels.tolist(), sampled.pos_gt_bboxes.tolist(), strict=True):
            assert rois[row, 0] == image
            start = 0 if head.reg_class_agnostic else 4 * label
            offsets = bbox_pred[row, start : start + 4].tolist()
            scaled = [offset * std for offset, std in zip(offsets, head.bbox_coder.stds, strict=True)]
            overlap = iou(decoded(rois[row, 1:].tolist(), scaled), target)
            yield Positive(0, image, probability(cls_score[row].tolist(), label, False), overlap)
            row += 1
        row += len(sampled.neg_priors)


@pytest.mark.parametrize("scope", SCOPES)
def test_positives_of_each_stage_equal_a_slow_computation(model, scope, monkeypatch):
    heads, expected = heads_with_loss(model), seen_by(model, monkeypatch)
    with ExitStack() as stack:
        calls = [stack.enter_context(watched(head.loss_corr)) for head in heads]
        for head in heads:
            monkeypatch.setattr(head.loss_corr, "scope", scope)
        losses = losses_of(model, IMAGES)
    names = ["loss_corr"] if len(heads) == 1 else [f"s{stage}.loss_corr" for stage in range(len(heads))]
    assert [name for name in losses if "loss_corr" in name] == names
    weights = getattr(model.roi_head, "stage_loss_weights", [1.0])
    for head, (call,), positives, name, weight in zip(heads, calls, expected, names, weights, strict=True):
        assert_same_positives(call, positives)
        expected_loss = weight * pearson_loss(positives, head.loss_corr)
        assert losses[name].item() == pytest.approx(expected_loss, rel=1e-4)


def test_a_head_whose_scores_are_of_another_kind_is_refused():
    config = model_config("faster_rcnn", "pearson", 0.3)
    config.roi_head.bbox_head.loss_cls = dict(type="SeesawLoss", num_classes=4)
    with pytest.raises(
        PositivesError, match=r"CorrelationShared2FCBBoxHead: .*SeesawLoss.*docs/any_detector.md"
    ):
        build(config)


def test_a_head_that_computes_its_losses_in_a_way_of_its_own_is_refused():
    config = model_config("faster_rcnn", "pearson", 0.3)
    config.roi_head.bbox_head.update(head="MultiInstanceBBoxHead", num_instance=2)
    with pytest.raises(PositivesError, match="CorrelationMultiInstanceBBoxHead: overrides the losses"):
        build(config)
