"""What the loss costs: training steps with and without it, taken in turns in one process."""

from __future__ import annotations

import copy
import inspect
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

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

import corrloss.heads  # noqa: F401 -- registers the heads with the loss
from corrloss.engine.postprocessing import replaced
from corrloss.heads.detr import QueryCorrelationMixin
from corrloss.heads.mixin import CorrelationMixin
from corrloss.heads.roi import RoICorrelationMixin
from corrloss.heads.sparse_rcnn import CorrelationDIIHead

WARM_UP = 5  # steps before the clock counts: allocations, and a first change of the weights
#: Where the heads take over from mmdet: class and method. What it takes beyond mmdet's own is the loss's.
PATCH_POINTS = {
    CorrelationMixin: "loss_by_feat",
    QueryCorrelationMixin: "loss_by_feat",
    RoICorrelationMixin: "loss_and_target",
    CorrelationDIIHead: "loss_and_target",
}


@dataclass
class Timing:
    """Seconds of each timed step of one model.

    Attributes:
        steps: Of the whole step: forward, losses, backward, optimiser.
        own: Of finding the positives, the loss and its gradient down to the head's predictions; empty for a
            model without the loss.
    """

    steps: list[float] = field(default_factory=list)
    own: list[float] = field(default_factory=list)


def measure(configs: Sequence[dict], iterations: int, log: Callable[[str], None]) -> list[Timing]:
    """Time one detector's training with and without the loss, step by step in turns, on the same batches.

    Args:
        configs: Resolved configs of the baseline and of its variants.
        iterations: Steps to time.
        log: Takes a line when it begins.

    Returns:
        The seconds of two models of the baseline, whose difference is noise, and of one of each variant: CPU
        time of the process, which other programs disturb little; on a GPU the time until it has finished.
    """
    configs = [Config(copy.deepcopy(config)) for config in configs]
    torch.set_num_threads(configs[0].bench.threads)
    MMLogger.get_current_instance().setLevel("WARNING")
    models = [Trained(config) for config in (configs[0], *configs)]
    steps = f"{WARM_UP} + {iterations} steps each, on {models[0].device}"
    log(f"{configs[0].bench.run}  {len(models)} models, {steps}")
    timings = [Timing() for _ in models]
    for iteration, batch in zip(range(-WARM_UP, iterations), batches(configs[0]), strict=False):
        MessageHub.get_current_instance().update_info("epoch", 0)  # where TOOD looks it up
        for offset in range(len(models)):  # another one begins each time
            position = (iteration + offset) % len(models)
            model, timing = models[position], timings[position]
            step = model.timed_step(copy.deepcopy(batch))
            own = model.timed_loss(copy.deepcopy(batch)) if model.heads else None
            if iteration >= 0:
                timing.steps.append(step)
                timing.own += [] if own is None else [own]
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
        """Seconds of positives, loss and gradient on one batch; the weights stay as they are."""
        watch = _Watch(self._now)
        with ExitStack() as stack:
            for owner, name in {_seam(head) for head in self.heads}:
                stack.enter_context(replaced(owner, name, watch.outer(getattr(owner, name))))
            for owner, name in {_below_seam(head) for head in self.heads}:
                stack.enter_context(replaced(owner, name, watch.inner(getattr(owner, name))))
            losses = self.model(**self.model.data_preprocessor(batch, True), mode="loss")
        terms = [loss for name, loss in losses.items() if name.endswith("loss_corr")]
        start = self._now()
        torch.autograd.grad(sum(terms), watch.predictions, allow_unused=True)
        return watch.seconds + self._now() - start

    def _now(self) -> float:
        if self.device.type == "cpu":
            return time.process_time()
        torch.cuda.synchronize()
        return time.perf_counter()


class _Watch:
    """Adds up what the outer functions take beyond the inner ones that they call."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.now = now
        self.seconds = 0.0
        self.predictions: list[Tensor] = []

    def outer(self, function: Callable) -> Callable:
        """Time counts; the predictions among the arguments are where gradients are taken down to.

        They are cut off from the model: VFNet's refined predictions are made from its first ones.
        """

        def timed(head, *args, **kwargs):
            args, kwargs = self._cut_off(args), {name: self._cut_off(value) for name, value in kwargs.items()}
            return self._counted(function, 1, (head, *args), kwargs)

        return timed

    def _cut_off(self, value: object) -> object:
        """The same value with a leaf for each tensor that has a gradient."""
        if isinstance(value, list | tuple):
            return type(value)(self._cut_off(each) for each in value)
        if not isinstance(value, Tensor) or not value.requires_grad:
            return value
        self.predictions.append(value.detach().requires_grad_())
        return self.predictions[-1]

    def inner(self, function: Callable) -> Callable:
        """Time is taken off again."""
        return lambda *args, **kwargs: self._counted(function, -1, args, kwargs)

    def _counted(self, function: Callable, sign: int, args: tuple, kwargs: dict) -> object:
        start = self.now()
        result = function(*args, **kwargs)
        self.seconds += sign * (self.now() - start)
        return result


def clock() -> str:
    """What is measured, and on what."""
    if torch.cuda.is_available():
        return f"time on one {torch.cuda.get_device_name()}, waited for at both ends"
    return f"CPU time of the process, {torch.get_num_threads()} thread(s), {platform.machine()}"


def _seam(head: nn.Module) -> tuple[type, str]:
    """Class and method of this package that call mmdet's."""
    owner = next(kind for kind in type(head).__mro__ if kind in PATCH_POINTS)
    return owner, PATCH_POINTS[owner]


def _below_seam(head: nn.Module) -> tuple[type, str]:
    """Class and method that the seam's ``super()`` is."""
    owner, name = _seam(head)
    lineage = type(head).__mro__
    below = lineage[lineage.index(owner) + 1 :]
    return next(kind for kind in below if inspect.isfunction(vars(kind).get(name))), name


def batches(config: Config) -> Iterator[dict]:
    """Batches of the training data, without end."""
    loader = Runner.build_dataloader(copy.deepcopy(config.train_dataloader), seed=config.randomness.seed)
    while True:
        yield from loader
