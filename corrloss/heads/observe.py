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

import torch
from mmdet.registry import MODELS
from torch import Tensor, nn
from torch.autograd.graph import register_multi_grad_hook
from torch.utils._pytree import tree_leaves

from corrloss.heads.head_positives import PositivesError


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

    Yields the list of calls, extended while the block runs. Calls with ``reduction_override`` are not
    recorded: heads use them to compare candidates (PAA's reassignment), not to train.

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


def _record(calls: list[LossCall], name: str, _module, args: tuple, kwargs: dict, _output) -> None:
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


def add_loss(head: nn.Module, loss_corr: dict | None) -> None:
    """Set ``head.loss_corr``, and stop each training step in which it is not computed.

    Some detectors compute the losses of a head without calling the head's own methods for it (PISA). The
    check runs when the gradient of a step reaches the outputs of ``head``, so before the optimiser's step: it
    raises `PositivesError`.

    Args:
        head: A head whose methods compute ``loss_corr``.
        loss_corr: Config of `corrloss.CorrelationLoss`, or None for no loss and no check.
    """
    head.loss_corr = None if loss_corr is None else MODELS.build(loss_corr)
    if loss_corr is None:
        return
    head.register_forward_hook(_expect_loss)
    head.loss_corr.register_forward_hook(partial(_note_loss, head))


class _Step:
    """The forward passes of a head between two backward passes."""

    has_loss = False


def _expect_loss(head: nn.Module, _args: tuple, outputs: object) -> None:
    """Forward hook of a head."""
    tensors = [each for each in tree_leaves(outputs) if isinstance(each, Tensor) and each.requires_grad]
    if head.training and torch.is_grad_enabled() and tensors:
        head._step = getattr(head, "_step", None) or _Step()
        register_multi_grad_hook(tensors, partial(_check_step, head, head._step), mode="any")


def _note_loss(head: nn.Module, _loss: nn.Module, _args: tuple, _output: Tensor) -> None:
    """Forward hook of a head's Correlation Loss."""
    if getattr(head, "_step", None) is not None:
        head._step.has_loss = True


def _check_step(head: nn.Module, step: _Step, _gradient: Tensor) -> None:
    """Hook of the gradient of a head's outputs."""
    head._step = None
    if not step.has_loss:
        raise PositivesError(
            head,
            "its detector computed no loss_corr in this training step, because it does not call the methods "
            "of the head that compute its losses",
        )
