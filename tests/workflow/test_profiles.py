"""Profiles are read as Snakemake reads them, and plan jobs with what they ask a machine or a cluster for."""

import os
import re
import shutil
import subprocess

import pytest
import yaml
from project import ROOT, Project
from snakemake.profiles import ProfileConfigFileParser

PROFILES = ROOT / "workflows" / "profiles"


@pytest.fixture(autouse=True)
def same_path(monkeypatch):
    """The profile for SLURM puts commands of its own in front of the PATH."""
    monkeypatch.setenv("PATH", os.environ["PATH"])


def profile(name, text=None, folder=None):
    """Options of a profile; of another text, if one is given."""
    path = PROFILES / name / "config.yaml"
    if text is not None:
        path = folder / "config.yaml"
        path.write_text(text)
    with path.open() as stream:
        return ProfileConfigFileParser().parse(stream)


def resources_by_rule(options):
    by_rule = {}
    for entry in options["set-resources"]:
        rule, resource, value = re.match(r"(\w+):(\w+)=(.*)", entry).groups()
        by_rule.setdefault(rule, {})[resource] = value
    return by_rule


def rules_on_gpus():
    """Names of the rules that ask for GPUs, those that inherit it included."""
    text = "\n".join(path.read_text() for path in (ROOT / "workflows" / "rules").glob("*.smk"))
    blocks = re.split(r"(?m)^(?=rule |use rule )", text)
    own = {re.match(r"rule (\w+)", block)[1] for block in blocks if re.search(r"(?m)^        gpu=", block)}
    inherited = {name for base, name in re.findall(r"(?m)^use rule (\w+) as (\w+)", text) if base in own}
    return own | inherited


@pytest.mark.parametrize("name", ["slurm", "workstation"])
def test_a_profile_names_every_rule_that_takes_gpus(name):
    assert {"train", "predict_test_dev"} <= rules_on_gpus()
    assert resources_by_rule(profile(name)).keys() == rules_on_gpus()


@pytest.mark.parametrize("name", ["default", "slurm", "workstation"])
def test_profiles_agree_on_what_does_not_depend_on_the_machine(name):
    options, default = profile(name), profile("default")
    shared = (
        "keep-going",
        "rerun-incomplete",
        "rerun-triggers",
        "printshellcmds",
        "quiet",
    )
    assert {key: options[key] for key in shared} == {key: default[key] for key in shared}


def test_settings_at_the_top_reach_the_jobs_as_they_are_written(tmp_path):
    text = (PROFILES / "slurm" / "config.yaml").read_text()
    for name, value in {"gpu_partition": "gpu-long", "gpu_model": "h100.80gb", "account": "42"}.items():
        text = re.sub(rf"(?m)^  {name}: \S+", f'  {name}: "{value}"', text)
    options = profile("slurm", text, tmp_path)
    assert "slurm_account='42'" in options["default-resources"]
    for resources in resources_by_rule(options).values():
        assert (resources["slurm_partition"], resources["gpu_model"]) == ("'gpu-long'", "'h100.80gb'")
    assert "gpu_model" not in resources_by_rule(profile("slurm"))["train"]  # any, where none is named


def test_the_workstation_offers_the_gpus_that_are_visible(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5,6")
    assert profile("workstation")["resources"] == ["gpu=3"]


@pytest.fixture
def on_gpus(tmp_path):
    """A project whose runs take a GPU each."""
    project = Project(tmp_path)
    scale = tmp_path / "experiments" / "scales" / "smoke.yaml"
    scale.write_text(yaml.safe_dump({**yaml.safe_load(scale.read_text()), "gpus": 1}))
    return project


def planned(project, profile, rule):
    """What a dry run says about the first job of a rule."""
    done = project.snakemake("--workflow-profile", profile, "-n", "-p", "--quiet", "host")
    assert done.returncode == 0, done.stdout
    return re.search(rf"(?s)\nrule {rule}:\n(.*?)\n\n\n?", done.stdout)[1]


def test_workstation_jobs_take_their_gpus_by_a_lease(on_gpus, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3")
    assert "--gpu-lease=/tmp/corrloss-gpus" in planned(on_gpus, "workstation", "train")


def test_slurm_jobs_leave_gpus_to_the_scheduler(on_gpus):
    train = planned(on_gpus, "slurm", "train")
    assert "gpu=1" in train and "slurm_partition=gpu" in train and "nodes=1" in train
    assert re.search(r"--gpu-lease=$", train, re.MULTILINE)
    assert "slurm_partition=," in planned(on_gpus, "slurm", "check_data")


def test_slurm_jobs_are_submitted_and_watched_by_commands_that_wait():
    profile("slurm")
    for command in ("sbatch", "sacct"):
        assert shutil.which(command) == str(ROOT / "workflows" / "slurm" / command)


def test_the_script_for_slurm_says_what_it_wants():
    script = ROOT / "tests" / "workflow" / "slurm_on_one_machine.sh"
    for arguments, said in (
        ([], "install, start, fail, boot, crash, restart or stop"),
        (["start"], "start: in which folder?"),
    ):
        done = subprocess.run([script, *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 1 and said in done.stderr
