"""One process at a time on a run's folder, by a lock that a dead process cannot hold."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout


@contextmanager
def exclusive(folder: Path, log: Callable[[str], None]) -> Iterator[None]:
    """Hold the folder's lock while the block runs; the system releases it when the process dies.

    While another process holds it, such as a training that outlived its Snakemake, this one waits. What a
    killed process left half-written in the folder is removed.

    Args:
        folder: Made if it is not there.
        log: Told once if there is to be waited, and for what.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # Without the fallback to a mere file, which would outlive a killed process.
    lock = FileLock(folder / ".lock", fallback_to_soft=False)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        log(f"{folder}: another process is at work on this run; waiting for it (fuser {folder}/.lock)")
        lock.acquire()
    try:
        for half in folder.rglob(".*.part"):
            half.unlink()
        yield
    finally:
        lock.release()
