"""Leases of GPUs on one machine: no two jobs are given the same GPU.

File locks of the operating system record which GPUs are taken; a lock is released when its process ends,
however that ends. Where a scheduler assigns GPUs, as on a cluster, leases are not needed.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from corrloss.engine.gpus import VISIBLE, Gpu, machine_gpus, visible_gpus
from corrloss.errors import CorrLossError

POLL_SECONDS = 1.0
#: Seconds between two checks that the lock files of taken GPUs still exist.
CHECK_SECONDS = 10.0


class LeaseError(CorrLossError):
    """More GPUs are requested than are visible."""


@contextmanager
def lease(
    folder: Path,
    count: int,
    log: Callable[[str], None],
    poll: float = POLL_SECONDS,
    check: float = CHECK_SECONDS,
) -> Iterator[list[str]]:
    """Wait for free GPUs, and make them the only visible ones of this process and its children.

    Enter it before anything asks CUDA for devices, which some libraries do when they are imported. All GPUs
    or none are taken, and one job at a time chooses: two jobs that wait for several GPUs cannot each hold a
    part of what the other needs, and a job that waits for many is not overtaken by others that need few.

    Args:
        folder: Folder of the lock files, on a local disk and the same for all jobs that share the GPUs.
        count: Number of GPUs; 0 takes none and hides all.
        log: Called with one line if the job has to wait, or if a lock file is deleted meanwhile.
        poll: Seconds between two attempts.
        check: Seconds between two checks of the lock files.

    Yields:
        The entries of ``CUDA_VISIBLE_DEVICES`` in the block.

    Raises:
        LeaseError: Fewer GPUs than ``count`` are visible.
    """
    if count == 0:
        with _environment({VISIBLE: ""}):  # else mmengine trains on the first GPU that it finds
            yield []
        return
    gpus = visible_gpus()
    if len(gpus) < count:
        listed = ", ".join(names[0] for names in machine_gpus()) or "no GPU"
        raise LeaseError(
            f"expected {count} GPUs, found {len(gpus)} ({VISIBLE}={os.environ.get(VISIBLE, 'not set')}, "
            f"nvidia-smi -L lists {listed}); make more visible, or request fewer"
        )
    _make_shared(folder)
    with ExitStack() as held:
        taken = _wait_for(folder, gpus, count, held, log, poll)
        files = [path for gpu in taken for path in _lock_files(folder, gpu)]
        held.enter_context(_restored_if_deleted(files, log, check))
        ids = [gpu.name for gpu in taken]
        held.enter_context(_environment({VISIBLE: ",".join(ids), "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}))
        yield ids


def pool() -> list[str]:
    """Names of the visible GPUs."""
    return [gpu.name for gpu in visible_gpus()]


def _make_shared(folder: Path) -> None:
    """Make a folder where all users can lock GPUs, and none can delete another one's lock files."""
    folder.mkdir(parents=True, exist_ok=True)
    with suppress(PermissionError):  # another user's: that one has done it
        folder.chmod(0o1777)


def _wait_for(
    folder: Path, gpus: list[Gpu], count: int, held: ExitStack, log: Callable[[str], None], poll: float
) -> list[Gpu]:
    waiting = False
    with _lock(folder / "queue.lock").acquire(poll_interval=poll):
        while True:
            with ExitStack() as locks:
                taken = _take(folder, gpus, count, locks)
                if len(taken) == count:
                    held.enter_context(locks.pop_all())
                    return taken
            if not waiting:
                log(f"waiting for {count} free of the GPUs {', '.join(gpu.name for gpu in gpus)} ({folder})")
                waiting = True
            time.sleep(poll)


def _take(folder: Path, gpus: list[Gpu], count: int, locks: ExitStack) -> list[Gpu]:
    """Lock up to ``count`` free GPUs."""
    taken: list[Gpu] = []
    for gpu in gpus:
        if len(taken) == count:
            break
        with ExitStack() as own, suppress(Timeout):
            for path in _lock_files(folder, gpu):
                own.enter_context(_lock(path).acquire(timeout=0))
            locks.enter_context(own.pop_all())
            taken.append(gpu)
    return taken


def _lock_files(folder: Path, gpu: Gpu) -> list[Path]:
    """One for each name: another job may know only one of them, for example if nvidia-smi fails there."""
    return [folder / (re.sub(r"[^\w.-]", "_", f"gpu-{name}") + ".lock") for name in gpu.names]


def _lock(path: Path) -> FileLock:
    # No fallback to a lock that is the mere existence of a file: it would outlive a killed job.
    return FileLock(path, mode=0o666, fallback_to_soft=False)


@contextmanager
def _restored_if_deleted(files: list[Path], log: Callable[[str], None], check: float) -> Iterator[None]:
    """Lock files again that are deleted during the block, for example by a clean-up of /tmp."""
    done = threading.Event()
    inodes = {path: _inode(path) for path in files}

    def watch() -> None:
        with ExitStack() as locks:
            while not done.wait(check):
                for path in [path for path in files if _inode(path) != inodes[path]]:
                    try:
                        locks.enter_context(_lock(path).acquire(timeout=0))
                        log(f"{path}: was deleted while this job held it; locked again")
                    except Timeout:
                        log(f"{path}: was deleted while this job held it; another job now uses this GPU, too")
                    inodes[path] = _inode(path)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()


def _inode(path: Path) -> int | None:
    """Identity of a file; None if there is none. Its times are set to now: no clean-up finds it old."""
    try:
        os.utime(path)
        return path.stat().st_ino
    except OSError:
        return None


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
