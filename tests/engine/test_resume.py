"""A training that was interrupted at any instant resumes bit-exactly."""

import random
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from mmengine.hooks import Hook

from corrloss.engine.checkpoints import Checkpoints
from corrloss.engine.hooks import CurveHook
from corrloss.engine.random_states import random_states, set_random_states
from corrloss.engine.resume import ResumeHook
from corrloss.engine.train import train
from corrloss.engine.trainer import build_runner
from corrloss.plan.config_files import load


class Cut(Exception):
    """The training is interrupted here."""


class CutAt(Hook):
    """Raises after an iteration, as a killed process would stop."""

    priority = "LOWEST"

    def __init__(self, iteration):
        self.iteration = iteration

    def after_train_iter(self, runner, *_args, **_kwargs):
        if runner.iter + 1 == self.iteration:
            raise Cut


def checkpoints_of(run):
    return Checkpoints.of(run, load(run.config))


def interrupt(run, iteration, every):
    """Train from the newest checkpoint to an iteration, with a checkpoint every few iterations."""
    checkpoints = checkpoints_of(run)
    checkpoints.folder.mkdir(parents=True, exist_ok=True)
    curve = CurveHook()
    hooks = [curve, ResumeHook(checkpoints, curve, every), CutAt(iteration)]
    runner = build_runner(load(run.config), checkpoints, hooks, print)
    with pytest.raises(Cut):
        runner.train()


def finished(run):
    """Weights and loss curve of a training, from the newest checkpoint to its end."""
    train(run, log=lambda line: None)
    last = torch.load(checkpoints_of(run).newest_first()[0], weights_only=True)
    return torch.load(run.weights, weights_only=True), last["bench"]["curve"]["curve"]


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@pytest.fixture(scope="module", params=[0, 2], ids=["in the process", "two workers"])
def whole(request, smoke_run, tmp_path_factory):
    """A function that makes runs, images loaded with or without workers; weights and curve of one of them."""

    def set_workers(settings):
        settings["train_dataloader"]["num_workers"] = request.param

    def make(folder):
        return smoke_run(folder, set_workers)

    return make, *finished(make(tmp_path_factory.mktemp("whole")))


@pytest.mark.parametrize(
    ("cuts", "every"),
    [([5], 1000), ([5], 1), ([2, 4, 8], 1), ([3, 6], 2), ([1], 1000)],
    ids=["from an epoch's end", "within an epoch", "three times", "at epochs' ends", "before any checkpoint"],
)
def test_an_interrupted_training_ends_with_the_same_weights_and_curve(whole, tmp_path, cuts, every):
    make, weights, curve = whole
    run = make(tmp_path)
    for cut in cuts:
        interrupt(run, cut, every)
    resumed, resumed_curve = finished(run)
    assert same(weights, resumed)
    assert resumed_curve == curve


def test_a_rising_weight_of_the_loss_is_resumed_where_it_was(smoke_run, tmp_path):
    def ramp(settings):
        settings["bench"]["onset"] = {"kind": "ramp", "updates": 7}

    weights, curve = finished(smoke_run(tmp_path / "whole", ramp))
    run = smoke_run(tmp_path / "cut", ramp)
    interrupt(run, 5, 1)
    resumed, resumed_curve = finished(run)
    assert same(weights, resumed) and resumed_curve == curve


def test_the_same_seed_gives_the_same_weights_twice(whole, tmp_path):
    make, weights, curve = whole
    again, again_curve = finished(make(tmp_path))
    assert same(weights, again) and curve == again_curve


def test_another_config_never_resumes_the_checkpoints_of_this_one(smoke_run, tmp_path):
    def other_rate(settings):
        settings["optim_wrapper"]["optimizer"]["lr"] /= 2

    expected, _ = finished(smoke_run(tmp_path / "fresh", other_rate))
    interrupt(smoke_run(tmp_path / "changed"), iteration=5, every=1)
    assert same(expected, finished(smoke_run(tmp_path / "changed", other_rate))[0])


@pytest.mark.parametrize("damage", ["truncated", "empty", "a flipped byte", "no checkpoint"])
def test_a_damaged_checkpoint_is_renamed_and_the_one_before_it_used(smoke_run, tmp_path, damage):
    weights, _ = finished(smoke_run(tmp_path / "whole"))
    run = smoke_run(tmp_path / "cut")
    interrupt(run, iteration=8, every=1)
    checkpoints = checkpoints_of(run)
    newest, before = checkpoints.newest_first()
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    changed = {
        "truncated": newest.read_bytes()[:-1000],
        "empty": b"",
        "a flipped byte": bytes(content),
        "no checkpoint": b"not a checkpoint",
    }
    newest.write_bytes(changed[damage])
    lines = []
    assert checkpoints.newest_intact(lines.append) == before
    assert newest.name in lines[0] and "damaged" in lines[0] and newest.with_suffix(".damaged").exists()
    assert same(weights, finished(run)[0])


def test_the_two_newest_checkpoints_are_kept_and_one_at_the_end(smoke_run, tmp_path):
    run = smoke_run(tmp_path)
    interrupt(run, iteration=8, every=1)
    checkpoints = checkpoints_of(run)
    names = [path.name for path in checkpoints.newest_first()]
    assert names == ["iter_000000008.pth", "iter_000000007.pth"]
    finished(run)
    assert {path.name for path in checkpoints.folder.iterdir()} == {"iter_000000009.pth", "starts.txt"}


def test_a_finished_training_whose_weights_were_lost_trains_nothing_again(smoke_run, tmp_path):
    run = smoke_run(tmp_path)
    weights, curve = finished(run)
    content = run.weights.read_bytes()
    run.weights.unlink()
    again, again_curve = finished(run)
    assert same(weights, again) and curve == again_curve
    assert run.weights.read_bytes() == content


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a file system of its own, whose bytes can be set."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "none", folder], capture_output=True).returncode == 0
    if not mounted:
        pytest.skip("this user may not mount a file system")

    def resize(size):
        subprocess.run(["mount", "-o", f"remount,size={size}", folder], check=True)

    yield folder, resize
    subprocess.run(["umount", "--lazy", folder], check=True)  # a log of the training is still open


def process_of(run, **pipes):
    """A process that trains."""
    command = [sys.executable, "-m", "corrloss.cli", "train-process", str(run.path)]
    return subprocess.Popen(command, text=True, **pipes)


def test_a_full_disk_is_reported_and_the_training_resumes_when_there_is_room(smoke_run, tmp_path, small_disk):
    whole = smoke_run(tmp_path / "whole")
    weights, _ = finished(whole)
    size = checkpoints_of(whole).newest_first()[0].stat().st_size
    folder, resize = small_disk
    resize(size * 3 // 2)  # a first checkpoint, and half of a second one
    run = smoke_run(folder)
    process = process_of(run, stderr=subprocess.PIPE)
    _, errors = process.communicate()
    assert process.returncode == 1
    assert "No space left on device. Free disk space" in errors.splitlines()[-1]
    checkpoints = checkpoints_of(run)
    assert checkpoints.newest_intact(print) and not list(checkpoints.folder.glob(".*.part"))
    resize(size * 10)
    assert same(weights, finished(run)[0])


def starts(checkpoints):
    """How often a training was started."""
    return checkpoints.resumes() + 1 if (checkpoints.folder / "starts.txt").exists() else 0


def wait_until(process, condition):
    """Wait for a condition, or for the process to end."""
    while process.poll() is None and not condition():
        time.sleep(0.002)


@pytest.mark.slow
def test_ten_kills_at_random_instants_change_no_bit(smoke_run, tmp_path):
    """SIGKILL to a real process, at random instants; the last ones while it writes checkpoints."""

    def longer(settings):
        settings["train_cfg"]["max_epochs"] = 40

    weights, _ = finished(smoke_run(tmp_path / "whole", longer))
    run = smoke_run(tmp_path / "killed", longer)
    checkpoints = checkpoints_of(run)
    generator = random.Random(0)
    alive = {"training": 0, "writing": 0}
    for kill in range(10):
        process = process_of(run, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_until(process, lambda count=kill + 1: starts(checkpoints) == count)
        if kill < 5:
            time.sleep(generator.uniform(0, 1.5))
        else:
            wait_until(process, lambda: any(checkpoints.folder.glob(".*.part")))
        alive["training" if kill < 5 else "writing"] += process.poll() is None
        process.kill()
        process.wait()
    assert min(alive.values()) >= 2, alive  # else this tested nothing
    assert same(weights, finished(run)[0])
    assert run.read_training()["resumes"] == 10


def test_random_states_come_back():
    random.gauss(0, 1)
    np.random.normal()
    states = random_states()
    before = random.random(), random.gauss(0, 1), np.random.normal(size=3).tolist(), torch.rand(3).tolist()
    set_random_states(states)
    after = random.random(), random.gauss(0, 1), np.random.normal(size=3).tolist(), torch.rand(3).tolist()
    assert before == after
