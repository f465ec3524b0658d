"""torchvision's detectors with random weights and a backbone of one level."""

import copy
import math
import pickle

import pytest
import torch
from torch import nn

pytest.importorskip("torchvision")
from checks import (
    Recorder,
    assert_ddp_averages,
    assert_same_positives,
    assert_same_weights,
    trained,
    with_gradient,
)
from torchvision.models.detection import FCOS, FasterRCNN, RetinaNet, roi_heads
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.ops import MultiScaleRoIAlign, box_iou

from corrloss.integrations.host import IntegrationError
from corrloss.integrations.torchvision import with_correlation_loss

CLASSES = 5
SIZES = dict(min_size=64, max_size=64)


def backbone():
    layers = nn.Sequential(
        nn.Conv2d(3, 32, 9, stride=8, padding=4), nn.ReLU(), nn.Conv2d(32, 32, 3, padding=1)
    )
    layers.out_channels = 32
    return layers


def varied(model):
    """Scores and boxes that differ between positions; torchvision begins with nearly equal ones."""
    for name, module in model.head.named_modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, a=0 if "conv" in name else 20)
    return model


def retinanet():
    anchors = AnchorGenerator(((16, 32, 48),), ((1.0,),))
    model = RetinaNet(backbone(), CLASSES, anchor_generator=anchors, **SIZES)
    return varied(model)


def fcos():
    anchors = AnchorGenerator(((8,),), ((1.0,),))
    model = FCOS(backbone(), CLASSES, anchor_generator=anchors, **SIZES)
    nn.init.constant_(model.head.regression_head.bbox_reg.bias, 2.0)
    return varied(model)


def faster_rcnn():
    return FasterRCNN(
        backbone(), rpn_anchor_generator=AnchorGenerator(((16, 32, 48),), ((1.0,),)),
        box_roi_pool=MultiScaleRoIAlign(["0"], 7, 2), box_head=TwoMLPHead(32 * 49, 32),
        box_predictor=FastRCNNPredictor(32, CLASSES), **SIZES,
    )  # fmt: skip


MODELS = {"retinanet": retinanet, "fcos": fcos, "faster_rcnn": faster_rcnn}
CLASSIFIERS = {
    "retinanet": "head.classification_head", "fcos": "head.classification_head",
    "faster_rcnn": "roi_heads.box_predictor.cls_score",
}  # fmt: skip
REGRESSORS = {
    "retinanet": "head.regression_head", "fcos": "head.regression_head",
    "faster_rcnn": "roi_heads.box_predictor.bbox_pred",
}  # fmt: skip
every_model = pytest.mark.parametrize("name", MODELS)


def build(name, **settings):
    torch.manual_seed(0)
    model = MODELS[name]().train()
    return with_correlation_loss(model, **settings) if settings else model


def batch(rank=0):
    generator = torch.Generator().manual_seed(rank)
    images = [torch.rand(3, 64, 64, generator=generator) for _ in range(2)]
    boxes = torch.tensor([[[2.0, 3, 35, 36], [30, 28, 62, 60]], [[8, 8, 56, 58], [20, 2, 40, 22]]])
    targets = [{"boxes": value, "labels": torch.tensor([1 + rank, 3])} for value in boxes]
    return images, targets


def total(model, rank=0):
    return sum(model(*batch(rank)).values())


def loss_of(model):
    return (model.roi_heads if hasattr(model, "roi_heads") else model.head).loss_corr


def decoded(anchor, deltas, weights=(1, 1, 1, 1)):
    """A box of offsets, by the definition of Girshick et al. 2014."""
    width, height = anchor[2] - anchor[0], anchor[3] - anchor[1]
    x, y = (
        anchor[0] + width / 2 + deltas[0] / weights[0] * width,
        anchor[1] + height / 2 + deltas[1] / weights[1] * height,
    )
    width, height = width * math.exp(deltas[2] / weights[2]), height * math.exp(deltas[3] / weights[3])
    return [x - width / 2, y - height / 2, x + width / 2, y + height / 2]


def iou(box, other):
    return box_iou(torch.tensor([box]), torch.tensor([other])).item()


def positives_of_retinanet(model, outputs, anchors, targets):
    for image, (points, target) in enumerate(zip(anchors, targets, strict=True)):
        matched = model.proposal_matcher(box_iou(target["boxes"], points)).tolist()
        for row, match in enumerate(matched):
            if match >= 0:
                logit = outputs["cls_logits"][image, row, target["labels"][match]].item()
                box = decoded(points[row].tolist(), outputs["bbox_regression"][image, row].tolist())
                yield 1 / (1 + math.exp(-logit)), iou(box, target["boxes"][match].tolist())


def positives_of_fcos(model, outputs, anchors, targets):
    reach = model.center_sampling_radius
    for image, (points, target) in enumerate(zip(anchors, targets, strict=True)):
        pairs = list(zip(target["labels"].tolist(), target["boxes"].tolist(), strict=True))
        for row, (x0, y0, x1, y1) in enumerate(points.tolist()):
            x, y, size = (x0 + x1) / 2, (y0 + y1) / 2, x1 - x0
            inside = [
                ((right - left) * (low - top), label, (left, top, right, low))
                for label, (left, top, right, low) in pairs
                if left < x < right and top < y < low
                and max(abs(2 * x - left - right), abs(2 * y - top - low)) < 2 * reach * size
            ]  # fmt: skip
            if inside:
                _, label, true = min(inside)
                sides = [side * size for side in outputs["bbox_regression"][image, row].tolist()]
                box = [x - sides[0], y - sides[1], x + sides[2], y + sides[3]]
                yield 1 / (1 + math.exp(-outputs["cls_logits"][image, row, label].item())), iou(box, true)


@pytest.mark.parametrize(
    ("name", "oracle"), [("retinanet", positives_of_retinanet), ("fcos", positives_of_fcos)]
)
def test_positives_of_dense_heads_are_those_of_a_slow_computation(name, oracle):
    model = build(name, coefficient="pearson")
    seen = {}
    model.head.register_forward_hook(lambda _module, _args, out: seen.update(outputs=out))
    model.anchor_generator.register_forward_hook(lambda _module, _args, out: seen.update(anchors=out))
    found = Recorder(loss_of(model))
    images, targets = batch()
    model(images, targets)
    assert_same_positives(found.calls[0], list(oracle(model, seen["outputs"], seen["anchors"], targets)))


def test_positives_of_faster_rcnn_are_those_of_a_slow_computation(monkeypatch):
    model = build("faster_rcnn", coefficient="pearson")
    seen = {}
    monkeypatch.setattr(
        roi_heads,
        "fastrcnn_loss",
        lambda *args, host=roi_heads.fastrcnn_loss: seen.update(args=args) or host(*args),
    )
    select = type(model.roi_heads).select_training_samples
    monkeypatch.setattr(
        type(model.roi_heads), "select_training_samples",
        lambda *args: seen.update(samples=select(*args)) or seen["samples"],
    )  # fmt: skip
    found = Recorder(loss_of(model))
    model(*batch())
    logits, deltas, labels, targets = seen["args"]
    expected, weights = [], model.roi_heads.box_coder.weights
    rows = zip(
        logits, deltas, torch.cat(labels), torch.cat(targets), torch.cat(seen["samples"][0]), strict=True
    )
    for logit, delta, label, target, proposal in rows:
        if label > 0:
            box = decoded(proposal.tolist(), delta[4 * label : 4 * label + 4].tolist(), weights)
            score = math.exp(logit[label]) / sum(math.exp(value) for value in logit)
            expected.append((score, iou(box, decoded(proposal.tolist(), target.tolist(), weights))))
    assert_same_positives(found.calls[0], expected)


@every_model
def test_weight_zero_trains_bit_for_bit_as_without(name):
    assert_same_weights(trained(build(name), total), trained(build(name, weight=0), total))


@every_model
def test_the_gradient_reaches_the_classifier_alone(name):
    model = build(name, coefficient="pearson", weight=1.0)
    model(*batch())["loss_corr"].backward()
    reached = with_gradient(model)
    assert any(parameter.startswith(CLASSIFIERS[name]) for parameter in reached)
    assert not any(parameter.startswith((REGRESSORS[name], "rpn")) for parameter in reached)


@every_model
def test_training_under_bfloat16_autocast(name):
    model = build(name, weight=1.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = model(*batch())
    assert losses["loss_corr"].dtype == torch.float32 and 0 < losses["loss_corr"] < 2
    sum(losses.values()).backward()


@every_model
def test_scope_image(name):
    torch.manual_seed(1)
    both = build(name, coefficient="concordance", scope="image", weight=1.0)(*batch())["loss_corr"]
    assert 0 < both < 2
    with pytest.raises(IntegrationError, match="scope 'batch' or 'image', got 'level'"):
        build(name, scope="level")


@every_model
def test_images_without_boxes_give_a_zero_loss(name):
    images, _ = batch()
    empty = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    losses = build(name, weight=1.0)(images, [empty, empty])
    assert losses["loss_corr"] == 0
    sum(losses.values()).backward()


@every_model
def test_outputs_that_are_not_finite_are_an_error_that_says_what_to_do(name):
    model = build(name, weight=1.0)
    with torch.no_grad():
        dict(model.named_parameters())[
            next(key for key in model.state_dict() if CLASSIFIERS[name] in key)
        ].fill_(math.nan)
    with pytest.raises(
        IntegrationError, match=r"NaN or infinity in \d+ of \d+ positives.*lower the learning rate"
    ):
        model(*batch())


@every_model
def test_copies_and_pickles_keep_the_loss_and_weights_keep_their_names(name):
    model = build(name, weight=1.0)
    assert model.state_dict().keys() == build(name).state_dict().keys()
    results = []
    for each in (model, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        torch.manual_seed(0)
        results.append(each(*batch())["loss_corr"].item())
    assert results[0] == results[1] == results[2] > 0


@every_model
def test_predictions_are_those_without(name):
    images, _ = batch()
    with torch.no_grad():
        found, plain = build(name, weight=1.0).eval()(images), build(name).eval()(images)
    assert all(torch.equal(a[key], b[key]) for a, b in zip(found, plain, strict=True) for key in a)


@every_model
def test_torch_compile_gives_the_same_losses(name):
    model = build(name, weight=1.0)
    torch.manual_seed(0)
    expected = model(*batch())
    torch.manual_seed(0)
    found = torch.compile(model, backend="eager")(*batch())
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def ddp_model():
    return build("faster_rcnn", coefficient="concordance", weight=1.0)


@pytest.mark.slow
def test_ddp_of_two_processes(tmp_path):
    assert_ddp_averages(ddp_model, total, tmp_path)


def test_settings_can_be_replaced():
    model = with_correlation_loss(build("fcos", weight=1.0), weight=0.5)
    assert loss_of(model).weight == 0.5


def test_a_head_of_an_unknown_class_is_an_error():
    class OwnHead(RetinaNetHead):
        pass

    model = build("retinanet")
    model.head.__class__ = OwnHead
    with pytest.raises(
        IntegrationError, match="RetinaNetHead, FCOSHead, RoIHeads, found RetinaNet with OwnHead"
    ):
        with_correlation_loss(model)
