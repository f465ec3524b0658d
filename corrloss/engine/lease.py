"""GPUs of one machine, handed to jobs so that no two are given the same one.

The system's file locks keep the account: a lock ends with the process that holds it, however that ended.
Where a scheduler hands out GPUs, as on a cluster, this is not needed.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import takewhile
from pathlib import Path

from filelock import FileLock, Timeout

from corrloss.errors import CorrLossError

VISIBLE = "CUDA_VISIBLE_DEVICES"
POLL_SECONDS = 1.0


class LeaseError(CorrLossError):
    """More GPUs are asked for than there are to choose from."""


@contextmanager
def lease(
    folder: Path, count: int, log: Callable[[str], None], poll: float = POLL_SECONDS
) -> Iterator[list[str]]:
    """Wait for free GPUs, and let this process and its children see them alone while the block runs.

    Must begin before anything asks CUDA for devices, which some libraries do when they are imported. All or
    none are taken, and one job at a time chooses: two that wait for several cannot each hold a part of what
    the other needs, and one that waits for many is not overtaken for ever by others that need few.

    Args:
        folder: Folder of the locks, on a disk of this machine and the same for all jobs that share its GPUs.
        count: GPUs to take; 0 takes none and changes nothing.
        log: Told once if there is to be waited.
        poll: Seconds between two looks.

    Yields:
        What ``CUDA_VISIBLE_DEVICES`` is set to, as a list.

    Raises:
        LeaseError: The pool has fewer GPUs than ``count``.
    """
    if count == 0:
        yield []
        return
    gpus = pool()
    if len(gpus) < count:
        raise LeaseError(
            f"{count} GPUs are asked for, and this machine offers {len(gpus)} ({VISIBLE} is "
            f"{os.environ.get(VISIBLE, 'not set')}, nvidia-smi lists {', '.join(_known()) or 'none'})"
        )
    if not folder.exists():
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o777)  # the users of a machine share its GPUs
    with ExitStack() as held:
        ids = _wait_for(folder, gpus, count, held, log, poll)
        held.enter_context(_environment({VISIBLE: ",".join(ids), "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}))
        yield ids


def pool() -> list[str]:
    """GPUs to choose from: those of ``CUDA_VISIBLE_DEVICES`` if it is set, else all that nvidia-smi lists."""
    if VISIBLE not in os.environ:
        return list(_known())
    # CUDA itself shows none from a negative one on.
    named = (name.strip() for name in os.environ[VISIBLE].split(","))
    return list(dict.fromkeys(takewhile(lambda name: name and not name.startswith("-"), named)))


def _known() -> dict[str, str]:
    """Number and UUID of each GPU of this machine, counted as with CUDA_DEVICE_ORDER=PCI_BUS_ID."""
    if not shutil.which("nvidia-smi"):
        return {}
    query = ["nvidia-smi", "--query-gpu=index,uuid", "--format=csv,noheader"]
    listed = subprocess.run(query, capture_output=True, text=True, check=False)
    lines = listed.stdout.splitlines() if listed.returncode == 0 else []
    return {number: uuid for number, uuid in (line.split(", ") for line in lines)}


def _wait_for(
    folder: Path, gpus: list[str], count: int, held: ExitStack, log: Callable[[str], None], poll: float
) -> list[str]:
    known = _known()  # one GPU has one lock, whether a pool names it by its number or its UUID
    locks = {name: _lock(folder, f"gpu-{known.get(name, name)}") for name in gpus}
    told = False
    with _lock(folder, "queue").acquire(poll_interval=poll):
        while True:
            with ExitStack() as taken:
                ids = _take(locks, count, taken)
                if len(ids) == count:
                    held.enter_context(taken.pop_all())
                    return ids
            if not told:
                log(f"waiting for {count} free of the GPUs {', '.join(gpus)} ({folder})")
                told = True
            time.sleep(poll)


def _lock(folder: Path, name: str) -> FileLock:
    # Without the fallback to a mere file, which would outlive a killed job. A name may have slashes in it.
    return FileLock(folder / (re.sub(r"[^\w.-]", "_", name) + ".lock"), mode=0o666, fallback_to_soft=False)


def _take(locks: dict[str, FileLock], count: int, taken: ExitStack) -> list[str]:
    ids = []
    for name, lock in locks.items():
        if len(ids) == count:
            break
        try:
            taken.enter_context(lock.acquire(timeout=0))
        except Timeout:
            continue
        ids.append(name)
    return ids


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
