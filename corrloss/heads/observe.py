"""Recording how a head calls its own loss modules.

mmdet's heads pass their matched predictions to ``self.loss_cls`` and ``self.loss_bbox`` inside
``loss_by_feat``. A forward hook on those modules receives the same tensors as the detector's losses, so that
an adapter needs no copy of the head's code.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import NamedTuple

from torch import Tensor, nn


class LossCall(NamedTuple):
    """One call of a loss module: its name in the head and its arguments, as mmdet's losses take them."""

    name: str
    pred: Tensor
    target: Tensor
    weight: Tensor | None = None
    avg_factor: Tensor | float | None = None


@contextmanager
def observed_losses(head: nn.Module, names: tuple[str, ...]) -> Iterator[list[LossCall]]:
    """Record, in order, how ``head`` calls the loss modules called ``names``.

    Calls with ``reduction_override`` are not recorded: heads use them to compare candidates (PAA's
    reassignment), not to train.

    Args:
        head: The detection head.
        names: Attribute names of loss modules, such as ``("loss_cls", "loss_bbox")``.

    Yields:
        The list of calls, extended while the block runs.

    Raises:
        AttributeError: The head has no loss module of that name.
    """
    calls: list[LossCall] = []
    with ExitStack() as stack:
        for name in names:
            module = getattr(head, name, None)
            if not isinstance(module, nn.Module):
                raise AttributeError(f"{type(head).__name__} has no loss module called {name!r}")
            handle = module.register_forward_hook(partial(_record, calls, name), with_kwargs=True)
            stack.callback(handle.remove)
        yield calls


def _record(
    calls: list[LossCall], name: str, _module: nn.Module, args: tuple, kwargs: dict, _output: Tensor
) -> None:
    """Forward hook of a loss module."""
    if kwargs.get("reduction_override") is None:
        calls.append(LossCall(name, args[0], args[1]))


@contextmanager
def replaced_attribute(owner: object, name: str, replacement: object) -> Iterator[None]:
    """Set an attribute of a class, module or object to ``replacement`` while the block runs."""
    original = getattr(owner, name)
    setattr(owner, name, replacement)
    try:
        yield
    finally:
        setattr(owner, name, original)
