import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from corrloss.ranking import RankSortLoss, flatten_targets, inputs
from corrloss.ranking.alrp_loss import alrp_loss
from corrloss.ranking.ap_loss import ap_loss
from corrloss.ranking.inputs import find_positives
from corrloss.ranking.rank_sort_loss import rank_sort_loss


def all_losses(logits, targets, errors):
    """Value and gradient of every loss."""
    total = ap_loss(logits, targets) + sum(alrp_loss(logits, targets, errors))
    total = total + sum(rank_sort_loss(logits, targets))
    total.backward()


def test_finds_positives_in_ascending_order():
    targets = torch.tensor([0.2, 0.0, -1.0, 1.0, 0.0, 0.9])
    assert find_positives("APLoss", torch.randn(6), targets).tolist() == [0, 3, 5]


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64, torch.float16])
def test_targets_of_any_real_dtype(dtype):
    assert find_positives("APLoss", torch.randn(3), torch.tensor([0, 1, 1]).to(dtype)).tolist() == [1, 2]


@pytest.mark.parametrize(
    ("logits", "targets", "error", "message"),
    [
        ([1, 2], [0, 1], TypeError, "APLoss: logits must be floating point, got torch.int64"),
        ([1.0, 2.0], [0, 1, 1], ValueError, r"vectors of one length, got \(2,\) and \(3,\)"),
        ([[1.0, 2.0]], [[0, 1]], ValueError, r"vectors of one length.*flatten_targets"),
        (
            [1.0, float("nan"), float("inf")],
            [0, 1, 0],
            ValueError,
            "2 of 3 .*not finite, the first at index 1",
        ),
        ([1.0, 2.0], [0.0, float("nan")], ValueError, "1 of 2 .*target that is NaN, the first at index 1"),
    ],
)
def test_bad_input_is_named(logits, targets, error, message):
    with pytest.raises(error, match=message):
        find_positives("APLoss", torch.tensor(logits), torch.tensor(targets))


def test_devices_must_agree():
    with pytest.raises(ValueError, match="logits are on cpu, targets on meta"):
        find_positives("APLoss", torch.zeros(2), torch.zeros(2, device="meta"))


def test_nothing_but_the_one_read_waits_for_the_device(monkeypatch):
    """Fake tensors have no values: whatever would have to look at one on the host raises."""
    reads = []

    def answer(masks):
        reads.append(len(masks))
        return [4] + [0] * (len(masks) - 1)

    monkeypatch.setattr(inputs, "read_counts", answer)
    with FakeTensorMode():
        logits = torch.empty(100, requires_grad=True)
        errors = torch.empty(4, requires_grad=True)
        all_losses(logits, torch.empty(100), errors)
        assert logits.grad.shape == (100,)
    assert len(reads) == 3  # one for each loss


class LargestTensor(TorchDispatchMode):
    """Remembers the largest tensor that any operation returned."""

    numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for value in result if isinstance(result, tuple | list) else [result]:
            if isinstance(value, torch.Tensor):
                self.numel = max(self.numel, value.numel())
        return result


def test_memory_grows_with_logits_not_with_pairs():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(50_000, generator=generator, requires_grad=True)
    targets = torch.zeros(50_000)
    targets[::250] = 0.5  # 200 positives: 10 million pairs with the negatives
    with LargestTensor() as largest:
        all_losses(logits, targets, torch.rand(200, generator=generator))
    assert largest.numel <= 50_000


# Targets from labels


def test_is_one_hot_without_the_background():
    labels = torch.tensor([2, 0, 3, 1])
    expected = torch.nn.functional.one_hot(labels, 4)[:, :3].float()
    assert torch.equal(flatten_targets(labels, 3), expected.reshape(-1))


def test_ignored_anchors_are_ignored_in_every_class():
    targets = flatten_targets(torch.tensor([0, 2, 1]), 2, weights=torch.tensor([0.0, 0.0, 1.0]))
    assert targets.reshape(3, 2).tolist() == [[-1, -1], [-1, -1], [0, 1]]


def test_quality_takes_the_place_of_one_and_stays_positive():
    quality = torch.tensor([0.8, 0.0, 0.9], requires_grad=True)
    targets = flatten_targets(torch.tensor([0, 1, 2]), 2, quality=quality)
    assert not targets.requires_grad
    assert targets.tolist()[:3] == pytest.approx([0.8, 0, 0])
    assert 0 < targets[3].item() < 1e-30
    assert targets[4:].tolist() == [0, 0]
    assert RankSortLoss()(torch.randn(6), targets).sorting.isfinite()


def test_lengths_must_agree():
    with pytest.raises(ValueError, match=r"weights must be \(2,\) as labels are, got \(3,\)"):
        flatten_targets(torch.tensor([0, 1]), 2, weights=torch.ones(3))
    with pytest.raises(ValueError, match=r"quality must be \(2,\)"):
        flatten_targets(torch.tensor([0, 1]), 2, quality=torch.ones(1))
