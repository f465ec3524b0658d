"""GPUs are handed out to real processes, which are killed; ids stand for GPUs, so that none is needed."""

import json
import os
import random
import shutil
import subprocess
import sys
import time
import types
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest
from typer.testing import CliRunner

from corrloss.cli import app, on_gpus
from corrloss.engine.lease import LeaseError, lease, pool

ROOT = Path(__file__).parents[2]

JOB = """
import json, os, sys, time
from pathlib import Path
from corrloss.engine.lease import lease
folder, count, seconds = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
with lease(folder, count, lambda line: print(line, file=sys.stderr, flush=True), poll=0.05):
    print(json.dumps([os.environ["CUDA_VISIBLE_DEVICES"].split(","), time.monotonic()]), flush=True)
    time.sleep(seconds)
    print(time.monotonic(), flush=True)
"""
FOREVER = 600


@contextmanager
def jobs():
    """Starts jobs that take GPUs, and leaves none behind."""
    started = []

    def start(folder, gpus, count, seconds=FOREVER, **environment):
        command = [sys.executable, "-c", JOB, str(folder), str(count), str(seconds)]
        environment = {**os.environ, "CUDA_VISIBLE_DEVICES": gpus, **environment}
        pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        started.append(subprocess.Popen(command, env=environment, **pipes))
        return started[-1]

    try:
        yield start
    finally:
        for job in started:
            job.kill()
            job.communicate()


def taken(job):
    """Waits until the job has its GPUs: which, and when."""
    return json.loads(job.stdout.readline())


def waiting(job):
    """Waits until the job says that it waits."""
    return job.stderr.readline()


@pytest.fixture
def visible(monkeypatch):
    return lambda gpus: monkeypatch.setenv("CUDA_VISIBLE_DEVICES", gpus)


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Makes nvidia-smi list these GPUs; none makes it fail, as without a driver."""

    def make(*uuids):
        lines = [f"GPU {number}: NVIDIA H100 (UUID: {uuid})" for number, uuid in enumerate(uuids)]
        listing("\n".join(lines), fails=not uuids)

    def listing(text, fails=False):
        (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\ncat <<'END'\n{text}\nEND\nexit {9 * fails}\n")
        (tmp_path / "nvidia-smi").chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    make.listing = listing
    return make


@pytest.mark.parametrize(
    ("gpus", "expected"),
    [
        ("", []),
        ("2", ["2"]),
        ("1, 0,1", ["1", "0"]),
        ("0,-1,2", ["0"]),
        ("-1", []),
        ("GPU-a,GPU-b", ["GPU-a", "GPU-b"]),
        ("00,+1,0x2", ["0", "1"]),
        ("0,none,1", ["0"]),
    ],
)
def test_the_pool_is_what_cuda_shows(visible, gpus, expected):
    visible(gpus)
    assert pool() == expected


@pytest.mark.parametrize(
    ("gpus", "expected"),
    [
        ("01,1", ["1"]),
        ("1,GPU-b7", ["1"]),
        ("gpu-b,0", []),
        ("GPU-B7,GPU-b70000", ["GPU-b70000"]),
        ("GPU-b7,GPU-a", ["GPU-b70000"]),  # two start with GPU-a
        ("1,2,0", ["1", "2", "0"]),
        ("1,3,0", ["1"]),  # there is no GPU 3
        ("GPU-c,0", []),
    ],
)
def test_every_spelling_that_cuda_allows_means_one_gpu(machine, visible, gpus, expected):
    machine("GPU-a10000", "GPU-b70000", "GPU-a20000")
    visible(gpus)
    assert pool() == expected


MIG = """\
GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-a)
  MIG 3g.40gb     Device  0: (UUID: MIG-1)
  MIG 3g.40gb     Device  1: (UUID: MIG-2)
GPU 1: NVIDIA H100 80GB HBM3 (UUID: GPU-b)
WARNING: infoROM is corrupted at gpu 0000:65:00.0"""


@pytest.mark.parametrize(
    ("gpus", "expected"),
    [(None, ["0", "MIG-2", "1"]), ("0,GPU-a,MIG-1", ["0"]), ("MIG-2,MIG-1", ["MIG-2", "MIG-1"])],
)
def test_a_partitioned_gpu_and_a_warning_line_in_the_list(machine, visible, gpus, expected):
    machine()
    machine.listing(MIG)
    if gpus:
        visible(gpus)
    assert pool() == expected


def test_without_nvidia_smi_the_pool_is_the_variable_as_it_is(machine, visible, monkeypatch, tmp_path):
    machine()
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    assert pool() == []
    visible("1,GPU-a,MIG-2")
    assert pool() == ["1", "GPU-a", "MIG-2"]


def test_without_the_variable_the_pool_is_the_machine(machine):
    machine("GPU-a", "GPU-b")
    assert pool() == ["0", "1"]
    machine()
    assert pool() == []


def test_the_block_sees_its_gpus_alone(visible, tmp_path):
    visible("4,5,6")
    before = dict(os.environ)
    with lease(tmp_path, 2, print) as ids:
        assert ids == ["4", "5"]
        show = [sys.executable, "-c", "import os; print(os.environ['CUDA_VISIBLE_DEVICES'])"]
        assert subprocess.check_output(show, text=True).strip() == "4,5"
        assert os.environ["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    assert dict(os.environ) == before


def test_a_job_without_gpus_takes_none_and_sees_none(visible, tmp_path):
    visible("4,5")
    before = dict(os.environ)
    with lease(tmp_path / "none", 0, print) as ids:
        assert ids == [] and os.environ["CUDA_VISIBLE_DEVICES"] == ""
    assert dict(os.environ) == before
    assert not (tmp_path / "none").exists()


def test_a_run_that_is_planned_for_the_cpu_sees_no_gpu_without_a_lease_either(visible):
    visible("4,5")
    with on_gpus(0, ""):
        assert os.environ["CUDA_VISIBLE_DEVICES"] == ""
    with on_gpus(1, ""):  # a scheduler has chosen them
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "4,5"


def test_more_than_there_are_is_refused_at_once(visible, machine, tmp_path):
    machine("GPU-a", "GPU-b", "GPU-c")
    visible("0,1")
    with (
        pytest.raises(LeaseError, match=r"expected 3 GPUs, found 2.*=0,1.*lists 0, 1, 2"),
        lease(tmp_path, 3, print),
    ):
        pass


def test_what_a_job_raises_frees_its_gpus(visible, tmp_path):
    visible("0")
    with pytest.raises(KeyError), lease(tmp_path, 1, print):
        raise KeyError
    with lease(tmp_path, 1, print) as ids:
        assert ids == ["0"]


def test_jobs_in_contention_never_share_a_gpu_and_all_get_theirs(tmp_path):
    counts = [1, 2, 3, 4] * 4
    random.Random(0).shuffle(counts)
    with jobs() as start:
        running = [start(tmp_path, "0,1,2,3", count, seconds=0.05) for count in counts]
        outputs = [job.communicate(timeout=60)[0].splitlines() for job in running]
    spans = {gpu: [] for gpu in "0123"}
    for count, (first, last) in zip(counts, outputs, strict=True):
        ids, begin = json.loads(first)
        assert len(set(ids)) == count
        for gpu in ids:
            spans[gpu].append((begin, float(last)))
    for one in map(sorted, spans.values()):
        assert all(end <= begin for (_, end), (begin, _) in pairwise(one))


def test_a_killed_job_frees_its_gpus(tmp_path):
    with jobs() as start:
        holder = start(tmp_path, "0,1", 2)
        assert taken(holder)[0] == ["0", "1"]
        next_one = start(tmp_path, "0,1", 2)
        assert "waiting for 2 free of the GPUs 0, 1" in waiting(next_one)
        holder.kill()  # SIGKILL: nothing of its own runs any more
        killed = time.monotonic()
        ids, when = taken(next_one)
        assert ids == ["0", "1"] and when - killed < 5


def test_a_killed_waiter_does_not_block_the_queue(tmp_path):
    with jobs() as start:
        holder = start(tmp_path, "0,1", 1)
        assert taken(holder)[0] == ["0"]
        waiter = start(tmp_path, "0,1", 2)
        waiting(waiter)
        waiter.kill()
        waiter.wait()
        assert taken(start(tmp_path, "0,1", 1))[0] == ["1"]


def test_a_job_that_waits_for_many_is_not_overtaken_and_holds_nothing_meanwhile(tmp_path, visible):
    with jobs() as start:
        holder = start(tmp_path, "0,1", 1)
        taken(holder)
        many = start(tmp_path, "0,1", 2, seconds=0.5)
        waiting(many)
        few = start(tmp_path, "0,1", 1)
        holder.kill()
        ids, when_many = taken(many)
        assert ids == ["0", "1"]
        assert taken(few)[1] > when_many


def test_a_gpu_has_one_lock_by_number_and_by_uuid(tmp_path, machine):
    machine("GPU-a", "GPU-b")
    with jobs() as start:
        assert taken(start(tmp_path, "0", 1))[0] == ["0"]
        assert taken(start(tmp_path, "GPU-a,GPU-b", 1))[0] == ["GPU-b"]


def test_one_failing_nvidia_smi_makes_no_second_name_of_a_gpu(tmp_path, machine):
    """A job that knows all names of a GPU excludes, and is excluded by, jobs that know one of them."""
    machine("GPU-a", "GPU-b")
    with jobs() as start:
        assert taken(start(tmp_path, "0", 1))[0] == ["0"]
        machine()
        assert taken(start(tmp_path, "GPU-a,GPU-b", 1))[0] == ["GPU-b"]
        machine("GPU-a", "GPU-b")
        assert "waiting for 1 free" in waiting(start(tmp_path, "0,1", 1))


def test_a_lock_file_that_is_deleted_is_locked_again(tmp_path, visible):
    visible("0")
    lines = []
    with lease(tmp_path / "locks", 1, lines.append, check=0.05), jobs() as start:
        shutil.rmtree(tmp_path / "locks")
        until = time.monotonic() + 10
        while not lines and time.monotonic() < until:
            time.sleep(0.01)
        assert "gpu-0.lock: was deleted while this job held it; locked again" in lines[0]
        assert "waiting for 1 free" in waiting(start(tmp_path / "locks", "0", 1))
    with lease(tmp_path / "locks", 1, lines.append) as ids:
        assert ids == ["0"] and len(lines) == 1


def test_a_deleted_lock_file_that_another_job_has_taken_is_reported(tmp_path, visible):
    visible("0")
    lines = []
    with lease(tmp_path, 1, lines.append, check=1), jobs() as start:
        (tmp_path / "gpu-0.lock").unlink()
        taken(start(tmp_path, "0", 1))
        until = time.monotonic() + 10
        while not lines and time.monotonic() < until:
            time.sleep(0.01)
    assert "another job now uses this GPU" in lines[0]


def test_other_users_may_lock_too_and_delete_nothing(tmp_path, visible):
    visible("0")
    before = os.umask(0o077)
    try:
        with lease(tmp_path / "locks", 1, print):
            modes = {path.name: path.stat().st_mode & 0o7777 for path in tmp_path.rglob("*")}
    finally:
        os.umask(before)
    assert modes == {"locks": 0o1777, "gpu-0.lock": 0o666, "queue.lock": 0o666}


def test_a_name_is_no_path(tmp_path, visible):
    visible("MIG-GPU-a/7/0,MIG-../../b")
    with lease(tmp_path / "locks", 2, print):
        assert sorted(path.name for path in (tmp_path / "locks").iterdir()) == [
            "gpu-MIG-.._.._b.lock",
            "gpu-MIG-GPU-a_7_0.lock",
            "queue.lock",
        ]
    assert [path.name for path in tmp_path.iterdir()] == ["locks"]


def test_a_command_takes_its_gpus_before_it_imports_what_uses_them(visible, tmp_path, monkeypatch):
    seen = []

    class Engine(types.ModuleType):
        def __getattr__(self, name):  # an import from it, and then a call
            seen.append(os.environ["CUDA_VISIBLE_DEVICES"])
            return lambda *_args, **_kwargs: None

    for name in ("train", "predict"):
        monkeypatch.setitem(sys.modules, f"corrloss.engine.{name}", Engine(name))
    visible("4,5,6")
    run = "mini_coco/atss/none/seed0"
    arguments = [
        "train",
        run,
        "--root",
        str(ROOT),
        f"results={tmp_path}",
        f"--gpu-lease={tmp_path / 'locks'}",
    ]
    gpus = []
    monkeypatch.setattr(
        "corrloss.plan.batch_plan.BatchPlan.apply",
        lambda _, config, name: config["bench"].update(gpus=gpus[-1]),
    )
    gpus.append(2)
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert set(seen) == {"4,5"} and os.environ["CUDA_VISIBLE_DEVICES"] == "4,5,6"

    gpus.append(4)
    refused = CliRunner().invoke(app, arguments)
    assert refused.exit_code == 1 and "error: expected 4 GPUs, found 3" in refused.stderr
