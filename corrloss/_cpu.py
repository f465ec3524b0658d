"""Moments and soft ranks on the CPU by NumPy and SciPy, for speed, where both are installed.

A call of NumPy costs a quarter of one of PyTorch, its sort is several times as fast, and SciPy pools adjacent
violators in compiled code. Without them the formulas for accelerators serve the CPU too.
"""

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch
from scipy.linalg.blas import daxpy, saxpy
from scipy.optimize import isotonic_regression
from torch import Tensor

from corrloss._formulas import Moments

# From this length on, sorting integers that hold value and place beats an argsort of float32.
_LONG = 1000
# Below this a sum of float32 squares may have lost digits to underflow.
_TINY = 1e-30


def as_arrays(x: Tensor, y: Tensor, dtype: torch.dtype) -> tuple[np.ndarray, np.ndarray]:
    """Both samples in ``dtype``, without a copy where they are."""
    x, y = (x, y) if x.dtype == y.dtype == dtype else (x.to(dtype), y.to(dtype))
    return x.detach().numpy(), y.detach().numpy()


def stack(pair: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Both samples, shape (2, n)."""
    x, y = pair
    out = np.empty((2, len(x)), x.dtype)
    out[0], out[1] = x, y
    return out


def is_one_block(values: np.ndarray, strength: float) -> bool:
    """Whether the range alone proves that the soft rank is the values plus a constant; false with a NaN."""
    if not abs(values.item(0) - values.item(-1)) <= strength:
        return False
    return bool(np.maximum.reduce(values) - np.minimum.reduce(values) <= strength)


def are_one_block(rows: Iterable[np.ndarray], strength: float) -> bool:
    """Whether that holds of each row."""
    return all(is_one_block(row, strength) for row in rows)


def centre(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, Moments]:
    """Both samples less their mean, and the moments of that.

    First one value is taken off, so that equal values leave exactly zero, then the mean of what is left, so
    that float32 is wide enough.
    """
    n, first_x, first_y = len(x), x.item(0), y.item(0)
    if not math.isfinite(first_x - first_y):
        return _not_finite(n, x.dtype)
    dx, dy = x - first_x, y - first_y
    mean_x, mean_y = float(np.add.reduce(dx)) / n, float(np.add.reduce(dy)) / n
    if not math.isfinite(mean_x - mean_y):
        return _not_finite(n, x.dtype)
    dx -= mean_x
    dy -= mean_y
    xx, xy, yy = float(dx.dot(dx)), float(dx.dot(dy)), float(dy.dot(dy))
    if min(xx, yy) < _TINY and x.dtype != np.float64:  # the squares may have underflowed
        return centre(x.astype(np.float64), y.astype(np.float64))
    offset = (first_x - first_y) + (mean_x - mean_y)
    return dx, dy, Moments(n, 0.0, 0.0, xx, xy, yy, offset)


def _not_finite(n: int, dtype: np.dtype) -> tuple[np.ndarray, np.ndarray, Moments]:
    """All NaN, without the warnings on the way there."""
    nan = np.full(n, math.nan, dtype)
    return nan, nan, Moments(n, 0.0, 0.0, math.nan, math.nan, math.nan, math.nan)


def combine(x: np.ndarray, a: float, y: np.ndarray, b: float) -> np.ndarray:
    """``a x + b y``, with no more memory than the result takes."""
    add = daxpy if x.dtype == np.float64 else saxpy
    return add(y, x * a, a=b)


class Runs(NamedTuple):
    """Pairs brought together group by group."""

    order: np.ndarray | None
    """Where they were; None if they were together."""
    begin: np.ndarray
    """The place of the first of each group, in ascending order of the group."""
    size: np.ndarray
    """Pairs of each group."""

    @classmethod
    def of(cls, group: np.ndarray) -> "Runs":
        """Those of one group number for each pair."""
        order = None
        if (group[1:] < group[:-1]).any():
            order = np.argsort(group, kind="stable")
            group = group[order]
        ends = np.flatnonzero(group[1:] != group[:-1]) + 1
        bounds = np.concatenate(([0], ends, [len(group)]))
        return cls(order, bounds[:-1], bounds[1:] - bounds[:-1])

    def number(self) -> np.ndarray:
        """The number of each pair's group."""
        return np.repeat(np.arange(len(self.size)), self.size)

    def gather(self, pair: np.ndarray) -> np.ndarray:
        """The columns of ``pair``, brought together."""
        return pair if self.order is None else pair[:, self.order]

    def restore(self, values: np.ndarray) -> np.ndarray:
        """The values where they were before."""
        if self.order is None:
            return values
        out = np.empty_like(values)
        out[self.order] = values
        return out

    def spread(self, values: np.ndarray, dtype: np.dtype) -> np.ndarray:
        """A value of each group, at each of its pairs."""
        return np.repeat(values.astype(dtype), self.size)

    @np.errstate(invalid="ignore")
    def centre(self, pair: np.ndarray) -> tuple[np.ndarray, Moments]:
        """As :func:`centre`, group by group, for samples of shape (2, n)."""
        first = pair[:, self.begin]
        centred = pair - np.repeat(first, self.size, axis=1)
        mean = np.add.reduceat(centred, self.begin, axis=1) / self.size.astype(pair.dtype)
        centred -= np.repeat(mean, self.size, axis=1)
        dx, dy = centred
        xx, xy, yy = (np.add.reduceat(each, self.begin) for each in (dx * dx, dx * dy, dy * dy))
        if pair.dtype != np.float64 and ((np.minimum(xx, yy) < _TINY) & (self.size > 1)).any():
            return self.centre(pair.astype(np.float64))
        xx, xy, yy, first, mean = (each.astype(np.float64) for each in (xx, xy, yy, first, mean))
        offset = (first[0] - first[1]) + (mean[0] - mean[1])
        return centred, Moments(self.size, 0.0, 0.0, xx, xy, yy, offset)


class Pooled(NamedTuple):
    """The values that share a block with others: all that has a gradient."""

    member: np.ndarray
    """Their flat places, row by row."""
    label: np.ndarray
    """The number of the block of each."""
    size: np.ndarray
    """Of each block."""

    def split(self, n: int) -> tuple["Pooled", "Pooled"]:
        """Those of the first row of n values, and those of the second."""
        first = np.count_nonzero(self.member < n)
        return (
            Pooled(self.member[:first], self.label[:first], self.size),
            Pooled(self.member[first:] - n, self.label[first:], self.size),
        )

    def pull_back(self, grad: np.ndarray, strength: float) -> np.ndarray:
        """The gradient of the values, flat, from that of their ranks."""
        out = np.zeros(len(grad), grad.dtype)
        if len(self.member):
            pooled = grad[self.member]
            mean = np.bincount(self.label, pooled, len(self.size)) / self.size
            out[self.member] = (pooled - mean[self.label]) / strength
        return out


def rank(array: np.ndarray, strength: float, group: np.ndarray | None = None) -> tuple[np.ndarray, Pooled]:
    """What :func:`corrloss.ranks.rank` does, for float32 or float64."""
    if group is None and are_one_block(array, strength):
        return _rank_one_block(array, strength)
    order, place, segment = _sort_rows(array) if group is None else _sort_groups(array, group)
    values = array.ravel()[order].astype(np.float64)
    loads = values - strength * place
    step = loads.max() - loads.min() + strength
    if not math.isfinite(step):
        return _rank_finite_rows(array, strength, group)
    loads += step * segment  # segments in ascending steps are never pooled
    first = isotonic_regression(loads.ravel()).blocks
    size, first = first[1:] - first[:-1], first[:-1]
    shared = size > 1
    size, first = size[shared], first[shared]
    label = np.arange(len(size)).repeat(size)
    begin = size.cumsum() - size
    member = (first - begin)[label]
    member += np.arange(len(label))
    ranks = loads
    ranks[...] = place
    ranks += 1.0
    if len(member):
        # From the block's first value, so that a strength far below the values costs no digits.
        deviation = values.ravel()[member]
        deviation -= values.ravel()[first][label]
        mean_rank = place[first % len(place)] + (size + 1) / 2
        mean_deviation = np.add.reduceat(deviation, begin) / size
        deviation /= strength
        deviation += (mean_rank - mean_deviation / strength)[label]
        ranks.ravel()[member] = deviation
    out = values.reshape(array.shape)
    out.ravel()[order] = ranks
    return out, Pooled(order.ravel()[member], label, size)


def _rank_one_block(array: np.ndarray, strength: float) -> tuple[np.ndarray, Pooled]:
    """Rows whose range alone proves that each is one block need no sorting."""
    count, n = array.shape
    ranks = array.astype(np.float64)
    ranks -= ranks.mean(axis=1, keepdims=True)
    ranks /= strength
    ranks += (n + 1) / 2
    return ranks, Pooled(np.arange(array.size), np.repeat(np.arange(count), n), np.full(count, n))


def _rank_finite_rows(array: np.ndarray, strength: float, group: np.ndarray | None):
    """A row with a NaN or an infinity has no ranks, all of them are NaN; the others are as ever."""
    bad = ~np.isfinite(array).all(axis=1, keepdims=True)
    ranks, pooled = rank(np.where(bad, np.zeros_like(array), array), strength, group)
    return np.where(bad, np.nan, ranks), pooled


def _sort_rows(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where the values of each row were, in ascending order; their places in the row; the row's number."""
    count, n = rows.shape
    row, place = np.arange(count)[:, None], np.arange(n)
    if n < _LONG or rows.dtype != np.float32:
        return rows.argsort(axis=1) + n * row, place, row
    keys = _ordered(rows) << 32  # value and place in one integer
    keys |= place
    keys.sort(axis=1)
    keys &= 0xFFFFFFFF
    keys += n * row
    return keys, place, row


def _sort_groups(rows: np.ndarray, group: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """As :func:`_sort_rows`, for the groups of each row and flat."""
    count = len(rows) * (int(group.max()) + 1)
    segment = (group + (group.max() + 1) * np.arange(len(rows))[:, None]).ravel()
    bits = segment.size.bit_length()
    if rows.dtype != np.float32 or count.bit_length() + 32 + bits > 63:
        order = np.lexsort((rows.ravel(), segment))
        segment = segment[order]
    else:  # group, value and place in one integer
        keys = (segment << 32) + _ordered(rows.ravel()) + (1 << 31)
        keys <<= bits
        keys |= np.arange(keys.size)
        keys.sort()
        order, segment = keys & ((1 << bits) - 1), keys >> (32 + bits)
    begin = np.concatenate(([0], np.flatnonzero(segment[1:] != segment[:-1]) + 1))
    return order, np.arange(len(segment)) - np.repeat(begin, np.diff(begin, append=len(segment))), segment


def _ordered(values: np.ndarray) -> np.ndarray:
    """float32 as int64 of the same order: its bits, those of the negative ones turned over."""
    bits = values.view(np.int32).astype(np.int64)
    bits ^= (bits >> 31) & 0x7FFFFFFF
    return bits
