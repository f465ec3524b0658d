"""Watching a head call its own loss modules.

mmdet's heads hand their matched predictions to ``self.loss_cls`` and ``self.loss_bbox`` deep inside
``loss_by_feat``. A forward hook on those modules sees the very tensors that the detector is trained
with, so an adapter needs no copy of the head's code and cannot drift from it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
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

    Calls with ``reduction_override`` are left out: heads use them to score candidates
    (PAA's reassignment), not to train.

    Args:
        head: The detection head.
        names: Attribute names of loss modules, such as ``("loss_cls", "loss_bbox")``.

    Yields:
        A list that fills while the block runs.

    Raises:
        AttributeError: The head has no loss module of that name.
    """
    calls: list[LossCall] = []

    def recorder(name: str):
        def record(_module: nn.Module, args: tuple, kwargs: dict, _output: Tensor) -> None:
            if kwargs.get("reduction_override") is None:
                calls.append(LossCall(name, args[0], args[1]))

        return record

    handles = []
    try:
        for name in names:
            module = getattr(head, name, None)
            if not isinstance(module, nn.Module):
                raise AttributeError(f"{type(head).__name__} has no loss module called {name!r}")
            handles.append(module.register_forward_hook(recorder(name), with_kwargs=True))
        yield calls
    finally:
        for handle in handles:
            handle.remove()
