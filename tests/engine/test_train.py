"""Training in several processes, and trainings that diverge."""

import json

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from corrloss.engine.hooks import DivergenceHook
from corrloss.engine.predict import predict
from corrloss.engine.processes import ProcessesError
from corrloss.engine.train import NoGpuError, train
from corrloss.plan.batch_plan import BatchPlan

TWO_PROCESSES = BatchPlan(processes=2, images_per_process=2)


def trained(run):
    """Report and weights of a training, and the lines that it logged."""
    lines = []
    train(run, lines.append)
    return run.read_training(), torch.load(run.weights, weights_only=True), lines


def explode(settings):
    """A learning rate that no training survives, once the warm-up lets it work."""
    settings["optim_wrapper"] = {"type": "OptimWrapper", "optimizer": {"type": "SGD", "lr": 1e9}}
    settings["param_scheduler"] = [{"type": "MultiStepLR", "milestones": [9], "by_epoch": True}]


def over_all_processes(settings):
    """One coefficient over the positives of all processes."""
    settings["model"]["bbox_head"]["loss_corr"]["processes"] = "all"


def test_what_tensorboard_reads_changes_no_weight(smoke_run, tmp_path):
    def shown(settings):
        settings["bench"]["tensorboard"] = True

    run, plain = smoke_run(tmp_path / "shown", shown), smoke_run(tmp_path / "plain")
    (_, weights, _), (_, expected, _) = trained(run), trained(plain)
    assert all(torch.equal(weights[name], expected[name]) for name in expected)
    events = EventAccumulator(str(run.path / "tensorboard")).Reload()
    assert {"loss", "loss_corr", "lr"} <= set(events.Tags()["scalars"])
    assert not (plain.path / "tensorboard").exists()


def test_before_its_onset_the_loss_changes_no_bit(smoke_run, tmp_path):
    def late(settings):
        settings["bench"]["onset"] = {"kind": "after_warm_up", "updates": 9}

    def without(settings):
        settings["model"]["bbox_head"]["loss_corr"]["weight"] = 0

    (report, weights, _), (_, expected, _) = (
        trained(smoke_run(tmp_path / change.__name__, change)) for change in (late, without)
    )
    assert all(torch.equal(weights[name], expected[name]) for name in expected)
    assert report["iterations"] == 9 and report["curve"][-1]["loss_corr"] == 0


def test_two_processes_train_one_model(smoke_run, tmp_path):
    report, weights, _ = trained(smoke_run(tmp_path / "two", spread=TWO_PROCESSES))
    alone, alone_weights, _ = trained(smoke_run(tmp_path / "one", spread=BatchPlan()))
    # The same batch in the same number of iterations: a process has half of each.
    assert report["iterations"] == alone["iterations"] == 9
    assert weights.keys() == alone_weights.keys()
    first, first_alone = report["curve"][0], alone["curve"][0]
    assert first["loss_cls"] == pytest.approx(first_alone["loss_cls"], rel=0.3)
    assert all(torch.isfinite(value).all() for value in weights.values())
    first_joint = trained(smoke_run(tmp_path / "joint", over_all_processes, TWO_PROCESSES))[0]["curve"][0]
    assert first_joint["loss_cls"] == first["loss_cls"]  # the same first step, but for the coefficient
    assert first_joint["loss_corr"] != first["loss_corr"]
    again, again_weights, _ = trained(smoke_run(tmp_path / "again", spread=TWO_PROCESSES))
    assert again["curve"] == report["curve"]
    assert all(torch.equal(weights[key], again_weights[key]) for key in weights)
    assert (tmp_path / "again" / "weights.pth").read_bytes() == (
        tmp_path / "two" / "weights.pth"
    ).read_bytes()


def test_fewer_gpus_than_processes_are_refused(smoke_run, tmp_path):
    def on_gpus(settings):
        settings["bench"] |= {"processes": 99, "gpus": 99}

    with pytest.raises(ProcessesError, match=r"expected 99 GPUs.*found \d"):
        trained(smoke_run(tmp_path, on_gpus))


@pytest.mark.parametrize("spread", [BatchPlan(), TWO_PROCESSES], ids=["one", "two"])
def test_a_training_that_diverges_ends_early_and_reports_where(smoke_run, tmp_path, spread):
    report, weights, lines = trained(smoke_run(tmp_path, explode, spread))
    assert "at iteration" in report["failed"] and "loss_cls" in report["failed"]
    assert report["iterations"] < 9
    assert all(torch.isfinite(value).all() for value in weights.values())
    assert not list(tmp_path.rglob("diverged*"))
    if spread == BatchPlan():
        assert "stopped" in lines[-1]


def test_nothing_is_predicted_with_the_weights_of_a_failed_training(smoke_run, tmp_path):
    run = smoke_run(tmp_path, explode)
    trained(run)
    predict(run, print)
    for path in (run.detections(), run.bound("best"), run.bound("worst")):
        assert json.loads(path.read_text()) == []
    assert run.positives.exists() and run.read_prediction()["predict_seconds"] == 0


class Terms:
    """A runner as a hook sees it."""

    iter = 0
    train_dataloader = range(10_000)


def looked_at(losses, device="cpu"):
    hook, runner = DivergenceHook(), Terms()
    for runner.iter, loss in enumerate(losses):
        term = torch.tensor(loss, device=device)
        hook.after_train_iter(runner, runner.iter, outputs={"loss": term, "loss_cls": term / 2})


@pytest.mark.parametrize(
    ("losses", "message"),
    [
        ([1.0, 0.9, float("nan")], "is not finite at iteration 3: loss nan, loss_cls nan"),
        ([1.0, float("inf")], "is not finite at iteration 2"),
        ([1.0, 1.1, 5e4], "exploded at iteration 3: loss 5e"),
    ],
)
def test_what_counts_as_divergence(losses, message):
    with pytest.raises(ArithmeticError, match=message):
        looked_at(losses)


def test_a_rough_start_is_no_divergence():
    looked_at([3.0, 40.0, 2.0, 0.01, 7.0, 0.0, 1.0])


def test_a_recipe_for_a_gpu_is_not_trained_on_a_processor_unasked(smoke_run, tmp_path, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)

    def for_a_gpu(settings):
        settings["bench"]["gpus"] = 1

    run = smoke_run(tmp_path, for_a_gpu)
    with pytest.raises(NoGpuError, match=r"expected a GPU, PyTorch finds none .* on_cpu=true"):
        train(run, print)
    assert [path.name for path in tmp_path.iterdir()] == ["config.py"]
