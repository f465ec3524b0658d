"""Hooks of a training: progress, loss curve, seconds, memory, divergence, the onset of Correlation Loss."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner

from corrloss.engine.environment import peak_memory_mb
from corrloss.loss import CorrelationLoss

REPORT_SECONDS = 10.0
#: A loss has exploded at this multiple of its running mean.
EXPLOSION = 1000.0
#: Iterations between two checks of the losses on a GPU: a check synchronises with the device.
CHECK_EVERY = 50


class ProgressHook(Hook):
    """Logs the run, its progress, and the time to go, every few seconds.

    Args:
        run: Name of the run.
        log: Called with one line of text.
        seconds: Shortest time between two lines.
    """

    priority = "VERY_LOW"

    def __init__(self, run: str, log: Callable[[str], None], seconds: float = REPORT_SECONDS) -> None:
        self.run = run
        self.log = log
        self.seconds = seconds

    def before_train(self, runner: Runner) -> None:
        """Store the time and the (possibly resumed) iteration at the start."""
        self._start = self._last = time.monotonic()
        self._first = runner.iter

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        """Log a line if the last one is old enough, and at the end."""
        done, now = runner.iter + 1, time.monotonic()
        if now - self._last < self.seconds and done < runner.max_iters:
            return
        self._last = now
        left = (now - self._start) / (done - self._first) * (runner.max_iters - done)
        loss = float(outputs["loss"].detach())
        self.log(
            f"{self.run}  iteration {done}/{runner.max_iters} ({done / runner.max_iters:.0%})  "
            f"loss {loss:.3f}{_terms(outputs)}  {_clock(left)} to go"
        )


class CurveHook(Hook):
    """Records the mean of each loss term over intervals of equal length.

    Args:
        points: Number of intervals that the training is divided into.

    Attributes:
        curve: One dict per interval: ``iteration`` (its last) and the mean of each loss term.
    """

    priority = "VERY_LOW"

    def __init__(self, points: int = 50) -> None:
        self.points = points
        self.curve: list[dict[str, float]] = []
        self._sums: dict[str, float] = {}
        self._count = 0

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        """Add this iteration to the current interval; append the means at its end."""
        for name, value in outputs.items():
            # Kept as tensors: reading one would force a GPU synchronisation in every iteration.
            self._sums[name] = self._sums.get(name, 0.0) + value.detach()
        self._count += 1
        interval = max(1, runner.max_iters // self.points)
        done = runner.iter + 1
        if done % interval == 0 or done == runner.max_iters:
            means = {name: float(total) / self._count for name, total in self._sums.items()}
            self.curve.append({"iteration": done, **means})
            self._sums, self._count = {}, 0

    def state(self) -> dict:
        """The state that a resume needs, as plain types and tensors."""
        return {"curve": list(self.curve), "sums": dict(self._sums), "count": self._count}

    def set_state(self, state: dict) -> None:
        """Restore what `state` returned."""
        self.curve, self._sums, self._count = list(state["curve"]), dict(state["sums"]), state["count"]


class StepClock(Hook):
    """Notes the seconds of each update, and those of them in which it waited for images.

    Attributes:
        seconds: Of each update with its loading; the device has finished it.
        loading: Of each update, the wait for its images.
    """

    priority = "VERY_HIGH"

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.loading: list[float] = []

    def before_train_epoch(self, runner: Runner) -> None:
        """Start the clock."""
        self._last = time.monotonic()

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch=None) -> None:
        """The images are there."""
        self.loading.append(time.monotonic() - self._last)

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        """The update is done, once the device says so."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        now = time.monotonic()
        self.seconds.append(now - self._last)
        self._last = now


class MemoryHook(Hook):
    """Notes the peak of the memory; mmengine resets that of a GPU with each line of its own log.

    Attributes:
        peak: In MiB: the GPU's where there is one, else this process's.
    """

    priority = "VERY_HIGH"  # before mmengine's log

    def __init__(self) -> None:
        self.peak = peak_memory_mb()

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        """Update the peak."""
        self.peak = max(self.peak, peak_memory_mb())


class TrainingDiverged(ArithmeticError):
    """A loss is no longer finite, or has exploded; the message names iteration and terms."""


class DivergenceHook(Hook):
    """Stops a training whose loss is not finite or has exploded.

    On a GPU the losses are checked every `CHECK_EVERY` iterations, because a check forces a
    synchronisation; the message still names the iteration in which the loss diverged.
    """

    priority = "HIGHEST"  # before the broken losses reach the curve or a checkpoint

    def __init__(self) -> None:
        self._pending: list[tuple[int, dict]] = []
        self._mean: float | None = None

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        """Check the losses when it is time.

        Raises:
            TrainingDiverged: One of them is not finite or has exploded.
        """
        self._pending.append((runner.iter + 1, {name: term.detach() for name, term in outputs.items()}))
        last = batch_idx + 1 == len(runner.train_dataloader)
        if last or not outputs["loss"].is_cuda or len(self._pending) == CHECK_EVERY:
            self._check()

    def _check(self) -> None:
        pending, self._pending = self._pending, []
        losses = torch.stack([terms["loss"] for _, terms in pending]).tolist()
        for (iteration, terms), loss in zip(pending, losses, strict=True):
            if not math.isfinite(loss) or (self._mean and loss > EXPLOSION * self._mean):
                shown = ", ".join(f"{name} {float(term):.4g}" for name, term in terms.items())
                kind = "exploded" if math.isfinite(loss) else "is not finite"
                raise TrainingDiverged(f"the loss {kind} at iteration {iteration}: {shown}")
            self._mean = loss if self._mean is None else 0.98 * self._mean + 0.02 * loss


def _terms(outputs: dict) -> str:
    """Terms of the loss, summed over stages and layers such as ``stage0_loss_cls``.

    >>> _terms({"loss_cls": torch.tensor(0.5), "d0.loss_cls": torch.tensor(1.0), "loss": torch.tensor(1.5)})
    ' (cls 1.500)'
    """
    sums: dict[str, float] = {}
    for name, value in outputs.items():
        if "loss_" in name:
            term = name.partition("loss_")[2]
            sums[term] = sums.get(term, 0.0) + float(value.detach())
    return f" ({', '.join(f'{term} {value:.3f}' for term, value in sums.items())})" if sums else ""


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


class OnsetHook(Hook):
    """Sets λ of every Correlation Loss in a model before each update, from the update's number alone.

    A training that is resumed therefore needs no state of this hook.

    Args:
        kind: ``after_warm_up``: λ is 0 in the first ``updates``; ``ramp``: it rises over them, from 0.
        updates: Updates of the weights until λ has its full value, > 0.
    """

    def __init__(self, kind: str, updates: int) -> None:
        self.kind = kind
        self.updates = updates

    def before_train(self, runner: Runner) -> None:
        """Find the losses, and the λ that the config gave them."""
        losses = (module for module in runner.model.modules() if isinstance(module, CorrelationLoss))
        self._weights = {loss: loss.weight for loss in losses}

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch=None) -> None:
        """Set λ of this update."""
        share = min(runner.iter / self.updates, 1.0)
        for loss, weight in self._weights.items():
            loss.weight = weight * (share if self.kind == "ramp" else float(share == 1.0))
