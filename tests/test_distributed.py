"""The loss over all processes of a distributed training equals the loss of the joint batch."""

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from corrloss import CorrelationLoss

# Positives of either process, and the options; a process without positives takes part.
CASES = [
    ((7, 12), {"coefficient": "concordance"}),
    ((19, 0), {"coefficient": "spearman", "scope": "level", "strength": 0.02}),
]


def build(options):
    return CorrelationLoss(weight=0.3, gradient_to="both", processes="all", **options)


def positives():
    generator = torch.Generator().manual_seed(0)
    scores, ious, weight = torch.rand(3, 19, generator=generator, dtype=torch.double)
    return scores, ious, torch.randint(0, 2, (19,), generator=generator), weight


def loss_and_gradients(options, scores, ious, level, weight):
    scores, ious = scores.clone().requires_grad_(), ious.clone().requires_grad_()
    weight = weight if "scope" in options else None
    value = build(options)(scores, ious, level=level, sample_weight=weight)
    value.backward()
    return value.item(), scores.grad, ious.grad


def worker(rank, address, results):
    dist.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
    try:
        for counts, options in CASES:
            own = (column.split(counts)[rank] for column in positives())
            value, *grads = loss_and_gradients(options, *own)
            # What DistributedDataParallel makes of the gradient: its mean over the processes.
            results.put((rank, value, *((grad / 2).tolist() for grad in grads)))
    finally:
        dist.destroy_process_group()


@pytest.mark.skipif(not dist.is_available() or not dist.is_gloo_available(), reason="needs gloo")
def test_all_processes_share_one_coefficient(tmp_path):
    results = mp.get_context("spawn").Queue()
    mp.spawn(worker, (f"file://{tmp_path}/rendezvous", results), nprocs=2)
    by_rank = {0: [], 1: []}
    for _ in range(2 * len(CASES)):
        rank, *result = results.get(timeout=60)
        by_rank[rank].append(result)
    for i, (counts, options) in enumerate(CASES):
        value, *grads = loss_and_gradients(options, *positives())  # no process group: the batch is joint
        for rank in by_rank:
            theirs, *their_grads = by_rank[rank][i]
            assert theirs == pytest.approx(value, abs=1e-12)
            for got, want in zip(their_grads, grads, strict=True):
                assert got == pytest.approx(want.split(counts)[rank].tolist(), abs=1e-12)


def test_an_image_is_not_shared():
    with pytest.raises(ValueError, match="an image lies in one process"):
        CorrelationLoss(scope="image", processes="all")
    with pytest.raises(ValueError, match="processes must be one of own, all"):
        CorrelationLoss(processes="both")
