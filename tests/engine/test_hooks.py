import re
from types import SimpleNamespace

import pytest
import torch
from mmengine.hooks import LoggerHook
from mmengine.model import BaseModel
from mmengine.runner import Runner, get_priority

from corrloss import CorrelationLoss
from corrloss.engine import hooks
from corrloss.engine.hooks import CurveHook, OnsetHook, ProgressHook


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test moves."""
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(hooks.time, "monotonic", lambda: clock.now)
    return clock


def progress(clock, total, seconds_each, first=0, loss=0.5):
    """Lines of a training of `total` iterations that was resumed at iteration `first`."""
    said = []
    hook = ProgressHook("mini_coco/atss/none/seed0", said.append, seconds=10)
    runner = SimpleNamespace(iter=first, max_iters=total)
    hook.before_train(runner)
    for iteration in range(first, total):
        clock.now += seconds_each
        runner.iter = iteration
        hook.after_train_iter(runner, iteration, outputs={"loss": torch.tensor(loss)})
    return said


def test_a_line_says_which_run_how_far_and_how_long_to_go(clock):
    said = progress(clock, total=100, seconds_each=4)
    assert said[0] == "mini_coco/atss/none/seed0  iteration 3/100 (3%)  loss 0.500  6:28 to go"
    assert said[-1] == "mini_coco/atss/none/seed0  iteration 100/100 (100%)  loss 0.500  0:00 to go"


def test_lines_come_every_ten_seconds_and_at_the_end(clock):
    assert len(progress(clock, total=100, seconds_each=1)) == 10
    assert len(progress(clock, total=5, seconds_each=0.1)) == 1
    assert len(progress(clock, total=3, seconds_each=60)) == 3


def test_after_a_resume_the_pace_is_that_of_this_process(clock):
    said = progress(clock, total=100, seconds_each=10, first=90)
    assert said[0].endswith("iteration 91/100 (91%)  loss 0.500  1:30 to go")


@pytest.mark.parametrize(
    ("seconds_each", "left"),
    [(10, "1:30 to go"), (3599 / 9, "59:59 to go"), (400, "1:00:00 to go"), (8000, "20:00:00")],
)
def test_time_to_go_is_in_minutes_or_hours(clock, seconds_each, left):
    assert left in progress(clock, total=10, seconds_each=seconds_each)[0]


def test_a_loss_that_is_no_number_is_shown_as_such(clock):
    assert "loss nan" in progress(clock, total=1, seconds_each=1, loss=float("nan"))[0]


def curve(total, points, first=0):
    hook = CurveHook(points)
    runner = SimpleNamespace(iter=first, max_iters=total)
    for runner.iter in range(first, total):
        value = torch.tensor(float(runner.iter), requires_grad=True)
        hook.after_train_iter(runner, runner.iter, outputs={"loss": 2 * value, "loss_cls": value})
    return hook.curve


@pytest.mark.parametrize(("total", "points"), [(100, 50), (103, 50), (7, 50), (1, 50), (50, 7)])
def test_every_iteration_is_in_one_stretch(total, points):
    found = curve(total, points)
    ends = [stretch["iteration"] for stretch in found]
    assert ends == sorted(set(ends)) and ends[-1] == total
    start = 0
    for stretch in found:
        expected = sum(range(start, stretch["iteration"])) / (stretch["iteration"] - start)
        assert stretch["loss_cls"] == pytest.approx(expected)
        assert stretch["loss"] == pytest.approx(2 * expected)
        start = stretch["iteration"]


def test_stretches_are_about_as_many_as_asked():
    assert len(curve(1000, 50)) == 50
    assert 50 <= len(curve(1030, 50)) <= 53


def test_a_resumed_training_remembers_from_there_on():
    assert [stretch["iteration"] for stretch in curve(100, 10, first=55)] == [60, 70, 80, 90, 100]


def test_terms_that_come_and_go_are_means_over_the_stretch():
    """A term that is absent from an iteration adds nothing to it."""
    hook = CurveHook(points=1)
    runner = SimpleNamespace(iter=0, max_iters=2)
    hook.after_train_iter(runner, 0, outputs={"loss": torch.tensor(2.0), "loss_corr": torch.tensor(1.0)})
    runner.iter = 1
    hook.after_train_iter(runner, 1, outputs={"loss": torch.tensor(4.0)})
    assert hook.curve == [{"iteration": 2, "loss": 3.0, "loss_corr": 0.5}]


class Line(BaseModel):
    """Fits one number."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))

    def forward(self, inputs, data_samples=None, mode="loss"):
        return {
            "loss_line": ((self.weight - torch.stack(list(inputs)).mean()) ** 2),
            "points": self.weight.detach(),
        }


def test_the_peak_outlives_the_reset_of_each_line_of_mmengine_s_log(monkeypatch):
    now = iter([10.0, 300.0, 40.0, 200.0])  # falls where mmengine has reset it
    monkeypatch.setattr(hooks, "peak_memory_mb", lambda: next(now))
    memory = hooks.MemoryHook()
    for batch in range(3):
        memory.after_train_iter(None, batch)
    assert memory.peak == 300.0
    assert get_priority(memory.priority) < get_priority(LoggerHook.priority)


def test_in_a_real_training_both_hooks_hear_what_mmengine_tells(tmp_path):
    said, kept = [], CurveHook(points=4)
    data = [{"inputs": torch.tensor(1.0)} for _ in range(12)]
    Runner(
        model=Line(),
        work_dir=str(tmp_path),
        train_dataloader=dict(
            dataset=data,
            batch_size=3,
            sampler=dict(type="DefaultSampler", shuffle=False),
            collate_fn=dict(type="pseudo_collate"),
        ),
        train_cfg=dict(by_epoch=True, max_epochs=2),
        optim_wrapper=dict(optimizer=dict(type="SGD", lr=0.1)),
        default_hooks=dict(checkpoint=None),
        custom_hooks=[ProgressHook("toy", said.append, seconds=0), kept],
        log_level="ERROR",
    ).train()
    assert [re.match(r"toy  iteration (\d+)/8 ", line).group(1) for line in said] == list("12345678")
    assert [stretch["iteration"] for stretch in kept.curve] == [2, 4, 6, 8]
    # loss is the sum of the terms named loss; weight w goes to w + 0.2 (1 - w), so the loss falls by 0.64
    losses = [0.64**iteration for iteration in range(8)]
    for position, stretch in enumerate(kept.curve):
        expected = sum(losses[2 * position : 2 * position + 2]) / 2
        assert stretch["loss"] == stretch["loss_line"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("kind", "weights"),
    [("after_warm_up", [0, 0, 0, 0, 0.2, 0.2]), ("ramp", [0, 0.05, 0.1, 0.15, 0.2, 0.2])],
)
@pytest.mark.parametrize("first", [0, 3])  # as after a resume
def test_the_weight_depends_on_the_update_alone(kind, weights, first):
    losses = [CorrelationLoss(weight=0.2), CorrelationLoss(weight=0.4)]
    runner = SimpleNamespace(model=torch.nn.ModuleList([torch.nn.Linear(2, 2), *losses]), iter=first)
    hook = OnsetHook(kind, updates=4)
    hook.before_train(runner)
    for runner.iter in range(first, len(weights)):
        hook.before_train_iter(runner, 0)
        own = weights[runner.iter]
        assert [loss.weight for loss in losses] == pytest.approx([own, 2 * own])
