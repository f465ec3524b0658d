"""Seconds of training steps with and without the loss, interleaved in one process."""

from __future__ import annotations

import copy
import inspect
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partialmethod

import mmdet.datasets
import mmdet.models  # noqa: F401 -- registers mmdet's modules
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.logging import MessageHub, MMLogger
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from mmengine.runner import Runner, set_random_seed
from torch import Tensor, nn

import corrloss.engine.accumulation  # registers the wrapper of a precision
import corrloss.heads  # noqa: F401 -- registers the heads with the loss
from corrloss.heads.detr import QueryCorrelationMixin
from corrloss.heads.mixin import CorrelationMixin
from corrloss.heads.observe import replaced_attribute
from corrloss.heads.roi import RoICorrelationMixin
from corrloss.heads.sparse_rcnn import CorrelationDIIHead

WARM_UP = 5  # untimed steps: allocations, and a first change of the weights
#: Class and method that add the loss to those of mmdet. Its time without mmdet's method is that of the loss.
PATCH_POINTS = {
    CorrelationMixin: "loss_by_feat",
    QueryCorrelationMixin: "loss_by_feat",
    RoICorrelationMixin: "loss_and_target",
    CorrelationDIIHead: "loss_and_target",
}


@dataclass
class Timing:
    """Seconds of each timed step of one model; ``own`` is empty for a model without the loss."""

    steps: list[float] = field(default_factory=list)  # forward, losses, backward, optimiser
    own: list[float] = field(default_factory=list)  # positives, loss, its gradient at the head's predictions


def measure(configs: Sequence[dict], iterations: int, log: Callable[[str], None]) -> list[Timing]:
    """Time one detector's training with and without the loss, interleaved step by step, on the same batches.

    Args:
        configs: Resolved configs of the baseline and of its variants.
        iterations: Steps to time.
        log: Called with one line at the start.

    Returns:
        The seconds of two models of the baseline, whose difference is noise, and of one of each variant: CPU
        time of the process, which other programs affect little; on a GPU wall-clock time, synchronised.
    """
    configs = [Config(copy.deepcopy(config)) for config in configs]
    torch.set_num_threads(configs[0].bench.threads)
    MMLogger.get_current_instance().setLevel("WARNING")
    models = [Trained(config) for config in (configs[0], *configs)]
    steps = f"{WARM_UP} + {iterations} steps each, on {models[0].device}"
    log(f"{configs[0].bench.run}  {len(models)} models, {steps}")
    timings = [Timing() for _ in models]
    for iteration, batch in zip(range(-WARM_UP, iterations), batches(configs[0]), strict=False):
        MessageHub.get_current_instance().update_info("epoch", 0)  # TOOD reads it
        for offset in range(len(models)):  # each iteration starts with another model
            position = (iteration + offset) % len(models)
            model, timing = models[position], timings[position]
            step = model.timed_step(copy.deepcopy(batch))
            own = [model.timed_loss(copy.deepcopy(batch))] if model.heads else []
            if iteration >= 0:
                timing.steps.append(step)
                timing.own += own
    return timings


class Trained:
    """A model with its optimiser."""

    def __init__(self, config: Config) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        config.model.backbone.init_cfg = None  # seconds do not depend on pretrained weights
        set_random_seed(config.randomness.seed)
        init_default_scope(config.default_scope)
        self.model = MODELS.build(copy.deepcopy(config.model))
        self.model.init_weights()
        self.model.to(self.device).train()
        if config.bench.channels_last:
            self.model.to(memory_format=torch.channels_last)
        self.optimiser = build_optim_wrapper(self.model, copy.deepcopy(config.optim_wrapper))
        self.heads = [head for head in self.model.modules() if getattr(head, "loss_corr", None) is not None]

    def timed_step(self, batch: dict) -> float:
        """Seconds of one training step."""
        start = self._now()
        self.model.train_step(batch, self.optimiser)
        return self._now() - start

    def timed_loss(self, batch: dict) -> float:
        """Seconds of positives, loss and gradient on one batch; the weights do not change.

        Timed is the method of this package that calls mmdet's (see `PATCH_POINTS`), without mmdet's.
        """
        stopwatch = Stopwatch(self._now)
        with ExitStack() as stack:
            for find, wrapper in ((_timed_method, _timed_loss), (_method_of_mmdet, _excluded)):
                for owner, name in {find(head) for head in self.heads}:
                    wrapped = partialmethod(wrapper, getattr(owner, name), stopwatch)
                    stack.enter_context(replaced_attribute(owner, name, wrapped))
            losses = self.model(**self.model.data_preprocessor(batch, True), mode="loss")
        terms = [loss for name, loss in losses.items() if name.endswith("loss_corr")]
        start = self._now()
        torch.autograd.grad(sum(terms), stopwatch.predictions, allow_unused=True)
        return stopwatch.seconds + self._now() - start

    def _now(self) -> float:
        if self.device.type == "cpu":
            return time.process_time()
        torch.cuda.synchronize()
        return time.perf_counter()


@dataclass
class Stopwatch:
    """Seconds of the loss in one step, by the clock ``now``."""

    now: Callable[[], float]
    seconds: float = 0.0
    #: Leaf tensors in place of the head's predictions, where the gradient of the loss ends.
    predictions: list[Tensor] = field(default_factory=list)

    def detached(self, value: object) -> object:
        """The same value with a leaf, noted in ``predictions``, for each tensor that has a gradient.

        VFNet computes its refined predictions from its initial ones: without leaves the gradient would
        continue into mmdet's convolutions.
        """
        if isinstance(value, list | tuple):
            return type(value)(self.detached(each) for each in value)
        if not isinstance(value, Tensor) or not value.requires_grad:
            return value
        self.predictions.append(value.detach().requires_grad_())
        return self.predictions[-1]


def _timed_loss(head: nn.Module, method: Callable, stopwatch: Stopwatch, *args, **kwargs) -> object:
    """Call ``method`` of ``head`` on leaf tensors and add its seconds."""
    args = stopwatch.detached(args)
    kwargs = {name: stopwatch.detached(value) for name, value in kwargs.items()}
    start = stopwatch.now()
    result = method(head, *args, **kwargs)
    stopwatch.seconds += stopwatch.now() - start
    return result


def _excluded(head: nn.Module, method: Callable, stopwatch: Stopwatch, *args, **kwargs) -> object:
    """Call ``method`` of ``head`` and subtract its seconds, which a timed method includes."""
    start = stopwatch.now()
    result = method(head, *args, **kwargs)
    stopwatch.seconds -= stopwatch.now() - start
    return result


def clock() -> str:
    """What is measured, and on which device."""
    if torch.cuda.is_available():
        return f"wall-clock time on one {torch.cuda.get_device_name()}, synchronised at both ends"
    return f"CPU time of the process, {torch.get_num_threads()} thread(s), {platform.machine()}"


def _timed_method(head: nn.Module) -> tuple[type, str]:
    """Class and method of this package that call mmdet's method."""
    owner = next(kind for kind in type(head).__mro__ if kind in PATCH_POINTS)
    return owner, PATCH_POINTS[owner]


def _method_of_mmdet(head: nn.Module) -> tuple[type, str]:
    """Class and method that the timed method calls by ``super()``."""
    owner, name = _timed_method(head)
    lineage = type(head).__mro__
    below = lineage[lineage.index(owner) + 1 :]
    return next(kind for kind in below if inspect.isfunction(vars(kind).get(name))), name


def batches(config: Config) -> Iterator[dict]:
    """Batches of the training data, endlessly."""
    loader = Runner.build_dataloader(copy.deepcopy(config.train_dataloader), seed=config.randomness.seed)
    while True:
        yield from loader
