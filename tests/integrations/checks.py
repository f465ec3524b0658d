"""What the tests of all integrations share."""

import copy
import os

import torch
import torch.distributed as dist
from torch import multiprocessing


class Recorder:
    """Records the arguments of a CorrelationLoss: one (scores, IoUs) for each call."""

    def __init__(self, loss):
        self.calls = []
        loss.register_forward_hook(self)

    def __call__(self, _loss, args, _output):
        self.calls.append(tuple(value.detach().clone() for value in args))


def assert_same_positives(found, expected):
    """Two sets of (score, IoU), in any order."""
    assert len(found[0]) == len(expected) > 1
    found = sorted(zip(found[0].tolist(), found[1].tolist(), strict=True))
    torch.testing.assert_close(torch.tensor(found), torch.tensor(sorted(expected)), rtol=1e-4, atol=1e-5)


def trained(model, step, seed=0, steps=3):
    """Weights after a few steps of SGD; `step` returns the total loss."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.001, momentum=0.9)
    for number in range(steps):
        torch.manual_seed(seed + number)
        optimizer.zero_grad()
        step(model).backward()
        optimizer.step()
    return copy.deepcopy(model.state_dict())


def assert_same_weights(first, second):
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)


def with_gradient(model):
    """Names of the parameters that a backward pass reached with a gradient other than zero."""
    return {name for name, value in model.named_parameters() if value.grad is not None and value.grad.any()}


def gradients(model):
    return {name: value.grad.clone() for name, value in model.named_parameters() if value.grad is not None}


def _worker(rank, build, step, path):
    dist.init_process_group("gloo", init_method=f"file://{path}/meet", rank=rank, world_size=2)
    torch.set_num_threads(1)
    model = torch.nn.parallel.DistributedDataParallel(build(), find_unused_parameters=True)
    torch.manual_seed(rank)
    step(model, rank).backward()
    torch.save(gradients(model.module), os.path.join(path, f"{rank}.pt"))
    dist.destroy_process_group()


def assert_ddp_averages(build, step, path):
    """Two processes of DDP end with the mean of the gradients of the same two steps in one process.

    Args:
        build: Returns the model with the loss; always the same weights.
        step: Of a model and a rank, returns the total loss of the rank's batch.
        path: An empty folder.
    """
    multiprocessing.spawn(_worker, (build, step, str(path)), nprocs=2)
    alone = []
    for rank in range(2):
        model = build()
        torch.manual_seed(rank)
        step(model, rank).backward()
        alone.append(gradients(model))
    for rank in range(2):
        for name, value in torch.load(path / f"{rank}.pt").items():
            mean = sum(part.get(name, torch.zeros_like(value)) for part in alone) / 2
            torch.testing.assert_close(value, mean, rtol=1e-3, atol=1e-5)
