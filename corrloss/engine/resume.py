"""Going on with a training that was cut off at any instant, as if it had not been.

A checkpoint holds all that the rest of a training depends on: weights, optimiser, schedules, the place in the
epoch, and the random states of every process, both those at the start of the epoch (which the order of the
images and the seeds of loading workers come from) and those of now. Nothing in it must be unpickled on trust.
"""

from __future__ import annotations

import os
import random
import re
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from mmengine.hooks import Hook
from mmengine.registry import FUNCTIONS, LOOPS
from mmengine.runner import EpochBasedTrainLoop, Runner

from corrloss.engine.hooks import CurveHook
from corrloss.files import atomic_write

#: Iterations between two checkpoints within an epoch; there is one at the end of each epoch in any case.
CHECKPOINT_ITERATIONS = 1000
#: Checkpoints that are kept: the newest, and the one before it for the case that the newest is damaged.
KEPT = 2
_NAME = re.compile(r"iter_(\d{9})\.pth")


class ResumeHook(Hook):
    """Writes checkpoints, whole or not at all, and takes a resumed training up where the checkpoint left it.

    Args:
        folder: Where checkpoints go; all but the newest :data:`KEPT` are removed.
        curve: Hook whose loss curve goes on too.
        every: Iterations between two checkpoints within an epoch.
    """

    priority = "LOWEST"  # after the schedulers have stepped and the curve was drawn

    def __init__(self, folder: Path, curve: CurveHook, every: int = CHECKPOINT_ITERATIONS) -> None:
        self.folder = folder
        self.curve = curve
        self.every = every
        self._start = time.monotonic()
        self._resumed: dict | None = None
        self._epoch_states: dict = {}

    @property
    def seconds(self) -> float:
        """Seconds of training so far, over all processes that the training took one after another."""
        earlier = 0.0 if self._resumed is None else self._resumed["seconds"]
        return earlier + time.monotonic() - self._start

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Take mmengine's log history out: ``torch.load`` refuses its objects unless it trusts the file."""
        checkpoint["message_hub"] = {"log_scalars": {}, "runtime_info": {}, "resumed_keys": {}}
        checkpoint["bench"] = self._bench

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Take up the curve, and the random states of this process for when the first new iteration comes."""
        self._resumed = checkpoint["bench"]
        self.curve.set_state(self._resumed["curve"])

    def before_train(self, runner: Runner) -> None:
        """Start the clock."""
        self._start = time.monotonic()

    def before_train_epoch(self, runner: Runner) -> None:
        """Note the random states that the epoch starts with, in a resumed one those that it started with."""
        states = self._resumed and self._resumed["states"][_rank()]
        if states and runner.iter == self._resumed["iteration"]:
            runner.train_loop.states_after_skipping = states["now"]
            set_random_states(states["epoch"] if _skipped(runner.train_loop) else states["now"])
        elif runner.iter == 0 and _world_size() > 1:
            _shift_seeds(_rank())
        self._epoch_states = random_states()

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        """Write a checkpoint within an epoch when it is time."""
        last_of_epoch = batch_idx + 1 == len(runner.train_dataloader)
        if (runner.iter + 1) % self.every == 0 and not last_of_epoch:
            self._save(runner, runner.iter + 1, by_epoch=False)

    def after_train_epoch(self, runner: Runner) -> None:
        """Write the checkpoint of a finished epoch."""
        self._save(runner, runner.iter, by_epoch=True)

    def _save(self, runner: Runner, iteration: int, by_epoch: bool) -> None:
        states = _of_all_processes({"epoch": self._epoch_states, "now": random_states()})
        self._bench = {
            "iteration": iteration,
            "states": states,
            "curve": self.curve.state(),
            "seconds": self.seconds,
        }
        if _rank() == 0:
            with atomic_write(self.folder / f"iter_{iteration:09d}.pth") as temporary:
                runner.save_checkpoint(str(temporary.parent), temporary.name, by_epoch=by_epoch)
            for old in checkpoints(self.folder)[KEPT:]:
                old.unlink()


@LOOPS.register_module()
class ResumableEpochLoop(EpochBasedTrainLoop):
    """mmengine's loop over epochs, able to start within one.

    Images of iterations that are done are loaded once more and dropped: so the loading workers come to the
    random states that they had.
    """

    states_after_skipping: dict | None = None

    def run_iter(self, idx: int, data_batch: dict) -> None:
        """Train on one batch, or drop it if it was trained on before the resume."""
        skipped = _skipped(self)
        if idx >= skipped:
            super().run_iter(idx, data_batch)
        elif idx + 1 == skipped:
            set_random_states(self.states_after_skipping)


@FUNCTIONS.register_module()
def seed_loading_worker(worker_id: int) -> None:
    """Seed a process that loads images by the epoch's random state, its number and the training process's.

    mmengine's own function seeds workers by the run's seed alone: in each epoch alike, unless they outlive
    it, and then their state is lost in a resume. torch's seed of a worker is drawn anew each epoch, from a
    state that checkpoints hold.

    Args:
        worker_id: Number of the worker, which torch adds to its seed by itself.
    """
    seed = (torch.initial_seed() + 1_000_003 * int(os.environ.get("RANK", 0))) % 2**32
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def newest_whole(folder: Path, log: Callable[[str], None]) -> Path | None:
    """The newest checkpoint of a folder that can be read; None if there is none.

    A damaged one (cut short, a wrong checksum) is renamed, and ``log`` is told.
    """
    for path in checkpoints(folder):
        reason = _damage(path)
        if reason is None:
            return path
        damaged = path.with_suffix(".damaged")
        path.replace(damaged)
        log(f"{path}: damaged checkpoint ({reason}); renamed {damaged.name}, the one before it is used")
    return None


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints of a folder, newest first."""
    return sorted((path for path in folder.glob("iter_*.pth") if _NAME.fullmatch(path.name)), reverse=True)


def _damage(path: Path) -> str | None:
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
        if broken is None:
            torch.load(path, map_location="cpu", weights_only=True, mmap=True)["bench"]
    except Exception as error:  # torch and zipfile raise many kinds for a damaged file
        return str(error) or type(error).__name__
    return None if broken is None else f"checksum of {broken}"


def _skipped(loop: EpochBasedTrainLoop) -> int:
    """Iterations of the current epoch that are done."""
    return loop.iter - loop.epoch * len(loop.dataloader)


def random_states() -> dict:
    """States of Python's, NumPy's and torch's generators, in plain types and tensors."""
    _, keys, position, has_gauss, gauss = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": (torch.from_numpy(keys.astype(np.int64)), int(position), int(has_gauss), float(gauss)),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
    }


def set_random_states(states: dict) -> None:
    """Set what :func:`random_states` returned."""
    version, internal, gauss_next = states["python"]
    random.setstate((version, tuple(internal), gauss_next))
    keys, position, has_gauss, gauss = states["numpy"]
    np.random.set_state(("MT19937", keys.cpu().numpy().astype(np.uint32), position, has_gauss, gauss))
    torch.set_rng_state(states["torch"].cpu())
    if states["cuda"] is not None:
        torch.cuda.set_rng_state(states["cuda"].cpu())


def _shift_seeds(rank: int) -> None:
    """Give each process random numbers of its own; mmengine seeds all alike, so that models start alike."""
    seed = (torch.initial_seed() + rank) % 2**32
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def _of_all_processes(states: dict) -> list[dict]:
    if _world_size() == 1:
        return [states]
    gathered = [None] * _world_size()
    dist.all_gather_object(gathered, states)
    return gathered


def _world_size() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def _rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0
