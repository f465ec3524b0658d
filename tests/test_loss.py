import copy
import pickle

import pytest
import torch

from corrloss import CorrelationLoss

COEFFICIENTS = ["pearson", "concordance", "spearman"]


def reference(coefficient, s, u):
    """1 - rho by the textbook, on one group with variance; Spearman as released is Pearson's."""
    covariance = torch.cov(torch.stack((s, u)))
    if coefficient == "concordance":
        return 1 - 2 * covariance[0, 1] / (s.var() + u.var() + (s.mean() - u.mean()) ** 2)
    return 1 - covariance[0, 1] / (s.std() * u.std())


@pytest.fixture
def pairs():
    generator = torch.Generator().manual_seed(3)
    scores = torch.rand(60, dtype=torch.double, generator=generator).requires_grad_()
    ious = torch.rand(60, dtype=torch.double, generator=generator).requires_grad_()
    ids = torch.randint(0, 5, (60,), generator=generator) * 7 - 9  # neither dense nor positive
    return scores, ious, ids


@pytest.mark.parametrize("coefficient", COEFFICIENTS)
def test_batch_is_weight_times_one_minus_rho(coefficient, pairs):
    scores, ious, _ = pairs
    loss = CorrelationLoss(coefficient, weight=0.3)(scores, ious)
    torch.testing.assert_close(loss, 0.3 * reference(coefficient, scores, ious))


@pytest.mark.parametrize("coefficient", COEFFICIENTS)
@pytest.mark.parametrize("scope", ["level", "image"])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_groups_are_reduced_like_a_loop_over_them(coefficient, scope, reduction, pairs):
    scores, ious, ids = pairs
    loss = CorrelationLoss(coefficient, 0.3, scope, reduction, "both")
    losses = [0.3 * reference(coefficient, scores[ids == i], ious[ids == i]) for i in ids.unique()]
    expected = getattr(torch.stack(losses), reduction)()
    actual = loss(scores, ious, **{scope: ids})
    torch.testing.assert_close(actual, expected)
    for got, want in zip(
        torch.autograd.grad(actual, (scores, ious)),
        torch.autograd.grad(expected, (scores, ious)),
        strict=True,
    ):
        torch.testing.assert_close(got, want)


def as_the_release(coefficient, scores, ious, ids, count):
    """The mean over levels of two or more positives; the loss of a level that is NaN is made 0."""
    losses = [
        reference(coefficient, scores[ids == i], ious[ids == i]).nan_to_num()
        for i in range(count)
        if (ids == i).sum() > 1
    ]
    return sum(losses) / len(losses) if losses else scores.sum() * 0


@pytest.mark.parametrize("scope", ["level", "image"])
def test_groups_of_fewer_than_two_do_not_count_in_the_mean(scope):
    """Levels with 0, 1, 2 and 5 positives. Concordance of level 2 is 0.16 / (0.08 + 0.08 + 0.04) = 0.8, of
    level 3 it is -1: the losses are 0.2 and 2, their mean is 1.1."""
    scores = torch.tensor([0.9, 0.2, 0.6, 0.1, 0.2, 0.3, 0.4, 0.5], requires_grad=True)
    ious = torch.tensor([0.3, 0.4, 0.8, 0.5, 0.4, 0.3, 0.2, 0.1])
    ids = torch.tensor([1, 2, 2, 3, 3, 3, 3, 3])
    loss = CorrelationLoss("concordance", 1.0, scope)(scores, ious, **{scope: ids})
    assert loss.item() == pytest.approx(1.1, abs=1e-6)
    loss.backward()
    assert scores.grad[0] == 0 and (scores.grad[1:] != 0).any()
    total = CorrelationLoss("concordance", 1.0, scope, "sum")(scores, ious, **{scope: ids})
    assert total.item() == pytest.approx(2.2, abs=1e-6)


def test_a_group_of_two_without_variance_counts_with_zero():
    """As the levels above, and one of two equal positives: (0.2 + 2 + 0) / 3."""
    scores = torch.tensor([0.9, 0.2, 0.6, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 0.7])
    ious = torch.tensor([0.3, 0.4, 0.8, 0.5, 0.4, 0.3, 0.2, 0.1, 0.7, 0.7])
    ids = torch.tensor([1, 2, 2, 3, 3, 3, 3, 3, 4, 4])
    loss = CorrelationLoss("concordance", 1.0, "level")(scores, ious, level=ids)
    assert loss.item() == pytest.approx(2.2 / 3, abs=1e-6)


@pytest.mark.parametrize("coefficient", COEFFICIENTS)
@pytest.mark.parametrize("seed", range(20))
def test_the_mean_over_levels_is_the_releases(coefficient, seed):
    generator = torch.Generator().manual_seed(seed)
    n = seed  # small, so that many levels have one positive or none
    # On a coarse grid, so that some levels of two have no variance.
    scores, ious = (torch.randint(1, 4, (2, n), generator=generator) / 4).double()
    ids = torch.randint(0, 6, (n,), generator=generator)
    scores.requires_grad_()
    loss = CorrelationLoss(coefficient, 1.0, "level")(scores, ious, level=ids)
    torch.testing.assert_close(loss, as_the_release(coefficient, scores, ious, ids, 6))


@pytest.mark.parametrize("coefficient", COEFFICIENTS)
@pytest.mark.parametrize("scope", ["batch", "level"])
@pytest.mark.parametrize("values", [[], [0.3], [0.1] * 7])
def test_undefined_is_a_connected_zero(coefficient, scope, values):
    scores = torch.tensor(values, requires_grad=True)
    loss = CorrelationLoss(coefficient, scope=scope)(
        scores, torch.tensor(values), level=torch.zeros(len(values), dtype=torch.long)
    )
    assert loss.item() == 0 and loss.requires_grad
    loss.backward()
    assert torch.equal(scores.grad, torch.zeros_like(scores))


@pytest.mark.parametrize(
    "gradient_to, reached", [("classifier", (1, 0)), ("regressor", (0, 1)), ("both", (1, 1))]
)
def test_gradient_reaches_what_it_is_sent_to(gradient_to, reached, pairs):
    scores, ious, _ = pairs
    CorrelationLoss("pearson", gradient_to=gradient_to)(scores, ious).backward()
    assert (scores.grad is not None, ious.grad is not None) == reached


def test_weight_zero_computes_nothing():
    scores = torch.tensor([0.1, float("nan")], requires_grad=True)
    loss = CorrelationLoss(weight=0)(scores, scores.detach())
    loss.backward()
    assert loss == 0 and torch.equal(scores.grad, torch.zeros(2))


def test_nan_propagates():
    scores = torch.tensor([0.1, float("nan"), 0.3], requires_grad=True)
    for coefficient in COEFFICIENTS:
        assert CorrelationLoss(coefficient)(scores, torch.tensor([0.1, 0.2, 0.3])).isnan()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_lifted(dtype):
    scores = torch.rand(500).to(dtype).requires_grad_()
    ious = torch.rand(500)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = CorrelationLoss("concordance")(scores, ious)
    loss.backward()
    assert loss.dtype == torch.float32 and scores.grad.dtype == dtype
    torch.testing.assert_close(loss, CorrelationLoss("concordance")(scores.float(), ious))


@pytest.mark.parametrize(
    "argument, choice",
    [
        ("coefficient", "kendall"),
        ("scope", "epoch"),
        ("reduction", "none"),
        ("gradient_to", "nobody"),
        ("weight", -0.1),
        ("weight", float("nan")),
        ("weight", "0.2"),
        ("weight", None),
        ("strength", 0.0),
        ("strength", "1"),
    ],
)
def test_a_wrong_option_is_named(argument, choice):
    with pytest.raises(ValueError, match=argument):
        CorrelationLoss(**{argument: choice})


@pytest.mark.parametrize(
    "inputs, error, message",
    [
        (dict(scores=torch.arange(3)), TypeError, "scores"),
        (dict(ious=[0.1, 0.2, 0.3]), TypeError, "ious"),
        (dict(scores=torch.rand(3, 1)), ValueError, "scores must be 1-d"),
        (dict(ious=torch.rand(4)), ValueError, "one length, got 3 and 4"),
        (dict(level=None), ValueError, "needs level="),
        (dict(level=torch.rand(3)), TypeError, "level"),
        (dict(level=torch.zeros(2, dtype=torch.long)), ValueError, "level must have one id"),
    ],
)
def test_a_wrong_input_is_named(inputs, error, message):
    good = dict(scores=torch.rand(3), ious=torch.rand(3), level=torch.tensor([0, 0, 1]))
    with pytest.raises(error, match=message):
        CorrelationLoss(scope="level")(**(good | inputs))


def test_trains_in_plain_pytorch():
    """A linear score learns the order of the IoUs."""
    torch.manual_seed(0)
    features = torch.randn(200, 4)
    ious = torch.sigmoid(features @ torch.tensor([1.0, -2.0, 0.5, 0.0]))
    model, loss = torch.nn.Linear(4, 1), CorrelationLoss("spearman", weight=1.0)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.1)
    for _ in range(60):
        optimiser.zero_grad()
        value = loss(model(features).squeeze(1).sigmoid(), ious)
        value.backward()
        optimiser.step()
    assert value < 0.05


def test_it_pickles_and_copies(pairs):
    scores, ious, ids = pairs
    loss = CorrelationLoss("concordance", 0.3, "level", "sum", "both", 0.5)
    for same in (pickle.loads(pickle.dumps(loss)), copy.deepcopy(loss)):
        assert str(same) == str(loss)
        assert torch.equal(same(scores, ious, level=ids), loss(scores, ious, level=ids))


def weighted_coefficient(coefficient, s, u, weight):
    """By the definition in the docstring, one positive after another."""
    rows = [(a, b, w) for a, b, w in zip(s.tolist(), u.tolist(), weight.tolist(), strict=True) if w > 0]
    n, total = len(rows), sum(w for *_, w in rows)
    mean_s, mean_u = (sum(row[2] * row[i] for row in rows) / total for i in (0, 1))

    def covariance(i, j):
        means = mean_s, mean_u
        products = (row[2] * n / total * (row[i] - means[i]) * (row[j] - means[j]) for row in rows)
        return sum(products) / (n - 1)

    if coefficient == "concordance":
        return 2 * covariance(0, 1) / (covariance(0, 0) + covariance(1, 1) + (mean_s - mean_u) ** 2)
    return covariance(0, 1) / (covariance(0, 0) * covariance(1, 1)) ** 0.5


@pytest.mark.parametrize("coefficient", COEFFICIENTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_weights_follow_their_definition(coefficient, dtype, pairs):
    scores, ious, ids = pairs
    s, u = scores.detach().to(dtype).requires_grad_(), ious.detach().to(dtype)
    weight = torch.rand(60, generator=torch.Generator().manual_seed(1)).to(dtype)
    weight[::7] = 0
    loss = CorrelationLoss(coefficient, weight=1.0)(s, u, sample_weight=weight)
    expected = 1 - weighted_coefficient(coefficient, s, u, weight)
    assert loss.item() == pytest.approx(expected, abs=1e-6 if dtype == torch.float32 else 1e-12)
    per_level = CorrelationLoss(coefficient, weight=1.0, scope="level")(s, u, level=ids, sample_weight=weight)
    each = [
        1 - weighted_coefficient(coefficient, s[ids == i], u[ids == i], weight[ids == i])
        for i in ids.unique()
    ]
    assert per_level.item() == pytest.approx(sum(each) / len(each), abs=1e-6)
    if dtype == torch.float64:
        function = CorrelationLoss(coefficient, weight=1.0)
        assert torch.autograd.gradcheck(lambda s: function(s, u, sample_weight=weight), s)


@pytest.mark.parametrize("coefficient", [*COEFFICIENTS, "spearman_exact"])
def test_equal_weights_change_nothing_and_positives_of_weight_zero_do_not_count(coefficient, pairs):
    scores, ious, ids = pairs
    loss = CorrelationLoss(coefficient, scope="level")
    plain = loss(scores, ious, level=ids)
    torch.testing.assert_close(loss(scores, ious, level=ids, sample_weight=torch.full((60,), 3.0)), plain)
    if coefficient == "spearman_exact":
        return  # a positive counts in the ranks of others whatever its weight
    weight = (torch.arange(60) % 3 > 0).double()
    kept = weight > 0
    weighted = loss(scores, ious, level=ids, sample_weight=weight)
    torch.testing.assert_close(weighted, loss(scores[kept], ious[kept], level=ids[kept]))
    (grad,) = torch.autograd.grad(weighted, scores)
    assert not grad[~kept].any() and grad[kept].any()


@pytest.mark.parametrize("coefficient", [*COEFFICIENTS, "spearman_exact"])
def test_undefined_with_weights_is_a_connected_zero(coefficient):
    loss = CorrelationLoss(coefficient, scope="image")
    image = torch.arange(30) % 3
    varied = torch.rand(30)
    one_each = (torch.arange(30) < 3).float()
    cases = [(varied, torch.zeros(30)), (varied, one_each)]
    if coefficient != "concordance":
        cases.append((torch.full((30,), 0.1), torch.rand(30)))
    for s, weight in cases:
        s = s.clone().requires_grad_()
        value = loss(s, torch.rand(30), image=image, sample_weight=weight)
        assert value == 0 and not torch.autograd.grad(value, s)[0].any()
    negative = torch.full((30,), -1.0)
    assert loss(varied, torch.rand(30), image=image, sample_weight=negative).isnan()


def test_wrong_weights_are_named():
    s = torch.rand(3)
    with pytest.raises(TypeError, match=r"sample_weight must be a floating point tensor, got torch\.int64"):
        CorrelationLoss()(s, s, sample_weight=torch.ones(3, dtype=torch.long))
    with pytest.raises(ValueError, match=r"one weight for each positive, got shape \(2,\) for 3"):
        CorrelationLoss()(s, s, sample_weight=torch.ones(2))


def test_logits_are_refused_on_a_cpu():
    good, logits = torch.rand(4), torch.tensor([-2.0, 0.5, 3.0, 0.1])
    message = r"expected scores in \[0, 1\], found values from -2 to 3 among the 4 positives.*sigmoid"
    for check in (None, True):
        with pytest.raises(ValueError, match=message):
            CorrelationLoss("pearson", check_range=check)(logits, good)
    with pytest.raises(ValueError, match="expected ious in"):
        CorrelationLoss()(good, logits)
    assert CorrelationLoss("pearson", check_range=False)(logits, good) > 0
    assert CorrelationLoss()(torch.tensor([0.1, torch.nan, 0.3, 0.2]), good).isnan()
    assert CorrelationLoss()(good + 0.001, good).isfinite()
    with pytest.raises(ValueError, match="check_range must be one of None, True, False"):
        CorrelationLoss(check_range="always")


def test_by_default_the_range_is_not_read_where_that_synchronises():
    """A tensor on the meta device has no value to read."""
    s, u, weight = (torch.rand(30, device="meta") for _ in range(3))
    assert CorrelationLoss()(s, u, sample_weight=weight).shape == ()
