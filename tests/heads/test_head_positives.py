import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.structures.bbox import bbox_overlaps
from slow_positives import iou, probability

from corrloss.heads.head_positives import MIN_IOU, aligned_ious, locate, matched_scores, positive_index


def boxes(seed, count=40):
    corners = torch.rand(count, 2, 2, generator=torch.Generator().manual_seed(seed)) * 50
    return torch.cat((corners.amin(1), corners.amax(1) + 0.5), dim=1)


def test_ious_equal_plain_python():
    some, others = boxes(0), boxes(1)
    expected = [iou(*pair) for pair in zip(some.tolist(), others.tolist(), strict=True)]
    torch.testing.assert_close(aligned_ious(some, others), torch.tensor(expected))


def test_ious_are_those_of_a_matrix_on_its_diagonal():
    some, others = boxes(2), boxes(3)
    matrix = bbox_overlaps(some, others).diagonal().clamp(min=MIN_IOU)
    torch.testing.assert_close(aligned_ious(some, others), matrix)


def test_boxes_apart_and_boxes_without_area_have_the_least_iou_and_finite_gradients():
    some = torch.tensor([[0.0, 0, 1, 1], [5, 5, 5, 5], [4, 4, 3, 3]], requires_grad=True)
    others = torch.tensor([[2.0, 2, 3, 3], [0, 0, 9, 9], [0, 0, 9, 9]])
    ious = aligned_ious(some, others)
    assert torch.equal(ious, torch.full((3,), MIN_IOU))
    ious.sum().backward()
    assert some.grad.isfinite().all()


def test_ious_of_half_precision_boxes_are_float32_and_not_rounded_to_halves():
    some, others = boxes(4).half(), boxes(5).half()
    ious = aligned_ious(some, others)
    assert ious.dtype == torch.float32
    assert torch.equal(ious, aligned_ious(some.float(), others.float()))


def test_foreground_labels_are_positives_background_and_ignored_are_not():
    labels = torch.tensor([4, 0, 3, -1, 5, 2, 4])
    assert positive_index(labels, num_classes=4).tolist() == [1, 2, 5]
    assert positive_index(labels[:1], num_classes=4).shape == (0,)


@pytest.mark.parametrize("use_sigmoid", [True, False])
def test_scores_equal_plain_python(use_sigmoid):
    logits = torch.randn(20, 5, generator=torch.Generator().manual_seed(6)) * 3
    labels = torch.arange(20) % 4
    expected = [
        probability(row, label, use_sigmoid)
        for row, label in zip(logits.tolist(), labels.tolist(), strict=True)
    ]
    torch.testing.assert_close(
        matched_scores(logits, torch.arange(20), labels, use_sigmoid), torch.tensor(expected)
    )


@pytest.mark.parametrize("use_sigmoid", [True, False])
def test_scores_of_no_positives_stay_in_the_graph(use_sigmoid):
    logits = torch.zeros(0, 5, requires_grad=True)
    scores = matched_scores(logits, *[torch.zeros(0, dtype=torch.long)] * 2, use_sigmoid)
    assert scores.shape == (0,) and scores.requires_grad


@given(st.lists(st.integers(1, 5), min_size=1, max_size=4), st.integers(1, 3), st.booleans())
@settings(max_examples=60, deadline=None)
def test_every_prediction_is_located_as_by_loops(sizes, num_images, level_major):
    levels, images = range(len(sizes)), range(num_images)
    if level_major:
        expected = [(level, image) for level in levels for image in images for _ in range(sizes[level])]
    else:
        expected = [(level, image) for image in images for level in levels for _ in range(sizes[level])]
    level, image = locate(torch.arange(len(expected)), sizes, num_images, level_major)
    assert level.dtype == image.dtype == torch.int64
    assert list(zip(level.tolist(), image.tolist(), strict=True)) == expected


@pytest.mark.parametrize("level_major", [True, False])
def test_nothing_is_located_nowhere(level_major):
    level, image = locate(torch.zeros(0, dtype=torch.long), [3, 2], 2, level_major)
    assert level.shape == image.shape == (0,)
