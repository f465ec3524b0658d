"""The SLURM profile on a real SLURM with pretend GPUs: trainings end in every way that a cluster knows."""

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path
from threading import Thread

import pandas as pd
import psutil
import pytest
import yaml
from project import ROOT, Project

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).with_name("slurm_on_one_machine.sh")
TABLE = {
    "title": "A detector with the loss and without",
    "data": "coco",
    "metrics": ["AP", "AP50"],
    "rows": [
        {
            "detector": "retinanet",
            "variants": [{"coefficient": "none"}, {"coefficient": "spearman", "weight": 0.1}],
        },
    ],
}
BASELINE, WITH_LOSS = "none", "spearman_w0.1"
STATES = ("start", "fail", "boot", "crash", "restart", "stop")  # of the script, which takes its folder then
EPOCHS = 8  # each leaves a checkpoint to go on from
# What a user sets for a cluster.
SETTINGS = {"gpu_model": "pretend", "train_minutes": "90"}
# What costs time and has nothing to wait for here: the profile is for clusters, with their disks.
QUICK = ["--slurm-init-seconds-before-status-checks", "3", "--latency-wait", "5"]
SECONDS = 240  # that anything may take on a machine under load


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """A function that runs commands on a SLURM that is there for this module alone."""
    installed = subprocess.run([SCRIPT, "install"], capture_output=True, text=True, check=False)
    if installed.returncode != 0:
        said = installed.stderr.strip() or "apt-get failed"
        pytest.skip(f"no SLURM to test with: {said.splitlines()[-1]}")
    folder = tmp_path_factory.mktemp("slurm") / "cluster"

    def run(*command):
        command = [SCRIPT, *command, folder] if command[0] in STATES else command
        done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
        assert done.returncode == 0, (command, done.stderr)
        return done.stdout.strip()

    try:
        run("start")
        yield run
    finally:
        run("stop")


def make_project(folder):
    folder.mkdir()
    project = Project(folder, TABLE)
    scale = folder / "experiments" / "scales" / "smoke.yaml"
    settings = yaml.safe_load(scale.read_text())
    settings["after"]["train_cfg"]["max_epochs"] = EPOCHS
    scale.write_text(yaml.safe_dump(settings))
    profile = folder / "workflows" / "profiles" / "slurm" / "config.yaml"
    text = profile.read_text()
    for name, value in SETTINGS.items():
        text, count = re.subn(rf"(?m)^  {name}: \S+", f"  {name}: {value}", text)
        assert count == 1
    # A GPU is asked for, though nothing computes on it.
    text, count = re.subn(r"(?m)^  train:\n    <<: \*on_gpu\n", r"\g<0>    gpu: 1\n", text)
    assert count == 1
    profile.write_text(text)
    return project


class Started:
    """A Snakemake at work, whose output is read."""

    def __init__(self, project, *arguments):
        self.process = project.start(*arguments)
        self.lines = []
        self._reader = Thread(target=lambda: self.lines.extend(self.process.stdout), daemon=True)
        self._reader.start()

    def finish(self):
        self.process.wait(timeout=SECONDS)
        self._reader.join()
        assert self.process.returncode == 0, "".join(self.lines)

    def stop(self):
        """End it with all that it started, if it is still there."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def wait_for(self, what, condition):
        """What the condition returns once it is something, while Snakemake is at work."""
        until = time.monotonic() + SECONDS
        while not (found := condition()):
            assert self.process.poll() is None, f"ended before {what}:\n" + "".join(self.lines)
            assert time.monotonic() < until, f"no {what}:\n" + "".join(self.lines)
            time.sleep(0.1)
        return found


class Trainings:
    """What SLURM and the folders of the runs say about the trainings."""

    def __init__(self, cluster, folder):
        self.cluster = cluster
        self.folder = folder

    def of(self, variant):
        """Number and state of each SLURM job that trained a variant, in order."""
        listed = self.cluster("squeue", "--noheader", "--states=all", "--sort=i", "--format=%i|%T|%k")
        jobs = (line.split("|") for line in listed.splitlines())
        name = f"rule_train_wildcards_smoke_coco_retinanet_{variant}_0"
        return [(job, state) for job, state, comment in jobs if comment == name]

    def iterations(self, variant):
        """Iterations of the newest checkpoint."""
        found = self.folder.glob(f"results/smoke/runs/*/*/{variant}/*/checkpoints/*/iter_*.pth")
        return max((int(path.stem.removeprefix("iter_")) for path in found), default=0)

    def halted(self, variant, after):
        """Stops the training when it has gone further than this; its SLURM job, or None before that."""
        if self.iterations(variant) <= after:
            return None
        running = [job for job, state in self.of(variant) if state == "RUNNING"]
        for process in psutil.process_iter(["cmdline", "environ"]):
            command, environment = process.info["cmdline"] or [], process.info["environ"] or {}
            if running and environment.get("SLURM_JOB_ID") == running[0] and "train" in command[2:3]:
                process.send_signal(signal.SIGSTOP)  # as if it hung, so that there is time to do it harm
                return running[0]
        return None


@pytest.fixture(scope="module")
def finished(cluster, tmp_path_factory, request):
    """Two projects with the same runs: one went through all that SLURM does, one just ran here."""
    folder = tmp_path_factory.mktemp("projects")
    harmed, plain = make_project(folder / "harmed"), make_project(folder / "plain")
    data = harmed.snakemake("results/smoke/data/smoke_coco.json")  # seconds here, half a minute in a queue
    assert data.returncode == 0, data.stdout
    trainings = Trainings(cluster, harmed.folder)
    snakemake = Started(harmed, "--workflow-profile", "slurm", *QUICK)
    request.addfinalizer(snakemake.stop)

    def halt(variant):
        after = trainings.iterations(variant)
        return snakemake.wait_for(f"training of {variant}", lambda: trainings.halted(variant, after))

    def ended(variant, job, state):
        snakemake.wait_for(f"{state} of {variant}", lambda: dict(trainings.of(variant))[job] == state)

    limited = halt(BASELINE)  # it hangs while the other is dealt with
    cancelled = halt(WITH_LOSS)
    cluster("scancel", cancelled)
    ended(WITH_LOSS, cancelled, "CANCELLED")
    beside = Started(plain)
    request.addfinalizer(beside.stop)
    preempted = halt(WITH_LOSS)
    # A GPU for a partition of higher priority: the youngest job has to make room.
    cluster("sbatch", "--wait", "--partition=urgent", "--gpus=1", "--output=/dev/null", "--wrap=true")
    cluster("scontrol", "update", f"JobId={limited}", "TimeLimit=1")
    ended(BASELINE, limited, "TIMEOUT")
    lost = halt(BASELINE)
    ended(WITH_LOSS, preempted, "COMPLETED")
    cluster("fail")
    cluster("boot")
    snakemake.finish()
    beside.finish()
    harmed.jobs = {BASELINE: [limited, lost], WITH_LOSS: [cancelled, preempted]}
    return harmed, plain, trainings


def test_every_end_was_one_and_the_next_job_went_on(finished):
    harmed, _, trainings = finished
    assert [state for _, state in trainings.of(BASELINE)] == ["TIMEOUT", "COMPLETED"]
    assert [state for _, state in trainings.of(WITH_LOSS)] == ["CANCELLED", "COMPLETED"]
    for variant, jobs in harmed.jobs.items():
        assert [job for job, _ in trainings.of(variant)] == jobs
        # The second was put back into the queue by SLURM: once for preemption, once for the lost node.
        assert "Restarts=1" in trainings.cluster("scontrol", "show", "job", jobs[1])
        report = harmed.folder / f"results/smoke/runs/smoke_coco/retinanet/{variant}/seed0/training.json"
        assert json.loads(report.read_text())["resumes"] == 2


def test_a_training_asks_for_its_gpus_and_no_more(finished):
    harmed, _, trainings = finished
    asked = trainings.cluster("scontrol", "show", "job", harmed.jobs[BASELINE][1])
    for part in ("TresPerJob=gres:gpu:pretend:1", "Partition=gpu", "TimeLimit=01:30:00", "Requeue=1"):
        assert part in asked


def test_the_figures_are_those_of_runs_that_nothing_happened_to(finished):
    harmed, plain, _ = finished
    frames = [pd.read_csv(project.folder / "results/smoke/runs.csv") for project in (harmed, plain)]
    assert len(frames[0]) == 2
    pd.testing.assert_frame_equal(
        *(frame.drop(columns="train_seconds") for frame in frames), check_exact=True
    )
    tables = [(project.folder / "results/smoke/tables/pair.csv").read_text() for project in (harmed, plain)]
    assert tables[0] == tables[1] and "retinanet,spearman" in tables[0]


def test_what_a_cluster_finished_is_finished_for_a_plain_snakemake(finished):
    harmed, _, _ = finished
    assert "Nothing to be done" in harmed.snakemake("-n").stdout
    assert "Nothing to be done" in harmed.snakemake("--workflow-profile", "slurm", "-n").stdout


CHAIN = """
rule all:
    input: expand("{number}.second", number=range(3))
rule first:
    output: "{number}.first"
    shell: "until [ -e go ]; do sleep 0.2; done; echo {wildcards.number} > {output}"
rule second:
    input: "{number}.first"
    output: "{number}.second"
    shell: "cat {input} > {output}; echo second >> {output}"
"""


def test_a_controller_that_is_away_for_a_minute_loses_no_job(cluster, tmp_path, request):
    """It dies while jobs are submitted, which it has not saved yet, and again while they end."""
    (tmp_path / "Snakefile").write_text(CHAIN)
    (tmp_path / "workflows").symlink_to(ROOT / "workflows")
    project = object.__new__(Project)
    project.folder = tmp_path
    # No job starts before the crash: the controller would forget it, and give its number to another job while
    # it still runs.
    cluster("scontrol", "update", "PartitionName=gpu", "State=DOWN")
    snakemake = Started(project, "--workflow-profile", str(ROOT / "workflows/profiles/slurm"), *QUICK)
    request.addfinalizer(snakemake.stop)

    def at_work():
        """Whether all jobs run, and for longer than SLURM takes to save that."""
        seconds = cluster("squeue", "--noheader", "--states=RUNNING", "--format=%M").split()
        return len(seconds) == 3 and min(seconds) > "0:07"

    snakemake.wait_for("a first job", lambda: cluster("squeue", "--noheader"))
    cluster("crash")
    time.sleep(70)  # more than sbatch waits in all six attempts of a job
    cluster("restart")
    cluster("scontrol", "update", "PartitionName=gpu", "State=UP")
    snakemake.wait_for("three jobs", at_work)
    cluster("crash")
    (tmp_path / "go").touch()
    time.sleep(30)
    cluster("restart")
    snakemake.finish()
    for number in range(3):
        assert (tmp_path / f"{number}.second").read_text() == f"{number}\nsecond\n"
