"""A training in several processes that is killed."""

import signal
import subprocess
import sys
import time

import psutil
import pytest

from corrloss.plan.batch_plan import BatchPlan

WITHIN = 20  # seconds, on a machine under load


@pytest.mark.slow
def test_nothing_is_left_of_a_killed_training_in_two_processes(smoke_run, tmp_path):
    def longer(settings):
        settings["train_cfg"]["max_epochs"] = 1000

    run = smoke_run(tmp_path, longer, BatchPlan(processes=2, images_per_process=2))
    process = subprocess.Popen([sys.executable, "-m", "corrloss.cli", "train-process", str(run.path)])
    started = psutil.Process(process.pid)
    until = time.monotonic() + 120
    while len(children := started.children(recursive=True)) < 3:  # torchrun, and two that train
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.1)
    while not list(tmp_path.rglob("iter_*.pth")):  # they are at work
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert psutil.wait_procs(children, timeout=WITHIN)[1] == []
    assert not run.weights.exists()
