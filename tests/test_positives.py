import pytest
import torch

from corrloss import CorrelationLoss
from corrloss.positives import BOX_FORMATS, aligned_iou, matched_scores, to_xyxy

ops = pytest.importorskip("torchvision.ops")


def boxes(n, seed, dtype=torch.float64):
    corner, size = torch.rand(2, n, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.cat((corner, corner + size), dim=1).to(dtype)


@pytest.mark.parametrize("box_format", BOX_FORMATS)
def test_aligned_iou_is_the_diagonal_of_torchvisions(box_format):
    first, second = boxes(50, 0), boxes(50, 1)
    expected = ops.box_iou(first, second).diagonal()
    first, second = (ops.box_convert(each, "xyxy", box_format) for each in (first, second))
    torch.testing.assert_close(aligned_iou(first, second, box_format), expected)
    torch.testing.assert_close(to_xyxy(first, box_format), ops.box_convert(first, box_format, "xyxy"))


def test_the_gradient_of_the_iou():
    first, second = boxes(5, 0).requires_grad_(), boxes(5, 1).requires_grad_()
    assert torch.autograd.gradcheck(aligned_iou, (first, second))


def test_empty_and_inverted_boxes_have_an_iou_of_zero():
    point, inverted = torch.tensor([[1.0, 1, 1, 1]]).requires_grad_(), torch.tensor([[3.0, 3, 1, 1]])
    for first, second in ((point, point), (point, inverted), (inverted, boxes(1, 0).float())):
        assert aligned_iou(first, second) == 0
    (grad,) = torch.autograd.grad(aligned_iou(point, point).sum(), point)
    assert not grad.any()
    assert aligned_iou(torch.full((1, 4), torch.nan), inverted).isnan()
    assert aligned_iou(torch.rand(0, 4), torch.rand(0, 4)).shape == (0,)


@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_matched_scores_are_those_of_each_row(activation, dtype):
    logits = torch.randn(20, 7, generator=torch.Generator().manual_seed(0)).to(dtype).requires_grad_()
    labels = torch.arange(20) % 7
    wide = logits.float() if dtype == torch.float16 else logits
    each = wide.sigmoid() if activation == "sigmoid" else wide.softmax(1)
    got = matched_scores(logits, labels, activation)
    torch.testing.assert_close(got, torch.stack([each[i, label] for i, label in enumerate(labels)]))
    CorrelationLoss()(got, torch.rand(20)).backward()
    assert logits.grad.dtype == dtype and logits.grad.any()


def test_no_positive_gives_a_connected_zero():
    logits = torch.randn(0, 7, requires_grad=True)
    scores = matched_scores(logits, torch.zeros(0, dtype=torch.long), "softmax")
    loss = CorrelationLoss()(scores, aligned_iou(torch.rand(0, 4), torch.rand(0, 4)))
    loss.backward()
    assert loss == 0 and logits.grad.shape == (0, 7)


@pytest.mark.parametrize(
    "call, error, message",
    [
        (
            lambda: aligned_iou([1], torch.rand(1, 4)),
            TypeError,
            "boxes must be a floating point tensor, got list",
        ),
        (lambda: aligned_iou(torch.rand(2, 5), torch.rand(2, 5)), ValueError, "boxes must have shape"),
        (
            lambda: aligned_iou(torch.rand(2, 4), torch.rand(3, 4)),
            ValueError,
            "for each positive, got 2 and 3",
        ),
        (
            lambda: aligned_iou(torch.rand(2, 4), torch.rand(2, 4), "yxyx"),
            ValueError,
            "box_format must be one of",
        ),
        (
            lambda: matched_scores(torch.rand(2, 3), torch.rand(2), "sigmoid"),
            TypeError,
            "labels must be an int64",
        ),
        (
            lambda: matched_scores(torch.rand(2), torch.zeros(2).long(), "sigmoid"),
            ValueError,
            "logits must have",
        ),
        (
            lambda: matched_scores(torch.rand(2, 3), torch.zeros(2).long(), "none"),
            ValueError,
            "activation must be",
        ),
    ],
)
def test_a_wrong_argument_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
