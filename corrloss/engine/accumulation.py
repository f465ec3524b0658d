"""Gradient accumulation: one update of the weights from the batches that several processes would have.

An iteration of the runner is one update, so warm-up, schedule, progress and checkpoints count updates. No
checkpoint is written between two batches of an update.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import chain, islice

import torch
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from mmengine.registry import DATA_SAMPLERS, OPTIM_WRAPPERS
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import BatchSampler, Sampler


@DATA_SAMPLERS.register_module()
class ConsecutiveBatches(BatchSampler):
    """Several consecutive batches of another batch sampler as one list of indices.

    Args:
        sampler: Sampler of single indices.
        batch_size: Images of one of the batches.
        accumulate: Batches in one list; the last list of an epoch may have fewer.
        batches: Config of the batch sampler that forms the batches; without one they are consecutive indices.
    """

    def __init__(
        self, sampler: Sampler, batch_size: int, accumulate: int, batches: dict | None = None
    ) -> None:
        self.sampler = sampler  # mmengine tells it the epoch
        self.accumulate = accumulate
        self.batches = (
            DATA_SAMPLERS.build(batches, default_args=dict(sampler=sampler, batch_size=batch_size))
            if batches
            else BatchSampler(sampler, batch_size, drop_last=False)
        )

    def __iter__(self) -> Iterator[list[int]]:
        """Yield lists of indices."""
        batches = iter(self.batches)
        while group := list(islice(batches, self.accumulate)):
            yield list(chain.from_iterable(group))

    def __len__(self) -> int:
        """Lists in an epoch."""
        return -(-len(self.batches) // self.accumulate)


class AccumulatedStep:
    """A model's ``train_step`` on the batches of one update, with the mean of their gradients.

    DistributedDataParallel takes the mean of the gradients of its processes, so this is what it computes,
    except for what mmdet averages over processes inside a loss.

    Args:
        model: The model, or DistributedDataParallel around it.
        images: Images of one batch.
    """

    def __init__(self, model: nn.Module, images: int) -> None:
        self.images = images
        self._train_step = model.train_step
        self._without_sync: Callable[[], AbstractContextManager] = getattr(model, "no_sync", nullcontext)

    def __call__(self, data: dict[str, list], optim_wrapper: OptimWrapper) -> dict[str, Tensor]:
        """Update the weights once.

        Args:
            data: Images and annotations as lists, in the order of the batches.
            optim_wrapper: The optimiser.

        Returns:
            The mean of each loss term over the batches that have it.
        """
        starts = range(0, len(data["inputs"]), self.images)
        share = _Share(optim_wrapper, 1 / len(starts))
        terms: dict[str, list[Tensor]] = {}
        for start in starts:
            batch = {key: values[start : start + self.images] for key, values in data.items()}
            with nullcontext() if start == starts[-1] else self._without_sync():
                for name, value in self._train_step(batch, optim_wrapper=share).items():
                    terms.setdefault(name, []).append(value)
        optim_wrapper.step()
        optim_wrapper.zero_grad()
        return {name: torch.stack(values).mean() for name, values in terms.items()}


class _Share:
    """The optimiser as ``train_step`` of one batch sees it: a weighted gradient, and no update yet."""

    def __init__(self, optim_wrapper: OptimWrapper, weight: float) -> None:
        self.optim_context = optim_wrapper.optim_context
        self._backward = optim_wrapper.backward
        self._weight = weight

    def update_params(self, loss: Tensor) -> None:
        """Add to the gradients."""
        self._backward(loss * self._weight)


@OPTIM_WRAPPERS.register_module()
class AutocastOptimWrapper(OptimWrapper):
    """Forward pass in bfloat16 by `torch.autocast`, on any device.

    mmengine's ``AmpOptimWrapper`` demands a GPU, and scales the loss, which bfloat16 with its range does
    not need. mmcv's own operators have no bfloat16 (open-mmlab/mmcv issues 2878 and 3061), and compute in
    float32. So does the cross-entropy of probabilities, which autocast refuses on a GPU.
    """

    @contextmanager
    def optim_context(self, model: BaseModel) -> Iterator[None]:
        """The context of a forward pass."""
        device = next(model.parameters()).device.type
        lift_operators()
        with super().optim_context(model), torch.autocast(device, dtype=torch.bfloat16):
            yield


@functools.cache
def lift_operators() -> None:
    """Let mmcv's operators compute in float32 what they are given in bfloat16, which they do not know.

    Features that they return are bfloat16 again, as mmdet expects; a loss stays in float32. The same for
    PyTorch's cross-entropy of probabilities, in YOLACT's masks and the losses of TOOD and GFL.
    """
    for function in torch.autograd.Function.__subclasses__():
        if function.__module__.startswith("mmcv.ops"):
            is_loss = function.__module__ == "mmcv.ops.focal_loss"
            function.forward = staticmethod(_in_float32(function.forward, back=not is_loss))
            function.backward = staticmethod(_in_float32(function.backward, back=False))
    functional.binary_cross_entropy = _without_autocast(functional.binary_cross_entropy)


def _without_autocast(function: Callable) -> Callable:
    """A function that autocast refuses on a GPU, on float32 tensors."""

    @functools.wraps(function)
    def lifted(first: Tensor, *values: object, **options: object) -> Tensor:
        values = [value.float() if isinstance(value, Tensor) else value for value in values]
        with torch.autocast(first.device.type, enabled=False):
            return function(first.float(), *values, **options)

    return lifted


def _in_float32(function: Callable, back: bool) -> Callable:
    """A function that is given float32 instead of bfloat16; with `back` its result is bfloat16 again."""

    def is_low(value: object) -> bool:
        return isinstance(value, Tensor) and value.dtype == torch.bfloat16

    @functools.wraps(function)
    def lifted(context: object, *values: object, **options: object) -> object:
        result = function(context, *(v.float() if is_low(v) else v for v in values), **options)
        lower = back and any(map(is_low, values)) and isinstance(result, Tensor)
        return result.bfloat16() if lower and result.is_floating_point() else result

    return lifted
