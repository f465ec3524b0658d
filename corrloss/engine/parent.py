"""A process that ends with the one that started it.

Locks on GPUs and on a run's folder are held by the process that took them. A process that it started and that
outlives it would go on computing with no lock.
"""

from __future__ import annotations

import ctypes
import signal
import sys

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


def end_with_parent() -> None:
    """Let the system kill this process when its parent ends, however that comes; only Linux can."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
