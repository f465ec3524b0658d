"""Does a measured gain agree with the published one?

Two questions are asked of a gain. *Effect*: the 95% interval of the mean gain over images and seeds.
*Agreement*: the 95% prediction interval for one published run on the same images (Patil, Peng and Leek,
Perspectives on Psychological Science 2016), without the error of the images, which both runs share. Precision
is judged against half of the published gain, the margin of an equivalence test (Simonsohn, Psychological
Science 2015, "Small telescopes").
"""

from dataclasses import dataclass
from math import isfinite, sqrt

from scipy.special import stdtrit

from corrloss.analysis.differences import Interval, half_width

#: Prior of the standard deviation of a seed's gain: two trainings whose AP varies by 0.2 each.
PRIOR_SD, PRIOR_FREEDOM = sqrt(2) * 0.2, 4
#: An AP without a gain agrees within this many points: COCO recipes vary by 0.2 to 0.3 from run to run.
AP_TOLERANCE = 0.6

OPPOSITE = "opposite"
NO_SUCH_GAIN = "no such gain"
SMALLER_GAIN = "smaller gain"
TOO_IMPRECISE = "too imprecise"
INCONCLUSIVE = "inconclusive"
SMALLER = "smaller"
LARGER = "larger"
REPRODUCED = "reproduced"
NOT_REPRODUCED = "not reproduced"
NO_INTERVAL = "no interval"
NO_REFERENCE = "no reference"
NOT_COMPARABLE = "not comparable"
#: What a comparison of gains may give, in the order of the rule.
OF_GAINS = (
    OPPOSITE, NO_SUCH_GAIN, SMALLER_GAIN, TOO_IMPRECISE, INCONCLUSIVE, SMALLER, LARGER, REPRODUCED,
)  # fmt: skip
#: No comparison was made.
WITHOUT = (NO_INTERVAL, NO_REFERENCE, NOT_COMPARABLE)
VERDICTS = (*OF_GAINS, NOT_REPRODUCED, *WITHOUT)


@dataclass(frozen=True)
class Verdict:
    """The result of a comparison with the paper.

    Attributes:
        verdict: One of `VERDICTS`, with the marks of the reference in parentheses.
        difference: Measured minus published, in points; None where nothing is compared.
        compared: "delta_AP" or "AP", whichever the difference is of; None where nothing is compared.
        tolerance: (low, high), the published values that would agree; None where nothing is compared.
    """

    verdict: str
    difference: float | None = None
    compared: str | None = None
    tolerance: tuple[float, float] | None = None


def judge(
    ap: float | None,
    gain: Interval | None,
    paper_ap: float | None,
    paper_delta: float | None,
    scale: str,
    marks: tuple[str, ...] = (),
) -> Verdict:
    """Compare a measured cell with the published one.

    The gain is compared where one is published; only then is it the AP itself that is compared where not. At
    any scale but "paper", which alone trains the paper's recipe, the verdict is "not comparable".

    Args:
        ap: Measured AP, in points; None or NaN if unknown.
        gain: Measured gain with its interval; None if unknown.
        paper_ap: Published AP; None or NaN if unknown.
        paper_delta: Published gain; None or NaN if unknown.
        scale: Scale of the run.
        marks: What limits the reference, such as "second-hand"; added to the verdict.

    >>> gain = Interval(1.4, 0.9, 1.9, 0.001, 0.2, 0.1, 0.2, 5000, 3)
    >>> judge(39.2, gain, 39.3, 1.6, "paper", marks=("second-hand",)).verdict
    'reproduced (second-hand)'
    >>> judge(39.2, gain, 39.3, 1.6, "mini").verdict
    'not comparable'
    """
    if scale != "paper":
        return Verdict(NOT_COMPARABLE)
    suffix = f" ({', '.join(marks)})" if marks else ""
    if _known(paper_delta):
        effect = None if gain is None else effect_interval(gain)
        if effect is None or not all(map(isfinite, effect)):
            return Verdict(NO_INTERVAL)
        tolerance = prediction_interval(gain)
        label = _label(gain.delta, effect, tolerance, paper_delta)
        return Verdict(label + suffix, gain.delta - paper_delta, "delta_AP", tolerance)
    if _known(ap) and _known(paper_ap):
        tolerance = (ap - AP_TOLERANCE, ap + AP_TOLERANCE)
        label = REPRODUCED if tolerance[0] <= paper_ap <= tolerance[1] else NOT_REPRODUCED
        return Verdict(label + suffix, ap - paper_ap, "AP", tolerance)
    return Verdict(NO_REFERENCE)


def effect_interval(gain: Interval) -> tuple[float, float]:
    """Return the 95% interval of the mean gain over images and seeds.

    One seed does not estimate the spread of seeds: it is the prior's.
    """
    if gain.n_seeds > 1:
        return gain.ci_low, gain.ci_high
    half = half_width([(gain.se_images**2, gain.n_images - 1), (PRIOR_SD**2, PRIOR_FREEDOM)], 0.05)
    return gain.delta - half, gain.delta + half


def prediction_interval(gain: Interval) -> tuple[float, float]:
    """Return the 95% prediction interval of the gain of one further seed on the same images.

    It is Δ ± t · s · √(1 + 1/n), with the spread of seeds s pooled with the prior.
    """
    n, freedom = gain.n_seeds, PRIOR_FREEDOM + gain.n_seeds - 1
    squares = PRIOR_FREEDOM * PRIOR_SD**2 + ((n - 1) * gain.sd_seeds**2 if n > 1 else 0.0)
    half = float(stdtrit(freedom, 0.975)) * sqrt(squares / freedom * (1 + 1 / n))
    return gain.delta - half, gain.delta + half


def _label(
    delta: float, effect: tuple[float, float], prediction: tuple[float, float], published: float
) -> str:
    """Apply the rule of docs/measures.md: the first line that holds is the label."""
    (low, high), margin = effect, published / 2
    holds_zero = low <= 0 <= high
    agrees = prediction[0] <= published <= prediction[1]
    if published <= 0:  # no gain was claimed: the same sign is asked
        rule = [
            (low > 0, OPPOSITE),
            (not agrees, SMALLER if delta < published else LARGER),
            (delta > 0, INCONCLUSIVE),
        ]
    else:
        rule = [
            (high < 0, OPPOSITE),
            (high < margin, NO_SUCH_GAIN if holds_zero else SMALLER_GAIN),
            (holds_zero and (high - low) / 2 > margin, TOO_IMPRECISE),
            (holds_zero, INCONCLUSIVE),
            (delta < margin or not agrees, SMALLER if delta < published else LARGER),
        ]
    return next((label for holds, label in rule if holds), REPRODUCED)


def _known(value: float | None) -> bool:
    return value is not None and isfinite(value)
