"""Correlation Loss for object detectors (Kahraman et al., AAAI 2023).

The names exported here need PyTorch alone. The detector heads, the experiments and the analysis live in
subpackages with needs of their own (``pip install corrloss[bench]``).
"""

from __future__ import annotations

import importlib

__version__ = "0.1.0"

_HOMES = {
    "CorrelationLoss": "corrloss.loss",
    "concordance": "corrloss.coefficients",
    "pearson": "corrloss.coefficients",
    "soft_rank": "corrloss.ranks",
    "spearman": "corrloss.coefficients",
    "spearman_exact": "corrloss.coefficients",
}

__all__ = [
    "CorrelationLoss",
    "__version__",
    "concordance",
    "pearson",
    "soft_rank",
    "spearman",
    "spearman_exact",
]


def __getattr__(name: str) -> object:
    """Import an exported name when it is first used: the analysis and the tables never load torch."""
    if name in _HOMES:
        globals()[name] = value = getattr(importlib.import_module(_HOMES[name]), name)
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
