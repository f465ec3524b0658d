"""The child processes of a killed training end, too."""

import signal
import subprocess
import sys
import time

import psutil
import pytest

from corrloss.engine.parent import end_with_parent
from corrloss.plan.batch_plan import BatchPlan

WITHIN = 20  # seconds, on a machine under load


def test_a_child_ends_with_its_parent():
    child = "import time; from corrloss.engine.parent import end_with_parent; end_with_parent()"
    child += "; print('ready', flush=True); time.sleep(600)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    process = subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    children = psutil.Process(process.pid).children(recursive=True)
    assert len(children) == 1
    process.kill()
    assert psutil.wait_procs(children, timeout=WITHIN)[1] == []
    process.communicate()


def test_a_child_that_is_told_so_when_it_is_started_ends_too():
    code = (
        "import subprocess, sys; from corrloss.engine.parent import end_with_parent; "
        "subprocess.run(['sh', '-c', 'echo ready; exec sleep 600'], preexec_fn=end_with_parent)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    children = psutil.Process(process.pid).children()
    process.kill()
    assert psutil.wait_procs(children, timeout=WITHIN)[1] == []
    process.communicate()


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


def test_where_the_system_cannot_nothing_happens(monkeypatch):
    monkeypatch.setattr("corrloss.engine.parent._LIBC", None)
    end_with_parent()
