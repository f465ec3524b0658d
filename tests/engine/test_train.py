"""Training in several processes, and trainings that go wrong."""

import json

import pytest
import torch

from corrloss.engine import train as training
from corrloss.engine.hooks import DivergenceHook
from corrloss.engine.predict import predict
from corrloss.plan.batch_plan import BatchPlan


def places(config, folder):
    return training.Places(config, folder / "work", folder / "weights.pth", folder / "training.json")


def trained(config, folder):
    """Report and weights of a training, and what it said."""
    said, where = [], places(config, folder)
    training.train(where, said.append)
    return json.loads(where.report.read_text()), torch.load(where.weights, weights_only=True), said


def explode(settings):
    """A learning rate that no training survives, once the warm-up lets it work."""
    settings["optim_wrapper"] = {"type": "OptimWrapper", "optimizer": {"type": "SGD", "lr": 1e9}}
    settings["param_scheduler"] = [{"type": "MultiStepLR", "milestones": [9], "by_epoch": True}]


def over_all_processes(settings):
    """One coefficient over the positives of all processes."""
    settings["model"]["bbox_head"]["loss_corr"]["processes"] = "all"


def test_two_processes_train_one_model(smoke_config, tmp_path):
    one = smoke_config("one", spread=BatchPlan())
    two = smoke_config("two", spread=BatchPlan(processes=2, images_per_process=2))
    report, weights, _ = trained(two, tmp_path / "two")
    alone, alone_weights, _ = trained(one, tmp_path / "one")
    # The same batch in the same number of iterations: a process has half of each.
    assert report["iterations"] == alone["iterations"] == 9
    assert weights.keys() == alone_weights.keys()
    first, first_alone = report["curve"][0], alone["curve"][0]
    assert first["loss_cls"] == pytest.approx(first_alone["loss_cls"], rel=0.3)
    assert all(torch.isfinite(value).all() for value in weights.values())
    joint = smoke_config("joint", over_all_processes, BatchPlan(processes=2, images_per_process=2))
    first_joint = trained(joint, tmp_path / "joint")[0]["curve"][0]
    assert first_joint["loss_cls"] == first["loss_cls"]  # the same first step, but for the coefficient
    assert first_joint["loss_corr"] != first["loss_corr"]
    again, again_weights, _ = trained(two, tmp_path / "again")
    assert again["curve"] == report["curve"]
    assert all(torch.equal(weights[key], again_weights[key]) for key in weights)


def test_fewer_gpus_than_processes_are_refused(smoke_config, tmp_path):
    def on_gpus(settings):
        settings["bench"] |= {"processes": 99, "gpus": 99}

    with pytest.raises(training.ProcessesError, match=r"trains on 99 GPUs, and this machine shows \d"):
        trained(smoke_config("gpus", on_gpus), tmp_path)


@pytest.mark.parametrize(
    "spread", [BatchPlan(), BatchPlan(processes=2, images_per_process=2)], ids=["one", "two"]
)
def test_a_training_that_diverges_ends_early_and_says_where(smoke_config, tmp_path, spread):
    config = smoke_config(f"diverging{spread.processes}", explode, spread)
    report, weights, said = trained(config, tmp_path)
    assert "at iteration" in report["failed"] and "loss_cls" in report["failed"]
    assert report["iterations"] < 9
    assert all(torch.isfinite(value).all() for value in weights.values())
    if spread == BatchPlan():
        assert "stopped" in said[-1]


def test_nothing_is_predicted_with_the_weights_of_a_failed_training(smoke_config, tmp_path):
    config = smoke_config("failed", explode)
    trained(config, tmp_path)
    where = places(config, tmp_path)
    boxes = tmp_path / "detections.bbox.json"
    predict(config, where.weights, where.report, boxes, tmp_path / "prediction.json", print, tmp_path)
    for name in ("detections.bbox.json", "detections_best.bbox.json", "detections_worst.bbox.json"):
        assert json.loads((tmp_path / name).read_text()) == []
    assert (tmp_path / "positives.npz").exists()


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
        ([1.0, 0.9, float("nan")], "is no finite number at iteration 3: loss nan, loss_cls nan"),
        ([1.0, float("inf")], "is no finite number at iteration 2"),
        ([1.0, 1.1, 5e4], "exploded at iteration 3: loss 5e"),
    ],
)
def test_what_counts_as_divergence(losses, message):
    with pytest.raises(ArithmeticError, match=message):
        looked_at(losses)


def test_a_rough_start_is_no_divergence():
    looked_at([3.0, 40.0, 2.0, 0.01, 7.0, 0.0, 1.0])
