import pytest
import torch
from mmdet.models.losses import FocalLoss, GIoULoss
from torch import nn

from corrloss.heads.deferred import collect_predictions, deferred_losses
from corrloss.heads.head_positives import PositivesError
from corrloss.heads.observe import LossCall, observed_losses


class Head(nn.Module):
    def __init__(self):
        super().__init__()
        self.num_classes = 3
        self.loss_cls, self.loss_bbox = FocalLoss(), GIoULoss()


BOXES = torch.tensor([[0.0, 0, 2, 2], [1.0, 1, 3, 3]])
LABELS = torch.tensor([1, 3, 0])  # 3 is the background
LOGITS = torch.zeros(3, 3)
WEIGHTS = torch.tensor([1.0, 0.0, 1.0])


def test_calls_are_written_down_give_zero_and_are_still_observed():
    head = Head()
    own = head.loss_cls, head.loss_bbox
    logits = LOGITS.clone().requires_grad_()
    with (
        deferred_losses(head, ("loss_cls", "loss_bbox")) as calls,
        observed_losses(head, ("loss_cls",)) as seen,
    ):
        zero = head.loss_cls(logits, LABELS, WEIGHTS, avg_factor=2.0)
        head.loss_bbox(BOXES, BOXES, weight=WEIGHTS[:2], avg_factor=1.0)
    assert (head.loss_cls, head.loss_bbox) == own
    assert [call.name for call in calls] == ["loss_cls", "loss_bbox"]
    assert calls[0].pred is logits and calls[0].weight is WEIGHTS and calls[0].avg_factor == 2.0
    assert [call.name for call in seen] == ["loss_cls"] and seen[0].target is LABELS
    assert zero.item() == 0
    zero.backward()
    assert not logits.grad.any()


def test_a_question_about_candidates_is_answered_by_the_loss_itself():
    head = Head()
    expected = head.loss_bbox(BOXES, BOXES.flip(0), reduction_override="none")
    with deferred_losses(head, ("loss_bbox",)) as calls:
        answer = head.loss_bbox(BOXES, BOXES.flip(0), avg_factor=1.0, reduction_override="none")
    assert torch.equal(answer, expected) and answer.any() and calls == []


def test_the_head_gets_its_losses_back_after_an_error():
    head = Head()
    own = head.loss_cls
    with pytest.raises(ZeroDivisionError), deferred_losses(head, ("loss_cls",)):
        raise ZeroDivisionError
    assert head.loss_cls is own


@pytest.mark.parametrize("shown", [BOXES, torch.cat([BOXES[:1], torch.full((1, 4), 9.0), BOXES[1:]])])
def test_boxes_of_the_positives_whether_the_head_shows_them_or_all(shown):
    batch = collect_predictions(
        [LossCall("loss_cls", LOGITS, LABELS, WEIGHTS, 2.0), LossCall("loss_bbox", shown, shown + 1)],
        Head(),
    )
    assert batch.index.tolist() == [0, 2]
    assert torch.equal(batch.boxes, BOXES) and torch.equal(batch.targets, BOXES + 1)
    assert batch.avg_factor == 2.0
    assert batch.flat_targets().tolist() == [0, 1, 0, -1, -1, -1, 1, 0, 0]
    assert batch.quality().tolist() == pytest.approx([1 / 7, 0, 1 / 7])


def test_parts_are_put_together_in_order_and_may_be_without_boxes():
    batch = collect_predictions(
        [
            LossCall("loss_cls", LOGITS[:2], torch.tensor([3, 3]), WEIGHTS[:2], 1.0),
            LossCall("loss_cls", LOGITS[2:] + 1, torch.tensor([3]), WEIGHTS[2:], 1.0),
        ],
        Head(),
    )
    assert batch.logits[:, 0].tolist() == [0, 0, 1]
    assert batch.weights.tolist() == [1, 0, 1]
    assert batch.index.tolist() == [] and batch.boxes.shape == batch.targets.shape == (0, 4)


def test_a_head_that_shows_other_boxes_is_refused():
    calls = [LossCall("loss_cls", LOGITS, LABELS, WEIGHTS), LossCall("loss_bbox", BOXES[:1], BOXES[:1])]
    with pytest.raises(
        PositivesError, match=r"Head: expected loss_bbox to be called with 2 boxes .*all 3 .*, got 1"
    ):
        collect_predictions(calls, Head())
