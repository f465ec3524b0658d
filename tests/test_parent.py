"""The child processes of a killed process end, too."""

import subprocess
import sys

import psutil

from corrloss.parent import end_with_parent

WITHIN = 20  # seconds, on a machine under load


def test_a_child_ends_with_its_parent():
    child = "import time; from corrloss.parent import end_with_parent; end_with_parent()"
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
        "import subprocess, sys; from corrloss.parent import end_with_parent; "
        "subprocess.run(['sh', '-c', 'echo ready; exec sleep 600'], preexec_fn=end_with_parent)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    children = psutil.Process(process.pid).children()
    process.kill()
    assert psutil.wait_procs(children, timeout=WITHIN)[1] == []
    process.communicate()


def test_where_the_system_cannot_nothing_happens(monkeypatch):
    monkeypatch.setattr("corrloss.parent._LIBC", None)
    end_with_parent()
