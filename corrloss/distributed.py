"""Positives of all processes of a distributed training, as arguments of one coefficient."""

import torch
import torch.distributed as dist
from torch import Tensor


def is_distributed() -> bool:
    """Whether there is another process to share a coefficient with."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def gather_positives(*columns: Tensor) -> list[Tensor]:
    """Each column, 1-d, joined over the processes in the order of their ranks; every process must call this.

    The columns of a process have one length, that of another process may be another one. To learn them costs
    one wait for the device.

    The gradient reaches the process's own part, multiplied by the number of processes: a trainer that
    averages the gradients of processes, as DistributedDataParallel does, so gets that of the joint loss.
    """
    world, rank = dist.get_world_size(), dist.get_rank()
    count = torch.tensor([len(columns[0])], device=columns[0].device)
    counts = [torch.empty_like(count) for _ in range(world)]
    dist.all_gather(counts, count)
    counts = torch.cat(counts).tolist()
    return [_gather(column, counts, rank) for column in columns]


def _gather(column: Tensor, counts: list[int], rank: int) -> Tensor:
    padded = column.new_zeros(max(counts))
    padded[: len(column)] = column.detach()
    parts = [torch.empty_like(padded) for _ in counts]
    dist.all_gather(parts, padded)
    parts = [part[:count] for part, count in zip(parts, counts, strict=True)]
    if column.requires_grad:
        parts[rank] = _Scaled.apply(column, len(counts))
    return torch.cat(parts)


class _Scaled(torch.autograd.Function):
    """The value itself, with its gradient multiplied."""

    @staticmethod
    def forward(ctx, value: Tensor, factor: int) -> Tensor:
        ctx.factor = factor
        return value.view_as(value)

    @staticmethod
    def backward(ctx, grad: Tensor):
        return grad * ctx.factor, None
