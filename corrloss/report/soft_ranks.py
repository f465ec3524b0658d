"""What the strength of a soft rank does to Spearman's coefficient, in plain numbers."""

from __future__ import annotations

import numpy as np
import torch
from scipy.stats import rankdata

from corrloss import ranks

RELEASED = 1.0  # the strength that the paper's code leaves at its default
STRENGTHS = (RELEASED, 0.1, 0.01, 0.001)


def soft_rank(values: np.ndarray, strength: float) -> np.ndarray:
    """Soft ranks of Blondel et al. (ICML 2020): `corrloss.soft_rank` for arrays.

    Args:
        values: (n,), any float type.
        strength: Regularisation, in units of `values`, > 0.

    Returns:
        float64 (n,), 1 for the smallest to n for the largest, closer together the stronger.

    Examples:
        >>> soft_rank(np.array([0.1, 0.9, 0.2]), 0.01).round(6).tolist()
        [1.0, 3.0, 2.0]
        >>> soft_rank(np.array([0.1, 0.9, 0.2]), 1.0).round(6).tolist()  # the values, shifted by 1.6
        [1.7, 2.5, 1.8]
    """
    return ranks.soft_rank(torch.from_numpy(np.asarray(values, dtype=float)), strength).numpy()


def correlations(scores: np.ndarray, ious: np.ndarray) -> dict[str, float]:
    """Pearson's coefficient, Spearman's of soft ranks at each of `STRENGTHS`, and of ordinary ranks.

    Args:
        scores: (n,), not all equal.
        ious: (n,), not all equal.

    Returns:
        ``Pearson``, ``strength 1`` ..., ``ranks``; -1 to 1.
    """
    pairs = {f"strength {s:g}": (soft_rank(scores, s), soft_rank(ious, s)) for s in STRENGTHS}
    pairs = {"Pearson": (scores, ious), **pairs, "ranks": (rankdata(scores), rankdata(ious))}
    return {name: float(np.corrcoef(*pair)[0, 1]) for name, pair in pairs.items()}
