"""Bit-exact resume of a training that was interrupted at any instant.

A checkpoint holds everything that the rest of a training depends on: weights, optimiser, schedules, the
position in the epoch, and the random states of every process, both those at the start of the epoch (which
determine the order of the images and the seeds of the loading workers) and the current ones. It holds plain
types and tensors only, so that ``torch.load`` reads it with ``weights_only=True``.
"""

from __future__ import annotations

import time

import torch.distributed as dist
from mmengine.hooks import Hook
from mmengine.registry import LOOPS
from mmengine.runner import EpochBasedTrainLoop, Runner

from corrloss.engine.checkpoints import KEPT, Checkpoints
from corrloss.engine.hooks import CurveHook
from corrloss.engine.random_states import random_states, seed_by_rank, set_random_states
from corrloss.files import atomic_write

#: Iterations between two checkpoints within an epoch; the end of each epoch has one in any case.
CHECKPOINT_ITERATIONS = 1000


class ResumeHook(Hook):
    """Writes checkpoints atomically, and restores a resumed training to the state of its checkpoint.

    Args:
        checkpoints: Where checkpoints go; all but the newest `KEPT` are removed.
        curve: Hook whose loss curve is stored and restored too.
        every: Iterations between two checkpoints within an epoch.
    """

    priority = "LOWEST"  # after the schedulers have stepped and the curve has its point

    def __init__(
        self, checkpoints: Checkpoints, curve: CurveHook, every: int = CHECKPOINT_ITERATIONS
    ) -> None:
        self.checkpoints = checkpoints
        self.curve = curve
        self.every = every
        self._start = time.monotonic()
        self._resumed: dict | None = None
        self._epoch_states: dict = {}

    @property
    def seconds(self) -> float:
        """Seconds of training so far, summed over all starts."""
        earlier = 0.0 if self._resumed is None else self._resumed["seconds"]
        return earlier + time.monotonic() - self._start

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Remove mmengine's log history, whose objects ``weights_only=True`` refuses; add our own entry."""
        checkpoint["message_hub"] = {"log_scalars": {}, "runtime_info": {}, "resumed_keys": {}}
        checkpoint["bench"] = self._bench

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Restore the curve; random states are restored before the first new iteration."""
        self._resumed = checkpoint["bench"]
        self.curve.set_state(self._resumed["curve"])

    def before_train(self, runner: Runner) -> None:
        """Start the clock."""
        self._start = time.monotonic()

    def before_train_epoch(self, runner: Runner) -> None:
        """Store the random states at the start of the epoch; in a resumed epoch, restore those."""
        states = self._resumed and self._resumed["states"][_rank()]
        if states and runner.iter == self._resumed["iteration"]:
            runner.train_loop.states_after_skipping = states["now"]
            set_random_states(states["epoch"] if _skipped(runner.train_loop) else states["now"])
        elif runner.iter == 0 and _world_size() > 1:
            seed_by_rank(_rank())
        self._epoch_states = random_states()

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        """Write a checkpoint every `every` iterations."""
        last_of_epoch = batch_idx + 1 == len(runner.train_dataloader)
        if (runner.iter + 1) % self.every == 0 and not last_of_epoch:
            self._save(runner, runner.iter + 1, by_epoch=False)

    def after_train_epoch(self, runner: Runner) -> None:
        """Write the checkpoint of a finished epoch."""
        self._save(runner, runner.iter, by_epoch=True)

    def _save(self, runner: Runner, iteration: int, by_epoch: bool) -> None:
        states = _of_all_processes({"epoch": self._epoch_states, "now": random_states()})
        self._bench = {
            "identity": self.checkpoints.folder.name,
            "iteration": iteration,
            "states": states,
            "curve": self.curve.state(),
            "seconds": self.seconds,
        }
        if _rank() == 0:
            with atomic_write(self.checkpoints.path(iteration)) as temporary:
                runner.save_checkpoint(str(temporary.parent), temporary.name, by_epoch=by_epoch)
            self.checkpoints.remove_all_but(KEPT)


@LOOPS.register_module()
class ResumableEpochLoop(EpochBasedTrainLoop):
    """mmengine's loop over epochs, able to start within an epoch.

    Batches of finished iterations are loaded once more and dropped, so that the loading workers reach the
    random states that they had.
    """

    states_after_skipping: dict | None = None

    def run_iter(self, idx: int, data_batch: dict) -> None:
        """Train on one batch, or drop it if the training had already used it."""
        skipped = _skipped(self)
        if idx >= skipped:
            super().run_iter(idx, data_batch)
        elif idx + 1 == skipped:
            set_random_states(self.states_after_skipping)


def _skipped(loop: EpochBasedTrainLoop) -> int:
    """Iterations of the current epoch that are done."""
    return loop.iter - loop.epoch * len(loop.dataloader)


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
