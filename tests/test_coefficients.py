import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from corrloss import (
    CorrelationLoss,
    coefficients,
    concordance,
    pearson,
    ranks,
    soft_rank,
    spearman,
    spearman_exact,
)
from corrloss.coefficients import correlate
from corrloss.ranks import number_groups

stats = pytest.importorskip("scipy.stats")

ALL = {
    "pearson": pearson,
    "concordance": concordance,
    "spearman": spearman,
    "spearman at 0.02": lambda s, u: spearman(s, u, strength=0.02),
    "spearman at 1e-6": lambda s, u: spearman(s, u, strength=1e-6),
    "spearman_exact": spearman_exact,
}


def draw(n, seed=0, dtype=torch.double):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.rand(n, dtype=torch.double, generator=generator)
    ious = 0.5 * scores + 0.5 * torch.rand(n, dtype=torch.double, generator=generator)
    return scores.to(dtype).requires_grad_(), ious.to(dtype).requires_grad_()


def lins(s, u):
    """Lin's coefficient with unbiased moments, as in the release."""
    covariance = torch.cov(torch.stack((s, u)))
    return 2 * covariance[0, 1] / (s.var() + u.var() + (s.mean() - u.mean()) ** 2)


@pytest.mark.parametrize("n", [3, 50, 2000])
def test_values_are_scipys(n):
    s, u = draw(n)
    args = s.detach().numpy(), u.detach().numpy()
    assert pearson(s, u).item() == pytest.approx(stats.pearsonr(*args)[0], abs=1e-12)
    assert spearman(s, u, 1e-9).item() == pytest.approx(stats.spearmanr(*args)[0], abs=1e-9)
    assert spearman_exact(s, u).item() == pytest.approx(stats.spearmanr(*args)[0], abs=1e-12)
    assert concordance(s, u).item() == pytest.approx(lins(s, u).item(), abs=1e-12)


def test_tied_ranks_are_scipys():
    s, u = (torch.randint(0, 9, (100,), generator=torch.Generator().manual_seed(i)).double() for i in (0, 1))
    expected = stats.spearmanr(s, u)[0]
    assert spearman_exact(s, u).item() == pytest.approx(expected, abs=1e-12)
    assert spearman(s, u, 1e-9).item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("name", [name for name in ALL if name != "spearman_exact"])
def test_first_and_second_derivatives(name):
    s, u = draw(12)
    assert torch.autograd.gradcheck(ALL[name], (s, u), eps=1e-8, atol=1e-4)
    assert torch.autograd.gradgradcheck(ALL[name], (s, u), eps=1e-8, atol=1e-4)


def test_one_tensor_as_both_arguments():
    s, _ = draw(12)
    assert torch.autograd.gradcheck(lambda s: concordance(s, s.square()), s)
    assert torch.autograd.gradgradcheck(lambda s: concordance(s, s) * 1.0, s, atol=1e-4)


def test_second_derivative_of_exact_ranks_is_refused():
    s, u = draw(12)
    (grad,) = torch.autograd.grad(spearman_exact(s, u), s, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


def test_blackbox_gradient_follows_its_formula():
    s, u = draw(80)
    (grad,) = torch.autograd.grad(spearman_exact(s, u), s)
    ranks = torch.from_numpy(stats.rankdata(s.detach())).requires_grad_()
    (g,) = torch.autograd.grad(pearson(ranks, torch.from_numpy(stats.rankdata(u.detach()))), ranks)
    step = s.std(correction=0) / (80**0.5 * g.square().mean().sqrt())
    moved = torch.from_numpy(stats.rankdata((s - step * g).detach()))
    torch.testing.assert_close(grad, (ranks - moved) / step)


@pytest.mark.parametrize("coefficient", ["pearson", "concordance", "spearman", "spearman_exact"])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_groups_are_the_coefficients_of_each(coefficient, reduction):
    s, u = draw(60)
    group = torch.randint(0, 4, (60,), generator=torch.Generator().manual_seed(0))
    numbers = number_groups(7 * group - 9)
    assert torch.equal(numbers, group)
    rho = getattr(correlate(coefficient, s, u, 0.02, numbers)[:4], reduction)()
    each = [correlate(coefficient, s[group == i], u[group == i], strength=0.02) for i in range(4)]
    expected = getattr(torch.stack(each), reduction)()
    torch.testing.assert_close(rho, expected)
    twice = coefficient != "spearman_exact"  # which refuses to be differentiated twice
    grads = [torch.autograd.grad(value, (s, u), create_graph=twice) for value in (rho, expected)]
    torch.testing.assert_close(*grads)
    if twice:
        seconds = [torch.autograd.grad(sum(g.square().sum() for g in grad), (s, u)) for grad in grads]
        torch.testing.assert_close(*seconds)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_undefined_is_zero_with_a_zero_gradient(name, dtype):
    varied = torch.tensor([0.1, 0.4, 0.2, 0.8], dtype=dtype)
    for s, u in [
        (torch.rand(0, dtype=dtype), torch.rand(0, dtype=dtype)),
        (torch.tensor([0.3], dtype=dtype), torch.tensor([0.8], dtype=dtype)),
        (torch.full((4,), 0.1, dtype=dtype), torch.full((4,), 0.1, dtype=dtype)),
        (torch.full((4,), 0.1, dtype=dtype), varied),
        (varied, torch.full((4,), 0.7, dtype=dtype)),
    ]:
        s, u = s.clone().requires_grad_(), u.clone().requires_grad_()
        rho = ALL[name](s, u)
        assert rho == 0 and rho.requires_grad
        grads = torch.autograd.grad(rho, (s, u))
        one_is_varied = len(s) > 1 and (s is not u) and (s.var() > 0 or u.var() > 0)
        if name == "concordance" and one_is_varied:
            assert any(grad.any() for grad in grads)  # defined: its denominator is not zero
        else:
            assert not any(grad.any() for grad in grads)


@pytest.mark.parametrize("value", [0.1, 0.3, 1 / 3, 0.7, 1 - 2**-24, 1e-30])
def test_equal_values_have_no_variance_at_any_size(value):
    for n in (2, 3, 7, 1000, 100_000):
        u = torch.linspace(0, 1, n)
        assert CorrelationLoss("pearson")(torch.full((n,), value), u) == 0


def test_tiny_variance_is_variance():
    """The squares of these differences are zero in float32."""
    s = torch.linspace(1e-26, 3e-26, 50).requires_grad_()
    rho = pearson(s, torch.linspace(0, 1, 50))
    torch.testing.assert_close(rho, torch.tensor(1.0))


SQUEEZES = {
    "as they are": lambda s: s,
    "near 0": lambda s: 1e-6 * s,
    "nearer 0": lambda s: 1e-20 * s,
    "near 1": lambda s: 1 - 1e-4 * s,
    "spread of 1e-3": lambda s: 0.5 + 1e-3 * s,
    "spread of 1e-6 at 1": lambda s: 1 - 1e-6 * s,
    "outlier first": lambda s: torch.cat((torch.zeros(1, dtype=s.dtype), 1 - 1e-3 * s[1:])),
}


@pytest.mark.parametrize("squeeze", SQUEEZES)
@pytest.mark.parametrize(
    "name, n",
    [(name, 100) for name in ALL if name != "spearman at 1e-6"]
    + [(name, 100_000) for name in ("pearson", "concordance", "spearman")],
)
def test_float32_keeps_four_digits(squeeze, name, n):
    s, u = draw(n)
    s = SQUEEZES[squeeze](s.detach()).float()
    u = SQUEEZES[squeeze](u.detach()).float()
    torch.testing.assert_close(
        ALL[name](s, u).double(), ALL[name](s.double(), u.double()), rtol=1e-4, atol=1e-9
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", ALL)
def test_half_precision_is_lifted_under_autocast_too(dtype, name):
    s, u = draw(300, dtype=dtype)
    expected = ALL[name](s.double(), u.double())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rho = ALL[name](s, u)
        mixed = ALL[name](s, u.float())
    assert rho.dtype == mixed.dtype == torch.float32
    torch.testing.assert_close(rho.double(), expected, rtol=1e-5, atol=0)
    torch.testing.assert_close(mixed, rho)
    rho.backward()
    assert s.grad.dtype == dtype


def test_spearman_as_released_is_pearson_in_value_and_gradient():
    s, u = draw(500)
    assert spearman(s, u) == pearson(s, u)
    for got, want in zip(
        torch.autograd.grad(spearman(s, u), (s, u)), torch.autograd.grad(pearson(s, u), (s, u)), strict=True
    ):
        assert torch.equal(got, want)
    with_ranks = pearson(
        ranks.soft_rank_rows(s[None], 1.0)[0], ranks.soft_rank_rows(u[None], 1.0)[0]
    )  # as released: by way of the soft ranks
    torch.testing.assert_close(with_ranks, pearson(s, u), rtol=0, atol=1e-13)


def test_spearman_as_released_sorts_nothing(monkeypatch):
    monkeypatch.setattr(ranks, "find_blocks", None)
    s, u = draw(50)
    spearman(s, u).backward()
    with pytest.raises(TypeError):  # the seam is what is called otherwise
        spearman(s, u, 0.01)


def test_values_wider_than_the_strength_are_ranked_on_the_cpu():
    s, u = torch.randn(50, dtype=torch.double), torch.rand(50, dtype=torch.double)
    ranks = [soft_rank(values, 1.0) for values in (s, u)]
    torch.testing.assert_close(spearman(s, u), pearson(*ranks))


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.parametrize("name", ALL)
def test_nan_and_infinity_give_nan(name):
    for bad in (torch.nan, torch.inf):
        s, u = draw(20, dtype=torch.float)
        with torch.no_grad():
            s[3] = bad
        assert ALL[name](s, u).isnan() and ALL[name](u, s).isnan()


def test_equal_values_have_exactly_no_variance_in_groups_and_in_float64_too():
    group = torch.arange(999) % 3
    for dtype in (torch.float32, torch.float64):
        u = torch.rand(999, dtype=dtype)
        for value in (0.1, 0.3, 1 / 3, 1 - 1e-7):
            s = torch.full((999,), value, dtype=dtype)
            for undefined in (0.0, 1.0):
                assert (correlate("pearson", s, u, group=group, undefined=undefined)[:3] == undefined).all()
                assert correlate("pearson", s, u, undefined=undefined) == undefined


def test_reads_no_value_on_the_host():
    """A tensor on the meta device has none to read: to try is an error."""
    for function in ALL.values():
        s, u = (torch.rand(30, device="meta", requires_grad=True) for _ in range(2))
        function(s, u).backward()
        assert s.grad.shape == s.shape


@pytest.mark.parametrize("name", ["concordance", "spearman at 0.02"])
def test_compiles_to_one_graph(name):
    s, u = draw(20)
    torch._dynamo.reset()
    compiled = torch.compile(ALL[name], backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(s, u), ALL[name](s, u))
    torch.testing.assert_close(
        torch.autograd.grad(compiled(s, u), s), torch.autograd.grad(ALL[name](s, u), s)
    )


def test_out_of_range_is_refused_where_it_cannot_be_ranked():
    """Compiled, as on a GPU, nothing is looked at: what the closed form cannot rank is NaN."""
    torch._dynamo.reset()
    compiled = torch.compile(spearman, backend="eager", fullgraph=True)
    s, u = torch.rand(20), torch.rand(20)
    torch.testing.assert_close(compiled(s, u), pearson(s, u))
    assert compiled(3 * s, u).isnan()


# In 1/256, so that sums are exact and a tie is a tie whichever way it is computed.
GRID = st.integers(0, 256).map(lambda number: number / 256)
PAIRS = st.lists(st.tuples(GRID, GRID), max_size=24).map(
    lambda pairs: torch.tensor(pairs, dtype=torch.double).view(-1, 2).T.contiguous().unbind()
)
NAMES = st.sampled_from(sorted(ALL))
PROPERTY = settings(max_examples=150, deadline=None, derandomize=True)


@PROPERTY
@given(NAMES, PAIRS)
def test_any_pairs_have_a_coefficient_and_a_gradient_that_are_finite(name, pairs):
    s, u = (values.clone().requires_grad_() for values in pairs)
    rho = ALL[name](s, u)
    assert -1 <= rho <= 1
    assert all(grad.isfinite().all() for grad in torch.autograd.grad(rho, (s, u)))
    assert 0 <= CorrelationLoss("pearson", weight=0.5)(s, u) <= 1


@PROPERTY
@given(NAMES, PAIRS, st.randoms(use_true_random=False))
def test_neither_the_order_of_pairs_nor_that_of_the_samples_matters(name, pairs, random):
    s, u = pairs
    order = list(range(len(s)))
    random.shuffle(order)
    rho = ALL[name](s, u)
    torch.testing.assert_close(ALL[name](s[order], u[order]), rho, rtol=0, atol=1e-9)
    torch.testing.assert_close(ALL[name](u, s), rho, rtol=0, atol=1e-9)


@PROPERTY
@given(NAMES, PAIRS)
def test_the_host_and_the_device_agree(name, pairs):
    """The fast path of a CPU, and the formulas that a GPU takes."""
    results = []
    for readable in (ranks.is_readable, lambda values: False):
        with pytest.MonkeyPatch.context() as patch:
            for module in (ranks, coefficients):
                patch.setattr(module, "is_readable", readable)
            s, u = (values.clone().requires_grad_() for values in pairs)
            rho = ALL[name](s, u)
            results.append((rho, *torch.autograd.grad(rho, (s, u))))
    torch.testing.assert_close(*results, rtol=1e-7, atol=1e-7)


@PROPERTY
@given(PAIRS, st.sampled_from([0.25, 0.5, 1.0]), st.sampled_from([-1.0, 0.0, 0.5]))
def test_what_leaves_each_coefficient_as_it_is(pairs, scale, shift):
    s, u = pairs
    assume(len(s) > 1 and s.max() > s.min() and u.max() > u.min())
    for same in (pearson, spearman_exact):  # any line that climbs
        torch.testing.assert_close(same(scale * s + shift, u), same(s, u), rtol=0, atol=1e-9)
        torch.testing.assert_close(same(-s, u), -same(s, u), rtol=0, atol=1e-9)
    torch.testing.assert_close(spearman_exact(s**3, u), spearman_exact(s, u))  # anything that climbs
    assert concordance(s, u).abs() <= pearson(s, u).abs() + 1e-12
    s = s.clone().requires_grad_()
    (grad,) = torch.autograd.grad(pearson(s, u), s)  # along those lines it does not change
    assert grad.sum().abs() < 1e-9 and (grad * s).sum().abs() < 1e-9


FUNCTIONS = ALL | {
    "loss per image": lambda s, u: CorrelationLoss("spearman", scope="image", strength=0.02)(
        s, u, image=torch.arange(len(s)) % 3
    ),
    "soft rank": lambda s, u: (soft_rank(s, 0.05) * u).sum(),
}


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("name", FUNCTIONS)
def test_torch_func_agrees_with_autograd(name):
    function = FUNCTIONS[name]
    s, u, tangent = torch.rand(3, 4, 12, dtype=torch.double, generator=torch.Generator().manual_seed(0))
    values, grads = [], []
    for a, b in zip(s, u, strict=True):
        a = a.clone().requires_grad_()
        values.append(function(a, b))
        grads += torch.autograd.grad(values[-1], a)
    torch.testing.assert_close(torch.func.vmap(function)(s, u), torch.stack(values).detach())
    torch.testing.assert_close(torch.func.grad(function)(s[0], u[0]), grads[0])
    torch.testing.assert_close(torch.func.vmap(torch.func.grad(function))(s, u), torch.stack(grads))

    def along():
        return torch.func.jvp(lambda a: function(a, u[0]), (s[0],), (tangent[0],))

    if name == "spearman_exact":  # the blackbox gradient is not the transpose of a linear map
        with pytest.raises(NotImplementedError):
            along()
    else:
        _, derivative = along()
        torch.testing.assert_close(derivative, (grads[0] * tangent[0]).sum())
