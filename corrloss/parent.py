"""Ending a child process with its parent.

Locks on GPUs and on a run's folder belong to the process that took them. A child process that outlives it
would continue computing without a lock, or downloading to a file that the next call continues.
"""

from __future__ import annotations

import ctypes
import signal
import sys

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


def end_with_parent() -> None:
    """Make the kernel kill this process when its parent ends, for whatever reason; Linux only."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
