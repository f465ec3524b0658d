"""Sums of the step function between positives and all logits, the expensive part of every ranking loss.

A ranking loss compares each positive ``i`` with every logit ``j`` through a step of width ``delta``::

    H(d) = 1 if d >= 0 else 0                     delta = 0
    H(d) = clamp(d / (2 delta) + 0.5, 0, 1)       delta > 0,   d = x_j - x_i

and needs two sums of it: over the logits for each positive (number of false positives ranked above it) and
over the positives for each logit (error caused by that logit). `PairwiseSteps` computes all P x N
pairs. `BucketedSteps` gives the same sums in O(N log P) time and O(N) memory.
"""

import torch
from torch import Tensor

FORMS = ("bucketed", "pairwise")


def step(difference: Tensor, delta: float) -> Tensor:
    """Return H(difference): the exact step for ``delta == 0``, else a ramp from -delta to +delta.

    Examples:
        >>> step(torch.tensor([-1.0, 0.0, 0.25, 1.0]), delta=0.5).tolist()
        [0.0, 0.5, 0.75, 1.0]
        >>> step(torch.tensor([-1.0, 0.0, 0.25, 1.0]), delta=0).tolist()
        [0.0, 1.0, 1.0, 1.0]
    """
    if delta == 0:
        return (difference >= 0).to(difference.dtype)
    return (difference / (2 * delta) + 0.5).clamp(0, 1)


def step_at_zero(delta: float) -> float:
    """Return H(0), the step between a positive and itself or an equal logit."""
    return 1.0 if delta == 0 else 0.5


class PairwiseSteps:
    """All pairs, O(P N) in time and memory, for checks and small inputs.

    Args:
        positive: logits of the positives, (P,) float64.
        delta: half-width of the step, in units of logits, >= 0.
    """

    def __init__(self, positive: Tensor, delta: float) -> None:
        self.positive = positive
        self.delta = delta

    def locate(self, logits: Tensor) -> Tensor:
        """Return H(logits_j - positive_i) as a (P, N) matrix, to be passed to the two sums."""
        return step(logits - self.positive[:, None], self.delta)

    def sum_above(self, located: Tensor, weight: Tensor) -> Tensor:
        """Return for each positive i the sum over j of weight_j H(x_j - x_i), (P,)."""
        return located @ weight

    def spread(self, located: Tensor, share: Tensor) -> Tensor:
        """Return for each logit j the sum over i of share_i H(x_j - x_i), (N,)."""
        return share @ located


class BucketedSteps:
    """The same sums from buckets of logits, exact for every ``delta``.

    Yavuz et al. (ECCV 2024) split the sorted negatives at the positives and replace the members of a bucket
    by their mean, which is exact only at ``delta = 0``. Here the bucket boundaries are the ends of the
    ramps, ``x_i - delta`` and ``x_i + delta`` of every positive. Within such a bucket every step is linear in
    ``x_j``, so the count and the sum of the logits of a bucket are sufficient, and the sum over positives is
    one linear function for each bucket. At ``delta = 0`` both constructions are the same.

    The N logits are not sorted: the bucket of each is found by binary search among 2 P boundaries.

    Args:
        positive: logits of the positives, (P,) float64. Running sums over a million logits need float64:
            in float32 small counts are lost.
        delta: half-width of the step, in units of logits, >= 0.
    """

    def __init__(self, positive: Tensor, delta: float) -> None:
        self.positive = positive
        self.delta = delta
        lower, upper = positive - delta, positive + delta
        cuts = upper if delta == 0 else torch.cat([lower, upper])
        self.cuts = cuts.sort().values
        # Buckets from `low` on overlap the ramp of positive i, buckets from `high` on are above it.
        self.low = torch.searchsorted(self.cuts, lower, right=True)
        self.high = torch.searchsorted(self.cuts, upper, right=True)

    def locate(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits and the bucket of each, to be passed to the two sums."""
        return logits, torch.searchsorted(self.cuts, logits, right=True)

    def _bucket_sums(self, bucket: Tensor, values: Tensor) -> Tensor:
        """Sum values by bucket."""
        return values.new_zeros(len(self.cuts) + 1).index_add_(0, bucket, values)

    def sum_above(self, located: tuple[Tensor, Tensor], weight: Tensor) -> Tensor:
        """Return for each positive i the sum over j of weight_j H(x_j - x_i), (P,); weights are >= 0."""
        logits, bucket = located
        # Summed from the top down: small sums are sums of few numbers, without cancellation.
        count = _sum_from_here_up(self._bucket_sums(bucket, weight))
        total = count[self.high]
        if self.delta == 0:
            return total
        moment = _sum_from_here_up(self._bucket_sums(bucket, weight * logits))
        on_ramp = count[self.low] - count[self.high]
        rise = moment[self.low] - moment[self.high] - self.positive * on_ramp
        return total + (0.5 * on_ramp + rise / (2 * self.delta)).clamp(min=0)

    def spread(self, located: tuple[Tensor, Tensor], share: Tensor) -> Tensor:
        """Return for each logit j the sum over i of share_i H(x_j - x_i), (N,)."""
        logits, bucket = located
        if self.delta == 0:
            return self._bucket_sums(self.high, share).cumsum(0)[bucket]
        slope = share / (2 * self.delta)
        start = 0.5 * share - slope * self.positive  # the ramp of i is start_i + slope_i x
        intercepts = self._bucket_sums(self.low, start) + self._bucket_sums(self.high, share - start)
        slopes = self._bucket_sums(self.low, slope) - self._bucket_sums(self.high, slope)
        return intercepts.cumsum(0)[bucket] + slopes.cumsum(0)[bucket] * logits


def _sum_from_here_up(values: Tensor) -> Tensor:
    """Return the running sum from the last entry to each entry."""
    return values.flip(0).cumsum(0).flip(0)


def make_steps(positive: Tensor, delta: float, form: str) -> BucketedSteps | PairwiseSteps:
    """Return the sums for these positives in the named form, one of `FORMS`."""
    return BucketedSteps(positive, delta) if form == "bucketed" else PairwiseSteps(positive, delta)


def check_options(delta: float, form: str) -> None:
    """Raise ValueError unless ``delta`` is a finite number >= 0 and ``form`` one of `FORMS`."""
    if not 0 <= delta < float("inf"):
        raise ValueError(f"delta is the half-width of the step in logits, a finite number >= 0; got {delta}")
    if form not in FORMS:
        raise ValueError(f"form must be one of {', '.join(FORMS)}; got {form!r}")
