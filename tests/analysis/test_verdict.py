import math

import pytest
from scipy import stats

from corrloss.analysis import verdict as rule
from corrloss.analysis.differences import Interval
from corrloss.analysis.simulation import label_rates
from corrloss.analysis.verdict import VERDICTS, effect_interval, judge, prediction_interval


def gain(delta, low, high, sd=0.2, n_seeds=3):
    return Interval(delta, low, high, 0.01, 0.1, 0.1, sd if n_seeds > 1 else math.nan, 5000, n_seeds)


@pytest.mark.parametrize(
    ("measured", "published", "label"),
    [
        (gain(-0.5, -0.9, -0.1), 1.6, rule.OPPOSITE),
        (gain(0.1, -0.4, 0.6), 1.6, rule.NO_SUCH_GAIN),
        (gain(0.4, 0.1, 0.7), 1.6, rule.SMALLER_GAIN),
        (gain(0.8, -0.5, 2.1), 1.6, rule.TOO_IMPRECISE),
        (gain(0.6, -0.1, 1.3), 1.6, rule.INCONCLUSIVE),
        (gain(0.75, 0.1, 1.4), 1.6, rule.SMALLER),  # below half, in the prediction interval
        (gain(0.85, 0.5, 1.2, sd=0.01), 1.9, rule.SMALLER),  # outside of the prediction interval
        (gain(2.6, 2.0, 3.2), 1.6, rule.LARGER),
        (gain(1.4, 0.9, 1.9), 1.6, rule.REPRODUCED),
        # What an imprecise or an opposite gain was called before.
        (gain(6.0, 0.1, 11.9), 0.8, rule.LARGER),
        (gain(-0.10, -0.15, -0.05), 0.15, rule.OPPOSITE),
        # No gain was claimed.
        (gain(0.5, 0.2, 0.8), -0.1, rule.OPPOSITE),
        (gain(-0.2, -0.5, 0.1), -0.1, rule.REPRODUCED),
        (gain(0.1, -0.2, 0.4), -0.1, rule.INCONCLUSIVE),
        (gain(-2.0, -2.3, -1.7), -0.1, rule.SMALLER),
        (gain(0.0, -0.2, 0.2), -1.5, rule.LARGER),
    ],
)
def test_a_gain_is_judged_by_effect_agreement_and_precision(measured, published, label):
    result = judge(39.0, measured, 50.0, published, "paper")
    assert (result.verdict, result.compared) == (label, "delta_AP")
    assert result.difference == pytest.approx(measured.delta - published)
    assert result.tolerance == prediction_interval(measured)


def test_the_prediction_interval_pools_the_spread_of_seeds_with_the_prior():
    s = math.sqrt((4 * 2 * 0.2**2 + 2 * 0.5**2) / 6)
    half = stats.t.ppf(0.975, 6) * s * math.sqrt(1 + 1 / 3)
    assert prediction_interval(gain(1.0, 0.5, 1.5, sd=0.5)) == pytest.approx((1 - half, 1 + half))
    half = stats.t.ppf(0.975, 4) * math.sqrt(2) * 0.2 * math.sqrt(2)
    assert prediction_interval(gain(1.0, 0.5, 1.5, n_seeds=1)) == pytest.approx((1 - half, 1 + half))


def test_one_seed_is_judged_with_the_prior_s_spread_of_seeds():
    images, seeds = 0.1**2, 2 * 0.2**2
    t = (stats.t.ppf(0.975, 4999) * images + stats.t.ppf(0.975, 4) * seeds) / (images + seeds)
    half = t * math.sqrt(images + seeds)
    assert effect_interval(gain(1.0, 0.8, 1.2, n_seeds=1)) == pytest.approx((1 - half, 1 + half))
    assert effect_interval(gain(1.0, 0.5, 1.5)) == (0.5, 1.5)


@pytest.mark.parametrize("unknown", [None, gain(1.4, math.nan, math.nan)])
def test_without_an_interval_a_gain_gets_no_verdict(unknown):
    result = judge(39.0, unknown, 39.0, 1.6, "paper")
    assert (result.verdict, result.difference) == (rule.NO_INTERVAL, None)


@pytest.mark.parametrize(
    ("ap", "paper_ap", "verdict"),
    [(37.9, 37.7, "reproduced"), (37.1, 37.7, "reproduced"), (37.0, 37.7, "not reproduced")],
)
def test_a_baseline_is_judged_by_its_ap(ap, paper_ap, verdict):
    result = judge(ap, None, paper_ap, None, "paper")
    assert (result.verdict, result.compared) == (verdict, "AP")
    assert result.difference == pytest.approx(ap - paper_ap)


def test_what_limits_the_reference_is_in_the_verdict_itself():
    marks = ("second-hand", "inferred")
    assert judge(37.9, None, 37.7, None, "paper", marks).verdict == "reproduced (second-hand, inferred)"
    measured = gain(0.1, -0.4, 0.6)
    assert judge(1, measured, 1, 1.6, "paper", marks).verdict == "no such gain (second-hand, inferred)"
    assert judge(37.9, None, None, None, "paper", marks).verdict == "no reference"


@pytest.mark.parametrize("unknown", [None, math.nan])
def test_an_unknown_value_is_never_compared(unknown):
    result = judge(39.0, gain(1.4, 0.9, 1.9), unknown, unknown, "paper")
    assert (result.verdict, result.difference, result.tolerance) == ("no reference", None, None)
    assert judge(unknown, None, 39.0, None, "paper").verdict == "no reference"


@pytest.mark.parametrize("scale", ["mini", "smoke", "Paper", ""])
def test_only_the_paper_s_recipe_gets_a_verdict(scale):
    result = judge(39.2, gain(1.4, 0.9, 1.9), 39.3, 1.6, scale)
    assert (result.verdict, result.difference, result.compared) == ("not comparable", None, None)


def test_every_verdict_is_listed():
    assert len(set(VERDICTS)) == len(VERDICTS) == 12


def test_how_often_each_label_is_right():
    rates = {share: label_rates(1.6, share, n_seeds=3, n_experiments=1000) for share in (0.0, 0.5, 1.0)}
    assert all(sum(rate.values()) == pytest.approx(1) for rate in rates.values())
    assert rates[0.0][rule.REPRODUCED] <= 0.01
    assert rates[0.5][rule.REPRODUCED] <= 0.33  # 30%, and two standard errors of the simulation
    assert rates[1.0][rule.REPRODUCED] >= 0.85
