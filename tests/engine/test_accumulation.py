"""One update from the batches that several processes would have."""

import copy

import pytest
import torch
from mmcv.ops import roi_align
from mmengine.hooks import Hook
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DATA_SAMPLERS
from mmengine.runner import Runner
from torch.nn import functional
from torch.utils.data import BatchSampler, SequentialSampler

from corrloss.engine.accumulation import AccumulatedStep, ConsecutiveBatches, lift_operators
from corrloss.engine.checkpoints import Checkpoints
from corrloss.engine.hooks import CurveHook
from corrloss.engine.resume import ResumeHook
from corrloss.engine.step_timing import Trained
from corrloss.engine.train import train
from corrloss.engine.trainer import build_runner
from corrloss.plan.batch_plan import BatchPlan
from corrloss.plan.config_files import load

TWO_STEPS = BatchPlan(images_per_process=2, accumulate=2)
BF16 = BatchPlan(precision="bf16")


class Rates(Hook):
    """Notes the learning rate of each update."""

    def __init__(self):
        self.rates = []

    def before_train_iter(self, runner, *_args, **_kwargs):
        self.rates += runner.optim_wrapper.get_lr()["lr"]


class Cut(Exception):
    """The training is interrupted here."""


class CutAt(Hook):
    """Raises after an iteration."""

    priority = "LOWEST"

    def after_train_iter(self, runner, *_args, **_kwargs):
        if runner.iter + 1 == 5:
            raise Cut


def rates_of(run):
    config, rates = load(run.config), Rates()
    checkpoints = Checkpoints.of(run, config)
    checkpoints.folder.mkdir(parents=True)
    build_runner(config, checkpoints, [rates, ResumeHook(checkpoints, CurveHook())], print).train()
    return rates.rates


def trained(run):
    train(run, lambda line: None)
    return run.read_training(), torch.load(run.weights, weights_only=True)


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize(("images", "lists"), [(12, [8, 4]), (16, [8, 8]), (9, [8, 1]), (3, [3])])
def test_batches_keep_their_order(images, lists):
    sampler = SequentialSampler(range(images))
    grouped = ConsecutiveBatches(sampler, batch_size=4, accumulate=2)
    assert [len(indices) for indices in grouped] == lists and len(grouped) == len(lists)
    alone = BatchSampler(sampler, 4, drop_last=False)
    assert [index for indices in grouped for index in indices] == [i for batch in alone for i in batch]


def test_batches_of_another_sampler_stay_whole(smoke_run, tmp_path):
    """Images of one batch have one orientation, as in the recipe, though those of one update may not."""
    config = load(smoke_run(tmp_path).config)
    dataset = Runner.build_dataloader(config.train_dataloader).dataset
    sampler = DATA_SAMPLERS.build(dict(type="DefaultSampler", dataset=dataset, shuffle=False))
    settings = dict(type="mmdet.AspectRatioBatchSampler")
    alone = list(DATA_SAMPLERS.build(settings, default_args=dict(sampler=sampler, batch_size=2)))
    grouped = list(ConsecutiveBatches(sampler, batch_size=2, accumulate=2, batches=settings))
    assert grouped == [one + other for one, other in zip(alone[::2], alone[1::2], strict=True)]


@pytest.mark.parametrize("images", [4, 3])
def test_the_gradient_is_the_mean_of_the_batches(smoke_run, tmp_path, images):
    config = load(smoke_run(tmp_path).config)
    config.optim_wrapper = dict(type="OptimWrapper", optimizer=dict(type="SGD", lr=1.0))
    trained = Trained(config)
    loader = Runner.build_dataloader({**config.train_dataloader, "batch_size": images}, seed=0)
    data = next(iter(loader))
    model, before = trained.model, copy.deepcopy(trained.model)
    batches = [{key: values[i : i + 2] for key, values in data.items()} for i in (0, 2)]
    losses = [
        before(**before.data_preprocessor(copy.deepcopy(batch), True), mode="loss") for batch in batches
    ]
    totals = [before.parse_losses(loss)[0] for loss in losses]
    names, weights = zip(*((n, w) for n, w in before.named_parameters() if w.requires_grad), strict=True)
    expected = torch.autograd.grad(sum(totals) / 2, weights, allow_unused=True)

    step = AccumulatedStep(model, images=2)
    outputs = step(data, build_optim_wrapper(model, config.optim_wrapper))
    after = dict(model.named_parameters())
    assert outputs["loss"].item() == pytest.approx(sum(totals).item() / 2, rel=1e-6)
    for name, weight, gradient in zip(names, weights, expected, strict=True):
        torch.testing.assert_close(weight - after[name], gradient, rtol=1e-4, atol=1e-5)


def test_warm_up_schedule_and_iterations_count_updates(smoke_run, tmp_path):
    recipe, steps = (
        smoke_run(tmp_path / str(number), spread=plan) for number, plan in enumerate((BatchPlan(), TWO_STEPS))
    )
    assert rates_of(steps) == rates_of(recipe)
    report, weights = trained(smoke_run(tmp_path / "report", spread=TWO_STEPS))
    assert report["iterations"] == 9
    assert all(torch.isfinite(value).all() for value in weights.values())
    assert "loss_corr" in report["curve"][0]


def test_an_interrupted_training_ends_with_the_same_weights(smoke_run, tmp_path):
    _, weights = trained(smoke_run(tmp_path / "whole", spread=TWO_STEPS))
    run = smoke_run(tmp_path / "cut", spread=TWO_STEPS)
    checkpoints, curve = Checkpoints.of(run, load(run.config)), CurveHook()
    checkpoints.folder.mkdir(parents=True)
    runner = build_runner(
        load(run.config), checkpoints, [curve, ResumeHook(checkpoints, curve, 1), CutAt()], print
    )
    with pytest.raises(Cut):
        runner.train()
    assert same(weights, trained(run)[1])


@pytest.mark.slow
def test_two_processes_of_two_steps_train(smoke_run, tmp_path):
    plan = BatchPlan(processes=2, images_per_process=1, accumulate=2)
    report, weights = trained(smoke_run(tmp_path / "one", spread=plan))
    again, again_weights = trained(smoke_run(tmp_path / "two", spread=plan))
    assert report["iterations"] == 9 and report["curve"] == again["curve"]
    assert same(weights, again_weights)


def test_bfloat16_trains_float32_weights(smoke_run, tmp_path):
    report, weights = trained(smoke_run(tmp_path / "bf16", spread=BF16))
    exact, _ = trained(smoke_run(tmp_path / "fp32"))
    assert {value.dtype for value in weights.values() if value.is_floating_point()} == {torch.float32}
    first, first_exact = report["curve"][0], exact["curve"][0]
    assert first.keys() == first_exact.keys() and first != first_exact
    for name, value in first_exact.items():
        assert first[name] == pytest.approx(value, rel=0.1)


def test_mmcvs_operators_take_bfloat16_which_they_do_not_know():
    lift_operators()
    features = torch.rand(1, 4, 8, 8, generator=torch.Generator().manual_seed(0)).bfloat16()
    low, full = features.requires_grad_(), features.detach().float().requires_grad_()
    regions = torch.tensor([[0, 0.0, 0.0, 4.0, 4.0]])
    lifted, expected = (roi_align(one, regions, (2, 2)) for one in (low, full))
    assert lifted.dtype == torch.bfloat16 and expected.dtype == torch.float32
    assert torch.equal(lifted, expected.bfloat16())
    (lifted.float() ** 2).sum().backward()
    (expected.bfloat16().float() ** 2).sum().backward()
    assert torch.equal(low.grad, full.grad.bfloat16())


def test_a_cross_entropy_of_probabilities_is_computed_in_float32_as_autocast_refuses_it_on_a_gpu():
    lift_operators()
    probability, target = torch.rand(2, 50, generator=torch.Generator().manual_seed(0))
    expected = functional.binary_cross_entropy(probability.bfloat16().float(), target.round())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = functional.binary_cross_entropy(probability.bfloat16(), target.round(), reduction="mean")
    assert loss.dtype == torch.float32 and torch.equal(loss, expected)
