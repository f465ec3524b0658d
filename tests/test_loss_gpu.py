"""The loss on a GPU: `pytest -m gpu` where there is one; skipped elsewhere."""

from contextlib import contextmanager

import pytest
import torch
from torch import Tensor

from corrloss import CorrelationLoss, soft_rank

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
]

CASES = [
    {"coefficient": "pearson"},
    {"coefficient": "concordance"},
    {"coefficient": "spearman"},
    {"coefficient": "spearman", "strength": 0.001},
    {"coefficient": "spearman_exact"},
]
SCOPES = ("batch", "level", "image")
IDS = ["-".join(map(str, case.values())) for case in CASES]


def pairs(n: int, dtype=torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    """Scores, IoUs and the ids of five groups, on the CPU."""
    generator = torch.Generator().manual_seed(n)
    scores, ious = torch.rand(2, n, generator=generator).to(dtype)
    return scores, ious, torch.randint(0, 5, (n,), generator=generator)


def value_and_gradient(loss, scores, ious, ids, device="cuda", **options):
    scores, ious, ids = (each.detach().to(device) for each in (scores, ious, ids))
    scores.requires_grad_()
    value = loss(scores, ious, level=ids, image=ids, **options)
    (gradient,) = torch.autograd.grad(value, scores)
    return value.detach(), gradient


@contextmanager
def waits_refused():
    """PyTorch raises an error where the host would wait for the GPU."""
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("n", [2, 3, 17, 1000, 100_000])
@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_value_and_gradient_are_those_of_the_cpu(case, scope, n):
    loss = CorrelationLoss(weight=1.0, scope=scope, **case)
    there, here = (value_and_gradient(loss, *pairs(n), device=device) for device in ("cuda", "cpu"))
    torch.testing.assert_close(there[0].cpu(), here[0], rtol=1e-6, atol=1e-6)
    scale = here[1].abs().max().item()
    torch.testing.assert_close(there[1].cpu(), here[1], rtol=1e-5, atol=1e-6 * scale)


@pytest.mark.parametrize("strength", [1e-6, 1e-3, 1.0, 100.0])
@pytest.mark.parametrize("kind", ["uniform", "tied", "near one", "one value"])
def test_soft_ranks_are_those_of_the_cpu(kind, strength):
    x = pairs(3000)[0].double()
    if kind == "tied":
        x = (1000 * x).floor() / 1000
    elif kind != "uniform":
        x = 1 - 1e-6 * x if kind == "near one" else torch.full_like(x, 0.1)
    there, here = soft_rank(x.cuda(), strength).cpu(), soft_rank(x, strength)
    torch.testing.assert_close(there, here, rtol=1e-9, atol=1e-7)


@pytest.mark.parametrize("values", [[], [0.3], [0.1] * 7])
@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_undefined_is_a_connected_zero(case, scope, values):
    scores = torch.tensor(values)
    ids = torch.zeros(len(values), dtype=torch.long)
    value, gradient = value_and_gradient(CorrelationLoss(scope=scope, **case), scores, scores, ids)
    assert value.item() == 0 and not gradient.any()


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_nothing_synchronises(case, scope, weighted):
    loss = CorrelationLoss(scope=scope, **case)
    scores, ious, ids = (each.cuda() for each in pairs(300))
    options = {"sample_weight": torch.ones_like(scores)} if weighted else {}
    with waits_refused():
        value_and_gradient(loss, scores, ious, ids, **options)


def test_what_synchronises_is_seen():
    ones = torch.ones(3, device="cuda")
    with waits_refused(), pytest.raises(RuntimeError, match="synchroniz"):
        ones.nonzero()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_half_precision_is_lifted_under_autocast_too(case, dtype):
    scores, ious, ids = pairs(500, dtype)
    loss = CorrelationLoss(weight=1.0, **case)
    with torch.autocast("cuda", dtype=dtype):
        value, gradient = value_and_gradient(loss, scores, ious, ids)
    expected, expected_gradient = value_and_gradient(loss, scores, ious, ids, device="cpu")
    assert value.dtype == torch.float32 and gradient.dtype == dtype
    torch.testing.assert_close(value.cpu(), expected, rtol=1e-6, atol=1e-6)
    scale = expected_gradient.abs().max().item()
    torch.testing.assert_close(gradient.cpu(), expected_gradient, rtol=1e-2, atol=1e-3 * scale)


@pytest.mark.parametrize("case", CASES[:3], ids=IDS[:3])
def test_compiles_to_one_graph(case):
    loss = CorrelationLoss(weight=1.0, **case)
    compiled = torch.compile(loss, fullgraph=True)
    expected = value_and_gradient(loss, *pairs(1000))
    for got, want in zip(value_and_gradient(compiled, *pairs(1000)), expected, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_a_cuda_graph_replays_it(case):
    """What a graph captures reads no value on the host, and gives the loss of what its inputs hold later."""
    loss = CorrelationLoss(weight=1.0, **case)
    scores, ious, ids = (each.cuda() for each in pairs(256))
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):  # allocations, before the capture
        value_and_gradient(loss, scores, ious, ids)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = value_and_gradient(loss, scores, ious, ids)
    scores.copy_(pairs(256)[0].flip(0))
    graph.replay()
    for got, want in zip(captured, value_and_gradient(loss, scores, ious, ids), strict=True):
        torch.testing.assert_close(got, want)
