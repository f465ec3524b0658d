"""A training that was cut off at any instant goes on as if it had not been."""

import random
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook

from corrloss.engine import train as training
from corrloss.engine.hooks import CurveHook
from corrloss.engine.resume import ResumeHook, checkpoints, newest_whole, random_states, set_random_states


class Cut(Exception):
    """The training is cut off here."""


class CutAt(Hook):
    """Raises after an iteration, as a killed process would stop."""

    priority = "LOWEST"

    def __init__(self, iteration):
        self.iteration = iteration

    def after_train_iter(self, runner, *_args, **_kwargs):
        if runner.iter + 1 == self.iteration:
            raise Cut


def places(config, folder):
    return training.Places(config, folder / "work", folder / "weights.pth", folder / "training.json")


def cut_off(config, folder, iteration, every):
    """Train from the newest checkpoint to an iteration, with a checkpoint every few iterations."""
    loaded = Config.fromfile(str(config))
    work_dir = places(config, folder).work_dir
    work_dir.mkdir(parents=True, exist_ok=True)
    curve = CurveHook()
    hooks = [curve, ResumeHook(work_dir, curve, every), CutAt(iteration)]
    runner = training.build_runner(loaded, work_dir, hooks, newest_whole(work_dir, print))
    runner.model.to(memory_format=torch.channels_last)
    with pytest.raises(Cut):
        runner.train()


def finished(config, folder):
    """Weights and loss curve of a training, from the newest checkpoint to its end."""
    where = places(config, folder)
    training.train(where, log=lambda line: None)
    last = torch.load(checkpoints(where.work_dir)[0], weights_only=True)
    return torch.load(where.weights, weights_only=True), last["bench"]["curve"]["curve"]


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@pytest.fixture(scope="module", params=[0, 2], ids=["in the process", "two workers"])
def whole(request, smoke_config, tmp_path_factory):
    """Config, weights and curve of a training that nobody cut off; images loaded with or without workers."""

    def set_workers(settings):
        settings["train_dataloader"]["num_workers"] = request.param

    config = smoke_config(f"workers{request.param}", set_workers)
    return config, *finished(config, tmp_path_factory.mktemp("whole"))


@pytest.mark.parametrize(
    ("cuts", "every"),
    [([5], 1000), ([5], 1), ([2, 4, 8], 1), ([3, 6], 2), ([1], 1000)],
    ids=["from an epoch's end", "within an epoch", "three times", "at epochs' ends", "before any checkpoint"],
)
def test_a_training_cut_off_ends_with_the_same_weights_and_curve(whole, tmp_path, cuts, every):
    config, weights, curve = whole
    for cut in cuts:
        cut_off(config, tmp_path, cut, every)
    resumed, resumed_curve = finished(config, tmp_path)
    assert same(weights, resumed)
    assert resumed_curve == curve


def test_the_same_seed_gives_the_same_weights_twice(whole, tmp_path):
    config, weights, curve = whole
    again, again_curve = finished(config, tmp_path)
    assert same(weights, again) and curve == again_curve


@pytest.mark.parametrize("damage", ["truncated", "empty", "a flipped byte", "no checkpoint"])
def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_it_used(smoke_config, tmp_path, damage):
    config = smoke_config("damaged")
    weights, _ = finished(config, tmp_path / "whole")
    cut_off(config, tmp_path / "cut", iteration=8, every=1)
    work_dir = places(config, tmp_path / "cut").work_dir
    newest, before = checkpoints(work_dir)
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    changed = {
        "truncated": newest.read_bytes()[:-1000],
        "empty": b"",
        "a flipped byte": bytes(content),
        "no checkpoint": b"not a checkpoint",
    }
    newest.write_bytes(changed[damage])
    said = []
    assert newest_whole(work_dir, said.append) == before
    assert newest.name in said[0] and "damaged" in said[0] and newest.with_suffix(".damaged").exists()
    assert same(weights, finished(config, tmp_path / "cut")[0])


def test_the_two_newest_checkpoints_are_kept_and_one_at_the_end(smoke_config, tmp_path):
    config = smoke_config("kept")
    cut_off(config, tmp_path, iteration=8, every=1)
    work_dir = places(config, tmp_path).work_dir
    assert [path.name for path in checkpoints(work_dir)] == ["iter_000000008.pth", "iter_000000007.pth"]
    finished(config, tmp_path)
    assert [path.name for path in checkpoints(work_dir)] == ["iter_000000009.pth"]
    left = {path.name for path in work_dir.iterdir()}
    assert left == {"iter_000000009.pth", "starts.txt"}


def test_a_finished_training_whose_weights_were_lost_trains_nothing_again(smoke_config, tmp_path):
    config = smoke_config("lost")
    weights, curve = finished(config, tmp_path)
    places(config, tmp_path).weights.unlink()
    again, again_curve = finished(config, tmp_path)
    assert same(weights, again) and curve == again_curve


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


def test_a_full_disk_is_said_and_the_training_goes_on_when_there_is_room(smoke_config, tmp_path, small_disk):
    config = smoke_config("full")
    weights, _ = finished(config, tmp_path / "whole")
    size = checkpoints(places(config, tmp_path / "whole").work_dir)[0].stat().st_size
    folder, resize = small_disk
    resize(size * 3 // 2)  # a first checkpoint, and half of a second one
    where = places(config, folder)
    command = [sys.executable, "-m", "corrloss.cli", "train-process", *where.as_arguments()]
    training_of_it = subprocess.run(command, capture_output=True, text=True)
    assert training_of_it.returncode == 1
    assert "No space left on device. Make room" in training_of_it.stderr.splitlines()[-1]
    assert newest_whole(where.work_dir, print) and not list(where.work_dir.glob(".*.part"))
    resize(size * 10)
    assert same(weights, finished(config, folder)[0])


def started(work_dir):
    """How often a training was started."""
    starts = work_dir / training.STARTS
    return len(starts.read_text().splitlines()) if starts.exists() else 0


def wait_until(process, condition):
    """Wait for a condition, or for the process to end."""
    while process.poll() is None and not condition():
        time.sleep(0.002)


@pytest.mark.slow
def test_ten_kills_at_random_instants_change_no_bit(smoke_config, tmp_path):
    """SIGKILL to a real process, at random instants; the last ones while it writes checkpoints."""

    def longer(settings):
        settings["train_cfg"]["max_epochs"] = 40

    config = smoke_config("killed", longer)
    weights, _ = finished(config, tmp_path / "whole")
    where = places(config, tmp_path / "killed")
    command = [sys.executable, "-m", "corrloss.cli", "train-process", *where.as_arguments()]
    generator = random.Random(0)
    alive = {"training": 0, "writing": 0}
    for kill in range(10):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_until(process, lambda count=kill + 1: started(where.work_dir) == count)
        if kill < 5:
            time.sleep(generator.uniform(0, 1.5))
        else:
            wait_until(process, lambda: any(where.work_dir.glob(".*.part")))
        alive["training" if kill < 5 else "writing"] += process.poll() is None
        process.kill()
        process.wait()
    assert min(alive.values()) >= 2, alive  # else this tested nothing
    assert same(weights, finished(config, tmp_path / "killed")[0])
    assert '"resumes": 10' in where.report.read_text()


def test_random_states_come_back():
    random.gauss(0, 1)
    np.random.normal()
    states = random_states()
    before = random.random(), random.gauss(0, 1), np.random.normal(size=3).tolist(), torch.rand(3).tolist()
    set_random_states(states)
    after = random.random(), random.gauss(0, 1), np.random.normal(size=3).tolist(), torch.rand(3).tolist()
    assert before == after
