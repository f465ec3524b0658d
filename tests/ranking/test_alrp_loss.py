import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from corrloss.ranking import ALRPLoss
from corrloss.ranking.alrp_loss import alrp_loss
from corrloss.ranking.ap_loss import ap_loss


def h(difference, delta):
    """The step, one number at a time."""
    if delta == 0:
        return 1.0 if difference >= 0 else 0.0
    return min(max(difference / (2 * delta) + 0.5, 0.0), 1.0)


def slow_alrp_loss(x, t, errors, delta):
    """Both components, the update of the logits and the derivative to the errors, by double loops."""
    positives = [i for i, value in enumerate(t) if value > 0]
    negatives = [i for i, value in enumerate(t) if value == 0]
    e = dict(zip(positives, errors, strict=True))
    number = len(positives)
    classification = localisation = 0.0
    to_logits, to_errors = [0.0] * len(x), dict.fromkeys(positives, 0.0)
    for i in positives:
        above = {k: h(x[k] - x[i], delta) for k in positives if k != i}
        false_positives = sum(h(x[j] - x[i], delta) for j in negatives)
        rank = 1 + sum(above.values()) + false_positives
        lrp = (false_positives + e[i] + sum(weight * e[k] for k, weight in above.items())) / rank
        classification += false_positives / rank / number
        localisation += (lrp - false_positives / rank) / number
        to_errors[i] += 1 / rank / number
        for k, weight in above.items():
            to_errors[k] += weight / rank / number
        if false_positives > 1e-5:
            excess = (lrp - e[i] / rank) / number
            to_logits[i] -= excess
            for j in negatives:
                to_logits[j] += excess * h(x[j] - x[i], delta) / false_positives
    return classification, localisation, to_logits, list(to_errors.values())


@st.composite
def batches(draw):
    """Logits with ties, targets with positives, negatives and ignored entries, an error per positive."""
    n = draw(st.integers(1, 25))
    logits = draw(st.lists(st.integers(-12, 12).map(lambda k: k / 4), min_size=n, max_size=n))
    targets = draw(st.lists(st.sampled_from([1, 0, 0, -1]), min_size=n, max_size=n))
    targets[draw(st.integers(0, n - 1))] = 1
    number = targets.count(1)
    return logits, targets, draw(st.lists(st.floats(0, 2), min_size=number, max_size=number))


@settings(max_examples=100, deadline=None)
@given(batches(), st.sampled_from([0, 0.25, 0.5, 1.0]), st.sampled_from(["bucketed", "pairwise"]))
def test_values_and_gradients_are_those_of_the_double_loop(batch, delta, form):
    logits = torch.tensor(batch[0], dtype=torch.float64, requires_grad=True)
    errors = torch.tensor(batch[2], dtype=torch.float64, requires_grad=True)
    result = alrp_loss(logits, torch.tensor(batch[1]), errors, delta, form)
    sum(result).backward()
    classification, localisation, to_logits, to_errors = slow_alrp_loss(*batch, delta)
    assert result.classification.item() == pytest.approx(classification, abs=1e-12)
    assert result.localisation.item() == pytest.approx(localisation, abs=1e-12)
    assert logits.grad.tolist() == pytest.approx(to_logits, abs=1e-12)
    assert errors.grad.tolist() == pytest.approx(to_errors, abs=1e-12)


def batch_of(dtype, n=2000):
    generator = torch.Generator().manual_seed(0)
    targets = (torch.rand(n, generator=generator) < 0.02).long()
    logits = (torch.randn(n, generator=generator) + targets).to(dtype)
    errors = torch.rand(int(targets.sum()), generator=generator).to(dtype)
    return logits.requires_grad_(), targets, errors.requires_grad_()


def test_value_is_the_mean_lrp_error_at_the_thresholds_of_the_positives():
    """LRP of a set of detections: (sum of TP errors + number of FP) / (TP + FP); no FN, see the paper."""
    logits, targets, errors = batch_of(torch.float64)
    every = torch.zeros(len(targets), dtype=torch.float64)
    every[targets == 1] = errors.detach()
    lrp = []
    for threshold in logits[targets == 1].tolist():
        kept = logits >= threshold
        true, false = kept & (targets == 1), kept & (targets == 0)
        lrp.append(((every[true].sum() + false.sum()) / kept.sum()).item())
    total = sum(alrp_loss(logits, targets, errors, delta=0)).item()
    assert total == pytest.approx(sum(lrp) / len(lrp), abs=1e-12)


def test_without_localisation_error_it_is_the_plain_ap_loss():
    logits, targets, errors = batch_of(torch.float64)
    result = alrp_loss(logits, targets, torch.zeros_like(errors))
    expected = ap_loss(logits, targets, interpolated=False)
    assert result.classification.item() == pytest.approx(expected.item(), abs=1e-12)
    assert result.localisation.item() == 0
    (ours,) = torch.autograd.grad(result.classification, logits)
    (theirs,) = torch.autograd.grad(expected, logits)
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("delta", [0, 1.0])
def test_positive_and_negative_gradients_balance(delta):
    logits, targets, errors = batch_of(torch.float64)
    sum(alrp_loss(logits, targets, errors, delta)).backward()
    pulled, pushed = logits.grad[targets == 1].sum().item(), logits.grad[targets == 0].sum().item()
    assert pulled < 0 < pushed
    assert pulled == pytest.approx(-pushed, abs=1e-12)


def test_localisation_component_is_linear_in_the_errors():
    """With the ranks held constant the component is a dot product with its own gradient."""
    logits, targets, errors = batch_of(torch.float64)
    localisation = alrp_loss(logits, targets, errors).localisation
    (gradient,) = torch.autograd.grad(localisation, errors)
    assert localisation.item() == pytest.approx((gradient * errors).sum().item(), rel=1e-12)


@pytest.mark.parametrize("component", ["classification", "localisation"])
def test_each_component_reaches_its_own_input_alone(component):
    logits, targets, errors = batch_of(torch.float64)
    getattr(alrp_loss(logits, targets, errors), component).backward()
    own, other = (logits, errors) if component == "classification" else (errors, logits)
    assert own.grad.any() and other.grad is None


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_lower_precision_is_computed_on_the_same_numbers(dtype):
    logits, targets, errors = batch_of(dtype)
    result = alrp_loss(logits, targets, errors)
    sum(result).backward()
    exact = [values.detach().double().requires_grad_() for values in (logits, errors)]
    expected = alrp_loss(exact[0], targets, exact[1])
    sum(expected).backward()
    tolerance = {"rtol": 8 * torch.finfo(dtype).eps, "atol": 1e-7}
    for ours, theirs in zip(result, expected, strict=True):
        assert ours.dtype == torch.float32
        assert ours.item() == pytest.approx(theirs.item(), rel=1e-6)
    torch.testing.assert_close(logits.grad.double(), exact[0].grad, **tolerance)
    torch.testing.assert_close(errors.grad.double(), exact[1].grad, **tolerance)


def released_localisation(x, t, errors, delta):
    """The released form, one positive at a time: errors in the exact order of the logits, smooth ranks."""
    positives = [i for i, value in enumerate(t) if value > 0]
    e = dict(zip(positives, errors, strict=True))
    value, to_errors = 0.0, dict.fromkeys(positives, 0.0)
    for i in positives:
        smooth = sum(h(x[k] - x[i], delta) for k, target in enumerate(t) if target >= 0 and k != i)
        for k in positives:
            if k == i or x[k] > x[i]:
                value += e[k] / (1 + smooth) / len(positives)
                to_errors[k] += 1 / (1 + smooth) / len(positives)
    return value, list(to_errors.values())


@pytest.mark.parametrize("delta", [0.25, 1.0])
@pytest.mark.parametrize("form", ["bucketed", "pairwise"])
def test_hard_order_is_that_of_the_released_code(form, delta):
    logits, targets, errors = batch_of(torch.float64, n=400)
    result = alrp_loss(logits, targets, errors, delta, form, localisation_order="hard")
    sum(result).backward()
    value, to_errors = released_localisation(logits.tolist(), targets.tolist(), errors.tolist(), delta)
    assert result.localisation.item() == pytest.approx(value, rel=1e-12)
    assert errors.grad.tolist() == pytest.approx(to_errors, rel=1e-12)
    smooth = alrp_loss(logits, targets, errors, delta, form)
    assert result.classification.item() == smooth.classification.item()
    assert result.localisation.item() != pytest.approx(smooth.localisation.item(), rel=1e-3)


def test_both_orders_of_two_close_positives_worked_out_by_hand():
    logits, targets = torch.tensor([0.2, 0.0]), torch.tensor([1, 1])
    gradients = {}
    for order in ("smooth", "hard"):
        errors = torch.tensor([0.5, 1.0], requires_grad=True)
        alrp_loss(logits, targets, errors, 1.0, localisation_order=order).localisation.backward()
        gradients[order] = errors.grad.tolist()
    # H(0.2) = 0.6 and H(-0.2) = 0.4: ranks 1.4 and 1.6. In the term of the other positive the first error has
    # the weight 0.6 (smooth) or 1 (hard), the second one 0.4 or 0.
    assert gradients["smooth"] == pytest.approx([(1 / 1.4 + 0.6 / 1.6) / 2, (1 / 1.6 + 0.4 / 1.4) / 2])
    assert gradients["hard"] == pytest.approx([(1 / 1.4 + 1 / 1.6) / 2, 1 / 1.6 / 2])


def test_both_orders_are_the_same_at_the_exact_step():
    logits, targets, errors = batch_of(torch.float64)
    found = [alrp_loss(logits, targets, errors, 0, localisation_order=order) for order in ("smooth", "hard")]
    assert found[0].localisation.item() == pytest.approx(found[1].localisation.item(), rel=1e-12)


def test_an_unknown_order_is_refused():
    with pytest.raises(ValueError, match="localisation_order must be one of smooth, hard; got 'soft'"):
        ALRPLoss(localisation_order="soft")


def test_no_positives_is_a_zero_of_the_graph():
    logits = torch.full((3,), 3e38, requires_grad=True)
    errors = torch.zeros(0, requires_grad=True)
    result = ALRPLoss()(logits, torch.tensor([0, -1, 0]), errors)
    sum(result).backward()
    assert [value.item() for value in result] == [0, 0]
    assert logits.grad.tolist() == [0, 0, 0] and errors.grad.shape == (0,)


@pytest.mark.parametrize(
    ("errors", "error", "message"),
    [
        ([0.1], ValueError, r"targets hold 2 positives.*must have shape \(2,\).*got \(1,\)"),
        ([[0.1], [0.2]], ValueError, r"got \(2, 1\)"),
        ([0.1, -0.2], ValueError, "1 of 2 .*negative or not finite, the first at index 1"),
        ([float("nan"), 0.2], ValueError, "1 of 2 .*negative or not finite, the first at index 0"),
        ([1, 2], TypeError, "localisation_errors must be floating point"),
    ],
)
def test_bad_errors_are_named(errors, error, message):
    with pytest.raises(error, match=message):
        ALRPLoss()(torch.randn(3), torch.tensor([1, 0, 1]), torch.tensor(errors))
