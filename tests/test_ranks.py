from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from corrloss import ranks as module
from corrloss import soft_rank
from corrloss.ranks import average_ranks, soft_rank_rows

scipy_stats = pytest.importorskip("scipy.stats")


@pytest.fixture(params=["scipy", "halves"])
def blocks(request, monkeypatch):
    """Both ways to find the blocks: SciPy's isotonic regression, and merging halves."""
    if request.param == "halves":
        monkeypatch.setattr(module, "isotonic_regression", None)


def oracle(values, strength):
    """The soft rank in rational numbers, by pooling adjacent violators one by one."""
    order = sorted(range(len(values)), key=values.__getitem__)
    blocks = []
    for place, index in enumerate(order):
        total, size = Fraction(values[index]) - Fraction(strength) * place, 1
        while blocks and blocks[-1][0] * size >= total * blocks[-1][1]:
            more, also = blocks.pop()
            total, size = total + more, size + also
        blocks.append((total, size))
    ranks, begin = np.empty(len(values)), 0
    for _, size in blocks:
        members = order[begin : begin + size]
        mean = sum(Fraction(values[index]) for index in members) / size
        for index in members:
            deviation = (Fraction(values[index]) - mean) / Fraction(strength)
            ranks[index] = Fraction(2 * begin + size + 1, 2) + deviation
        begin += size
    return torch.from_numpy(ranks)


def samples(n):
    generator = torch.Generator().manual_seed(n)
    uniform = torch.rand(n, generator=generator, dtype=torch.double)
    return {
        "uniform": uniform,
        "tied": (uniform * n / 3).floor() / n,
        "from half": uniform.half().double(),
        "one value": torch.full((n,), 0.1, dtype=torch.double),
        "normal": torch.randn(n, generator=generator, dtype=torch.double),
        "wide": 1e4 * torch.randn(n, generator=generator, dtype=torch.double),
        "near one": 1 - 1e-6 * uniform,
        "saturated": torch.where(uniform > 0.5, 1.0, uniform**2),
        "geometric": torch.logspace(-30, 0, n, dtype=torch.double),
    }


@pytest.mark.parametrize("n", [1, 2, 3, 17, 200])
@pytest.mark.parametrize("kind", samples(1))
def test_equals_the_oracle(n, kind, blocks):
    x = samples(n)[kind]
    for strength in (1e4, 1.0, 0.1, 1 / n, 0.3 / n, 1e-4, 1e-8):
        expected = oracle(x.tolist(), strength)
        torch.testing.assert_close(soft_rank(x, strength), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("strength", [1e-4, 3e-5])
def test_equals_the_oracle_on_10000_values(strength, blocks):
    x = torch.rand(10_000, generator=torch.Generator().manual_seed(0))
    expected = oracle(x.tolist(), strength)
    torch.testing.assert_close(soft_rank(x.double(), strength), expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(soft_rank(x, strength), expected.float())


def test_negative_float32_values_are_sorted_too(blocks):
    x = torch.randn(2, 3000, generator=torch.Generator().manual_seed(0))
    expected = torch.stack([oracle(row.tolist(), 1e-3) for row in x])
    torch.testing.assert_close(soft_rank(x, 1e-3), expected.float())


def test_batches_and_dimensions(blocks):
    x = torch.rand(2, 3, 40, dtype=torch.double, generator=torch.Generator().manual_seed(0))
    expected = torch.stack([oracle(row.tolist(), 0.02) for row in x.view(6, 40)]).view(x.shape)
    torch.testing.assert_close(soft_rank(x, 0.02), expected)
    torch.testing.assert_close(soft_rank(x.movedim(-1, 0), 0.02, dim=0), expected.movedim(-1, 0))
    torch.testing.assert_close(soft_rank(x.movedim(-1, 1), 0.02, dim=-2), expected.movedim(-1, 1))


def test_groups_are_ranked_apart(blocks):
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(2, 60, dtype=torch.double, generator=generator)
    group = torch.randint(0, 4, (60,), generator=generator)
    for strength in (0.1, 0.02, 1e-4):
        ranks = soft_rank_rows(x, strength, group)
        for i in range(4):
            for row in range(2):
                expected = oracle(x[row, group == i].tolist(), strength)
                torch.testing.assert_close(ranks[row, group == i], expected)


def test_range_below_the_strength_shifts_the_input(blocks):
    x = torch.rand(3, 50, dtype=torch.double)
    for strength in (1.0, 30.0):
        ranks = soft_rank(x, strength)
        torch.testing.assert_close(ranks - x / strength, (ranks - x / strength)[:, :1].expand(3, 50))
        torch.testing.assert_close(ranks.sum(1), torch.full((3,), 50 * 51 / 2, dtype=torch.double))


@pytest.mark.parametrize("strength", [10.0, 0.2, 0.08, 1e-6])
def test_gradients(strength, blocks):
    x = torch.rand(2, 8, dtype=torch.double, generator=torch.Generator().manual_seed(0)).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: soft_rank(x, strength), x, eps=1e-9, atol=1e-4)
    assert torch.autograd.gradgradcheck(lambda x: soft_rank(x, strength).square(), x, eps=1e-9, atol=1e-4)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_what_is_not_finite_makes_its_row_nan_and_no_other(bad, blocks):
    x = torch.rand(3, 20, dtype=torch.double)
    x[1, 7] = bad
    ranks = soft_rank(x, 0.05)
    assert ranks[1].isnan().all()
    torch.testing.assert_close(ranks[::2], soft_rank(x[::2], 0.05))


@pytest.mark.parametrize("shape, dim", [((0,), 0), ((3, 0), 1), ((0, 3), 1), ((3, 0), 0)])
def test_nothing_to_rank(shape, dim):
    assert soft_rank(torch.rand(shape), 0.1, dim).shape == shape


@pytest.mark.parametrize(
    "given, result",
    [
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_dtypes(given, result, blocks):
    x = torch.rand(50).to(given).requires_grad_()
    ranks = soft_rank(x, 0.1)
    ranks.square().sum().backward()
    assert ranks.dtype == result and x.grad.dtype == given
    torch.testing.assert_close(ranks.double(), oracle(x.tolist(), 0.1), rtol=1e-6, atol=0)


@pytest.mark.parametrize("strength", [0, -1.0, float("nan"), float("inf"), "1", None, True, [1.0]])
def test_strength_must_be_positive(strength):
    with pytest.raises(ValueError, match="strength must be a positive"):
        soft_rank(torch.rand(3), strength)


def test_wrong_tensors_are_named():
    with pytest.raises(TypeError, match="x must be a floating point tensor, got torch"):
        soft_rank(torch.arange(3))
    with pytest.raises(ValueError, match="x must have at least one dimension"):
        soft_rank(torch.tensor(0.3))


def test_reads_no_value_on_the_host():
    """A tensor on the meta device has none to read: to try is an error."""
    x = torch.rand(4, 100, device="meta", requires_grad=True)
    soft_rank(x, 0.01).sum().backward()
    assert x.grad.shape == x.shape


def test_average_ranks_are_scipys(blocks):
    x = torch.randint(0, 30, (4, 100), generator=torch.Generator().manual_seed(0)).double()
    expected = torch.from_numpy(scipy_stats.rankdata(x, axis=1))
    torch.testing.assert_close(average_ranks(x), expected)
    torch.testing.assert_close(soft_rank(x, 1e-9), expected)


@pytest.mark.parametrize("strength", [1.0, 0.1, 0.01, 1e-3, 1e-4])
@pytest.mark.parametrize("n", [10, 100, 1000])
def test_equals_torchsort(strength, n):
    torchsort = pytest.importorskip(
        "torchsort", reason="torchsort is not built here: docs/soft_rank.md says how to, for this comparison"
    )
    x = torch.rand(2, n, dtype=torch.double, requires_grad=True)
    weight = torch.randn(2, n, dtype=torch.double)
    ours = soft_rank(x, strength)
    theirs = torchsort.soft_rank(x, regularization_strength=strength)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-8)
    gradients = [torch.autograd.grad((ranks * weight).sum(), x)[0] for ranks in (ours, theirs)]
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-8 / strength)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    arrays(np.float64, st.integers(1, 30), elements=st.floats(-1e3, 1e3, width=32)),
    st.sampled_from([1e-6, 1e-3, 0.1, 1.0, 100.0]),
)
def test_any_values_have_ranks_in_their_order_that_sum_up(values, strength):
    x = torch.from_numpy(values)
    n, ranks = len(x), soft_rank(x, strength)
    torch.testing.assert_close(ranks, oracle(values.tolist(), strength), rtol=0, atol=1e-6)
    assert ranks.sum().item() == pytest.approx(n * (n + 1) / 2)
    assert ranks.min() >= 1 - 1e-9 and ranks.max() <= n + 1e-9
    order = x.argsort()
    climbs, gaps = ranks[order].diff(), x[order].diff()
    assert (climbs >= -1e-9).all() and (climbs * strength <= gaps * n + 1e-6).all()
