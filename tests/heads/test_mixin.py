import pytest
import torch
from slow_positives import FULL_METAS, METAS, losses_by_feat, random_maps
from tiny_detectors import OBJECTS, dense_head, hooks, watched

from corrloss.heads.head_positives import PositivesError
from corrloss.heads.mixin import PositivesCollector
from corrloss.heads.observe import LossCall

ONE_STAGE = ["retinanet", "foveabox", "atss", "paa", "yolact"]


def random_losses(detector, head):
    third = {"retinanet": 0, "foveabox": 0, "atss": 1, "paa": 1, "yolact": getattr(head, "num_protos", 0)}
    return losses_by_feat(head, random_maps(head, third[detector]), OBJECTS, FULL_METAS)


def collector_of(sizes, num_images=2):
    return PositivesCollector(True, sizes, num_images, level_major=True)


def test_collector_puts_parts_together_in_order():
    collector = collector_of([2, 1])
    logits = torch.randn(6, 3)
    labels = torch.tensor([3, 1, 0, 3, 3, 2])  # level 0 of both images, then level 1
    for part, index in ((slice(0, 4), torch.tensor([1, 2])), (slice(4, 6), torch.tensor([1]))):
        collector.add(logits[part], labels[part], index, index.float())
    scores, (rows,), groups = collector.positives("batch")
    assert torch.equal(scores, logits[[1, 2, 5], [1, 0, 2]].sigmoid())
    assert rows.tolist() == [1, 2, 1]  # positions within their part
    assert groups == {}
    assert collector.positives("level")[2]["level"].tolist() == [0, 0, 1]
    assert collector.positives("image")[2]["image"].tolist() == [0, 1, 1]


@pytest.mark.parametrize("shown", [0, 5, 7])
def test_collector_refuses_predictions_that_it_cannot_place(shown):
    collector = collector_of([2, 1])
    labels = torch.zeros(shown, dtype=torch.long)
    collector.add(torch.zeros(shown, 3), labels, torch.arange(shown), torch.zeros(shown, 4))
    with pytest.raises(
        PositivesError, match=f"the head: expected .* all 6 predictions, but they were called with {shown}"
    ):
        collector.positives("batch")


@pytest.mark.parametrize("detector", ONE_STAGE)
def test_a_step_leaves_no_hook_and_holds_no_positives(detector):
    head = dense_head(detector)
    before = hooks(head)
    assert random_losses(detector, head)["loss_corr"] > 0
    assert hooks(head) == before
    assert getattr(head, "_open_collector", None) is None


@pytest.mark.parametrize("detector", ONE_STAGE)
def test_a_step_that_fails_leaves_no_hook_and_holds_no_positives(detector, monkeypatch):
    head = dense_head(detector)
    before = hooks(head)

    def fail(*_args, **_kwargs):
        raise FloatingPointError("stop")

    monkeypatch.setattr(head.loss_bbox, "forward", fail)
    with pytest.raises(FloatingPointError, match="stop"):
        random_losses(detector, head)
    assert hooks(head) == before
    assert getattr(head, "_open_collector", None) is None


@pytest.mark.parametrize("detector", ONE_STAGE)
def test_without_the_loss_nothing_is_watched(detector, monkeypatch):
    def fail(*_args, **_kwargs):
        pytest.fail("a plain detector looks for positives")

    head = dense_head(detector, dict(loss_corr=None))
    monkeypatch.setattr(PositivesCollector, "__init__", fail)
    monkeypatch.setattr("corrloss.heads.mixin.observed_losses", fail)
    assert "loss_corr" not in random_losses(detector, head)


@pytest.mark.parametrize("detector", ONE_STAGE)
def test_the_loss_sees_the_same_positives_at_each_step(detector):
    head = dense_head(detector)
    with watched(head.loss_corr) as calls:
        first, second = (random_losses(detector, head)["loss_corr"] for _ in range(2))
    assert torch.equal(first, second)
    assert all(torch.equal(calls[0][name], calls[1][name]) for name in calls[0])


@pytest.mark.parametrize("boxes", [0, 3])  # none: its box loss is not called
def test_a_head_whose_box_loss_sees_other_boxes_than_its_positives_is_refused(boxes):
    head = dense_head("foveabox")
    sizes = [torch.zeros(1, head.cls_out_channels, 1, 5)]
    labels = torch.tensor([0, 1, *[head.num_classes] * 3])
    calls = [LossCall("loss_cls", torch.zeros(5, head.cls_out_channels), labels)]
    calls += [LossCall("loss_bbox", *[torch.zeros(boxes, 4)] * 2)] * (boxes > 0)
    with pytest.raises(
        PositivesError,
        match=f"CorrelationFoveaHead: has 2 positives, but its loss_bbox was called with {boxes}",
    ):
        head._add_positives(calls, head._collector(sizes))


def test_boxes_of_all_predictions_do_as_well_as_those_of_the_positives():
    head = dense_head("atss")
    sizes = [torch.zeros(1, head.cls_out_channels, 1, 3)]
    logits, labels = torch.randn(3, head.cls_out_channels), torch.tensor([1, head.num_classes, 0])
    boxes = torch.tensor([[0.0, 0, 2, 2], [0, 0, 9, 9], [0, 0, 1, 2]])
    targets = torch.tensor([[0.0, 0, 2, 4], [0, 0, 9, 9], [0, 0, 1, 2]])
    found = []
    for rows in (slice(None), [0, 2]):
        collector = head._collector(sizes)
        calls = [LossCall("loss_cls", logits, labels), LossCall("loss_bbox", boxes[rows], targets[rows])]
        head._add_positives(calls, collector)
        found.append(collector.positives("batch"))
    assert head.ious_of(*found[0][1]).tolist() == head.ious_of(*found[1][1]).tolist() == [0.5, 1.0]
    assert torch.equal(found[0][0], found[1][0])


def test_yolact_without_hard_example_mining_is_refused():
    head = dense_head("yolact", dict(use_ohem=False, loss_cls=dict(type="CrossEntropyLoss")))
    with pytest.raises(
        PositivesError, match=r"CorrelationYOLACTHead: expected .* but they were called with 0"
    ):
        losses_by_feat(head, random_maps(head, head.num_protos), OBJECTS, METAS)
