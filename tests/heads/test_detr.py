import pytest
import torch
from mmengine.structures import InstanceData
from slow_positives import Positive, assert_same_positives, iou, pearson_loss, probability
from tiny_detectors import OBJECTS, SIZE, build, ground_truth, hooks, losses_of, model_config, watched

from corrloss.heads.head_positives import PositivesError
from corrloss.loss import SCOPES

IMAGES = (sum(OBJECTS, ()),) * 3  # many objects: Hungarian matching gives each of them one query


@pytest.fixture(scope="module", params=["detr", "deformable_detr"])
def model(request):
    model = build(model_config(request.param, "pearson", 0.3))
    for (
        name,
        parameter,
    ) in model.bbox_head.named_parameters():  # new weights give all queries one box and score
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.3 if "cls" in name else 0.1)
    return model


def slow_positives(head, layer_logits, layer_boxes):
    """The positives of one layer by mmdet's own assigner, image by image."""
    for image, objects in enumerate(IMAGES):
        logits, boxes = layer_logits[image], [corners(box) for box in layer_boxes[image].tolist()]
        matches = head.assigner.assign(
            InstanceData(scores=logits, bboxes=torch.tensor(boxes)),
            ground_truth(objects),
            img_meta=dict(img_shape=(SIZE, SIZE)),
        ).gt_inds
        for query, match in enumerate(matches.tolist()):
            if match > 0:
                label, *target = objects[match - 1]
                score = probability(logits[query].tolist(), label, head.loss_cls.use_sigmoid)
                yield Positive(0, image, score, iou(boxes[query], target))


def corners(box):
    x, y, width, height = (side * SIZE for side in box)
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2


@pytest.mark.parametrize("scope", SCOPES)
def test_positives_of_each_layer_equal_a_slow_computation(model, scope, monkeypatch):
    head, outputs = model.bbox_head, []
    monkeypatch.setattr(head.loss_corr, "scope", scope)
    handle = head.register_forward_hook(lambda _head, _arguments, output: outputs.append(output))
    with watched(head.loss_corr) as calls:
        losses = losses_of(model, IMAGES)
    handle.remove()
    ((logits, boxes),) = outputs
    names = ["d0.loss_corr", "d1.loss_corr", "loss_corr"]
    assert {name for name in losses if "loss_corr" in name} == set(names)
    for name, call, *layer in zip(names, calls, logits.detach(), boxes.detach(), strict=True):
        expected = list(slow_positives(head, *layer))
        assert_same_positives(call, expected)
        assert losses[name].item() == pytest.approx(pearson_loss(expected, head.loss_corr), rel=1e-4)


def test_softmax_and_sigmoid_are_told_apart(model):
    assert model.bbox_head.loss_cls.use_sigmoid == (type(model).__name__ == "DeformableDETR")


def test_a_step_keeps_no_matches(model):
    before = hooks(model.bbox_head)
    losses_of(model)
    assert model.bbox_head._matched is None
    assert hooks(model.bbox_head) == before


def test_a_head_that_computes_its_losses_in_a_way_of_its_own_is_refused(model, monkeypatch):
    monkeypatch.setattr(type(model.bbox_head), "get_targets", lambda *_: None, raising=False)
    with pytest.raises(
        PositivesError, match=r"overrides `get_targets` of mmdet's DETRHead; docs/any_detector\.md"
    ):
        model.bbox_head.check_fit()
