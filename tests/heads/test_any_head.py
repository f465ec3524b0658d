"""Heads of mmdet without an adapter: FCOS and TOOD, and what is said of those that do not fit."""

import copy
import pickle
import subprocess
import sys

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.hub import get_config
from mmengine.logging import MessageHub
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData
from slow_positives import (
    METAS,
    Maps,
    Positive,
    check,
    iou,
    losses_by_feat,
    part,
    places,
    probability,
    random_maps,
)
from tiny_detectors import (
    OBJECTS,
    build,
    correlation_losses,
    dense_head,
    ground_truth,
    heads_with_loss,
    losses_of,
    model_config,
)
from torch.utils._pytree import tree_leaves

import corrloss.heads
from corrloss.heads.head_positives import PositivesError
from corrloss.heads.retinanet import AnchorCorrelationMixin

LOSS = dict(type="CorrelationLoss", coefficient="pearson", weight=0.3)


def with_loss(head, loss_corr=LOSS, **settings):
    """A head with the loss, for features of 32 channels and strides of 8, 16, 32 where it takes such."""
    with DefaultScope.overwrite_default_scope("mmdet"):
        return MODELS.build(
            dict(type="WithCorrelationLoss", head=head, loss_corr=loss_corr, num_classes=4, **settings)
        )


# FCOS


def strides_of(head):
    return [stride for stride, _ in head.prior_generator.strides]


def fcos_maps(head):
    """Random logits, distances of a box's sides, and centerness."""
    maps = random_maps(head, third=1)
    reg = [
        (level.detach().exp() * 2 * stride).requires_grad_()
        for level, stride in zip(maps.reg, strides_of(head), strict=True)
    ]
    return Maps(maps.cls, reg, maps.third)


def fcos_positives(head, maps):
    for image, objects in enumerate(OBJECTS):
        for level, row, column, _ in places(maps):
            stride = strides_of(head)[level]
            x, y = (column + 0.5) * stride, (row + 0.5) * stride
            found = fcos_owner(objects, x, y, *head.regress_ranges[level])
            if found is not None:
                label, *target = found
                left, top, right, down = part(maps.reg[level], image, 0, 4, row, column)
                logits = part(maps.cls[level], image, 0, head.cls_out_channels, row, column)
                overlap = iou((x - left, y - top, x + right, y + down), target)
                yield Positive(level, image, probability(logits, label, True), overlap)


def fcos_owner(objects, x, y, low, high):
    """The smallest object that holds the point and whose farthest side is in the level's range."""
    holding = []
    for label, x1, y1, x2, y2 in objects:
        sides = (x - x1, y - y1, x2 - x, y2 - y)
        if min(sides) > 0 and low <= max(sides) <= high:
            holding.append(((x2 - x1) * (y2 - y1), (label, x1, y1, x2, y2)))
    return min(holding)[1] if holding else None


def test_positives_of_fcos_equal_a_slow_computation():
    head = dense_head("fcos")
    maps = fcos_maps(head)
    check(head, maps, OBJECTS, METAS, fcos_positives(head, maps))


# TOOD: first the positives of ATSS, then those of its own assigner, and another classification loss


@pytest.fixture(params=[0, 1])
def phase(request):
    hub = MessageHub.get_current_instance()
    hub.update_info("epoch", request.param)
    yield request.param
    hub.update_info("epoch", 0)


def tood_maps(head):
    """Random probabilities, and boxes in units of the stride: what TOOD's last layers give."""
    maps = random_maps(head)
    cls = [level.detach().sigmoid().requires_grad_() for level in maps.cls]
    reg = []
    for level in maps.reg:
        count, _, height, width = level.shape
        y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
        sides = level.detach().exp() * 1.5
        reg.append(torch.stack([x - sides[:, 0], y - sides[:, 1], x + sides[:, 2], y + sides[:, 3]], 1))
        assert reg[-1].shape == (count, 4, height, width)
    return Maps(cls, [level.requires_grad_() for level in reg], maps.third)


def tood_positives(head, maps, phase):
    priors = torch.cat(head.prior_generator.grid_priors(maps.sizes, device="cpu"))
    _, flags = head.get_anchors(maps.sizes, METAS, device="cpu")
    for image, objects in enumerate(OBJECTS):
        valid = torch.cat(flags[image]).bool()
        scores, boxes = [], []
        for level, row, column, _ in places(maps):
            scores.append(part(maps.cls[level], image, 0, 4, row, column))
            side = part(maps.reg[level], image, 0, 4, row, column)
            boxes.append([value * strides_of(head)[level] for value in side])
        predicted = InstanceData(
            priors=priors[valid], bboxes=torch.tensor(boxes)[valid], scores=torch.tensor(scores)[valid]
        )
        if phase == 0:
            counts = [int(level.sum()) for level in flags[image]]
            assigned = head.initial_assigner.assign(predicted, counts, ground_truth(objects), None)
        else:
            assigned = head.alignment_assigner.assign(
                predicted, ground_truth(objects), None, head.alpha, head.beta
            )
        owners = torch.zeros(len(priors), dtype=torch.long)
        owners[valid] = assigned.gt_inds
        for at, (level, _, _, _) in enumerate(places(maps)):
            if owners[at]:
                label, *target = objects[owners[at] - 1]
                yield Positive(level, image, scores[at][label], iou(boxes[at], target))


def test_positives_of_tood_equal_a_slow_computation(phase):
    head = dense_head("tood", dict(train_cfg=model_config("tood").train_cfg))
    head.initial_epoch = 1
    maps = tood_maps(head)
    check(head, maps, OBJECTS, METAS, tood_positives(head, maps, phase))


# An anchor head that learns decoded boxes


def test_a_head_whose_box_loss_sees_the_boxes_of_all_anchors_needs_no_adapter():
    """RetinaNet has an adapter; mmdet's class under another name has not, and must get the same loss."""

    class OtherRetinaHead(MODELS.get("RetinaHead")):
        pass

    MODELS.register_module(module=OtherRetinaHead, force=True)
    changes = dict(reg_decoded_bbox=True, loss_bbox=dict(type="GIoULoss"))
    known = dense_head("retinanet", changes, scope="batch")
    maps = random_maps(known)
    changes |= dict(type="WithCorrelationLoss", head="OtherRetinaHead")
    unknown = dense_head("retinanet", changes, scope="batch")
    losses = [losses_by_feat(head, maps, OBJECTS, METAS)["loss_corr"] for head in (known, unknown)]
    assert losses[0] > 0
    torch.testing.assert_close(*losses)


# What is built


def test_a_head_is_mmdets_class_with_the_loss_before_it():
    head = with_loss("FCOSHead", in_channels=32)
    assert type(head).__name__ == "CorrelationFCOSHead"
    assert isinstance(head, MODELS.get("FCOSHead"))
    assert type(with_loss("FCOSHead", in_channels=32)) is type(head)
    assert with_loss("FCOSHead", None, in_channels=32).__class__ is MODELS.get("FCOSHead")


def test_an_adapter_that_there_is_takes_the_place():
    assert type(with_loss("FoveaHead", in_channels=32)) is corrloss.heads.CorrelationFoveaHead


# What does not fit

SSD = dict(
    in_channels=(8, 8),
    anchor_generator=dict(
        type="SSDAnchorGenerator",
        input_size=128,
        basesize_ratio_range=(0.15, 0.9),
        strides=(16, 32),
        ratios=([2], [2]),
        min_sizes=(20, 40),
        max_sizes=(40, 80),
    ),
)


@pytest.mark.parametrize(
    ("head", "settings", "reason"),
    [
        ("SSDHead", SSD, "CorrelationSSDHead: has no loss module called 'loss_cls'"),
        (
            "FreeAnchorRetinaHead",
            dict(in_channels=32),
            "FreeAnchorRetinaHead: weights a bag of anchors",
        ),
        (
            "SOLOHead",
            dict(in_channels=32),
            "SOLOHead: is not a subclass of any of BBoxHead, DETRHead, BaseDenseHead",
        ),
    ],
)
def test_a_head_that_cannot_show_its_positives_is_refused_when_it_is_built(head, settings, reason):
    with pytest.raises(PositivesError, match=f"{reason}.*docs/any_detector.md"):
        with_loss(head, **settings)


@pytest.mark.parametrize("scope", ["level", "image"])
def test_pools_that_need_the_layout_of_the_predictions_are_refused(scope):
    with pytest.raises(PositivesError, match=f"CorrelationFCOSHead: scope '{scope}' needs the order"):
        with_loss("FCOSHead", LOSS | dict(scope=scope), in_channels=32)


def test_scores_of_an_unknown_kind_are_refused_at_the_first_step():
    """YOLOX: its classification loss sees positives alone, and soft targets."""
    head = with_loss(
        "YOLOXHead", in_channels=32, feat_channels=32, strides=(8, 16, 32), train_cfg=yolox_train()
    )
    features = [torch.randn(len(OBJECTS), 32, 128 // stride, 128 // stride) for stride in (8, 16, 32)]
    truths = [ground_truth(objects) for objects in OBJECTS]
    for truth in truths:
        del truth.masks
    with pytest.raises(
        PositivesError,
        match=r"CorrelationYOLOXHead: expected loss_cls to be called with .* got torch.float32",
    ):
        head.loss_by_feat(*head(features), truths, METAS)


def yolox_train():
    return dict(assigner=dict(type="SimOTAAssigner", center_radius=2.5))


def test_a_head_that_shows_boxes_before_scores_is_refused_at_the_first_step():
    """GFL's order of calls: without its adapter a score would be paired with the boxes of another level."""
    config = model_config("gfl", "pearson", 0.3, scope="batch")

    class OtherGFLHead(MODELS.get("GFLHead")):
        def loss_by_feat(self, *args, **kwargs):  # its own losses: GFL's adapter need not fit
            return super().loss_by_feat(*args, **kwargs)

    MODELS.register_module(module=OtherGFLHead, force=True)
    config.bbox_head.update(type="WithCorrelationLoss", head="OtherGFLHead")
    with pytest.raises(
        PositivesError, match=r"CorrelationOtherGFLHead: has \d+ positives, but its loss_bbox was called with"
    ):
        losses_of(build(config))


def test_heads_that_select_their_positives_later_are_refused_by_name():
    with pytest.raises(PositivesError, match="FSAFHead: selects among its positives"):
        with_loss("FSAFHead", in_channels=32)
    with pytest.raises(PositivesError, match="YOLOFHead: calls its box loss with other anchors"):
        with_loss("YOLOFHead", in_channels=32)


# Subclasses of heads with an adapter, copies, steps without the loss


def retina(name, **settings):
    return with_loss(
        name,
        in_channels=32,
        stacked_convs=1,
        feat_channels=32,
        anchor_generator=model_config("retinanet").bbox_head.anchor_generator,
        bbox_coder=dict(type="DeltaXYWHBBoxCoder"),
        train_cfg=model_config("retinanet").train_cfg,
        **settings,
    )


def test_a_subclass_with_the_same_losses_gets_the_adapter_of_its_base():
    head = retina("RetinaSepBNHead", num_ins=3)
    plain = retina("RetinaHead")
    assert isinstance(head, AnchorCorrelationMixin) and isinstance(head, MODELS.get("RetinaSepBNHead"))
    maps = random_maps(plain)
    ours, theirs = (losses_by_feat(each, maps, OBJECTS, METAS)["loss_corr"] for each in (head, plain))
    assert ours.item() == theirs.item() > 0


def test_a_subclass_with_losses_of_its_own_does_not_get_the_adapter():
    with pytest.raises(PositivesError, match="CorrelationPISARetinaHead: its loss_bbox is SmoothL1Loss"):
        retina("PISARetinaHead")


@pytest.fixture
def trusted_files(monkeypatch):
    """What torch.load may do in other programs: `corrloss.engine.weights` forbids it in ours."""
    monkeypatch.delenv("TORCH_FORCE_WEIGHTS_ONLY_LOAD", raising=False)


@pytest.mark.parametrize("name", ["FCOSHead", "RetinaSepBNHead"])
def test_a_head_made_at_run_time_is_copied_and_saved(name, tmp_path, trusted_files):
    settings = dict(num_ins=3) if name == "RetinaSepBNHead" else dict(strides=(8, 16, 32))
    head = retina(name, **settings) if "Retina" in name else with_loss(name, in_channels=32, **settings)
    torch.save(head, tmp_path / "head.pth")
    loaded = torch.load(tmp_path / "head.pth", weights_only=False)
    for other in (copy.deepcopy(head), pickle.loads(pickle.dumps(head)), loaded):
        assert type(other) is type(head) and other is not head
        assert other.loss_corr.coefficient == "pearson" and other.loss_corr is not head.loss_corr
        pairs = zip(head.state_dict().values(), other.state_dict().values(), strict=True)
        assert all(torch.equal(*pair) for pair in pairs)
        assert {hook.args[0] for hook in other.loss_corr._forward_hooks.values()} == {other}


def test_a_saved_head_loads_in_another_process(tmp_path, trusted_files):
    torch.save(with_loss("FCOSHead", in_channels=32, strides=(8, 16, 32)), tmp_path / "head.pth")
    code = "import sys, torch; print(type(torch.load(sys.argv[1], weights_only=False)).__name__)"
    command = [sys.executable, "-c", code, str(tmp_path / "head.pth")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "CorrelationFCOSHead\n"


PISA = "mmdet::pisa/faster-rcnn_r50_fpn_pisa_1x_coco.py"  # its RoI head computes the losses of the box head


def pisa_faster_rcnn(**loss):
    """PISA's losses in the tiny Faster R-CNN of the other tests."""
    config = model_config("faster_rcnn", "pearson", 0.3, **loss)
    released = get_config(PISA).model
    config.roi_head.type = released.roi_head.type
    config.train_cfg.rcnn |= {name: released.train_cfg.rcnn[name] for name in ("sampler", "isr", "carl")}
    config.roi_head.bbox_head.loss_bbox = released.roi_head.bbox_head.loss_bbox
    return config


def test_a_detector_that_bypasses_the_losses_of_its_head_is_stopped_in_that_step():
    model = build(pisa_faster_rcnn())
    losses = losses_of(model)
    assert not correlation_losses(losses)
    with pytest.raises(PositivesError, match="CorrelationShared2FCBBoxHead: its detector computed no loss"):
        model.parse_losses(losses)[0].backward()


def test_without_the_loss_such_a_detector_trains():
    config = pisa_faster_rcnn()
    config.roi_head.bbox_head.loss_corr = None
    model = build(config)
    model.parse_losses(losses_of(model))[0].backward()


@pytest.mark.parametrize("detector", ["retinanet", "sparse_rcnn"])
def test_a_step_that_leaves_the_loss_of_an_adapter_out_is_stopped(detector):
    model = build(model_config(detector, "pearson", 0.3))
    for _ in range(2):
        model.parse_losses(losses_of(model))[0].backward()
    for head in heads_with_loss(model):
        head.loss_corr = None
    with torch.no_grad():
        losses_of(model)
    with pytest.raises(PositivesError, match="computed no loss_corr in this training step"):
        model.parse_losses(losses_of(model))[0].backward()


def test_losses_of_two_forward_passes_make_one_step():
    """As in semi-supervised training: the loss of the labelled images is enough."""
    model = build(model_config("retinanet", "pearson", 0.3))
    first = model.parse_losses(losses_of(model))[0]
    features = model.extract_feat(torch.randn(1, 3, 128, 128))
    second = sum(output.sum() for output in tree_leaves(model.bbox_head(features)))
    (first + second).backward()
