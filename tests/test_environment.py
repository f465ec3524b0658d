"""conda's file, the package's extras and the script that builds the environment against the one lock."""

import os
import re
import subprocess
import sys
import tomllib
from itertools import chain
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
# For environments of their own: mmdet imports transformers where it finds it, which costs seconds a process.
OTHER_LIBRARIES = {"torchvision", "transformers", "ultralytics"}
CONDA = (ROOT / "environment.yml").read_text()


def pins(lines):
    """Version by name of requirements that pin one."""
    found = {}
    for line in lines:
        requirement = Requirement(line)
        (specifier,) = requirement.specifier
        assert specifier.operator == "==", line
        found[canonicalize_name(requirement.name)] = specifier.version
    return found


@pytest.fixture(scope="module")
def lock():
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    return pins(line for line in lines if line and not line.startswith("#"))


@pytest.fixture(scope="module")
def conda():
    return yaml.safe_load(CONDA)["dependencies"]


def test_conda_pins_what_the_lock_pins(lock, conda):
    (by_pip,) = (entry["pip"] for entry in conda if isinstance(entry, dict))
    found = pins(by_pip)
    assert found.items() <= lock.items()


def test_conda_brings_what_mmcv_is_built_with_as_the_script_does(conda):
    (by_pip,) = (entry["pip"] for entry in conda if isinstance(entry, dict))
    script = (ROOT / "workflows" / "setup.sh").read_text()
    (tools,) = re.findall(r"BUILD_TOOLS='\^\((.+)\)=='", script)
    assert set(pins(by_pip)) == {*tools.split("|"), "torch"}


def test_the_rest_comes_from_the_lock_itself(lock):
    """The commands in conda's file: mmcv first, then everything of the lock and nothing else."""
    commands = re.findall(r"pip install ([^#&\n]+)", CONDA)
    mmcv, everything, own = (command.split() for command in commands)
    assert mmcv[-1] == f"mmcv=={lock['mmcv']}"
    assert everything[-2:] == ["-r", "requirements.lock"] and own[-2:] == ["-e", "."]
    assert all("--no-deps" in command for command in (mmcv, everything, own))


def test_one_python_everywhere(conda):
    (python,) = (entry for entry in conda if isinstance(entry, str) and entry.startswith("python="))
    version = python.removeprefix("python=")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert version in SpecifierSet(project["requires-python"])
    assert f"PYTHON:-python{version}" in (ROOT / "workflows" / "setup.sh").read_text()


def test_the_lock_satisfies_the_extras(lock):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    assert set(extras) > OTHER_LIBRARIES
    wanted = chain.from_iterable(extras[name] for name in set(extras) - OTHER_LIBRARIES)
    for requirement in map(Requirement, chain(project["dependencies"], wanted)):
        name = canonicalize_name(requirement.name)
        assert name in lock, requirement
        assert requirement.specifier.contains(lock[name]), requirement


def set_up(venv):
    """What the script says of a virtual environment that is there already; it must end before it installs."""
    environment = {**os.environ, "VENV": str(venv), "PYTHON": sys.executable}
    script = ["bash", ROOT / "workflows" / "setup.sh"]
    done = subprocess.run(script, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "==>" not in done.stdout, done.stdout
    return done.stderr.strip()


def test_a_virtual_environment_without_pip_is_one_sentence(tmp_path):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    assert set_up(tmp_path / "venv").startswith(
        f"make: {tmp_path}/venv has no pip (uv creates such environments); remove it"
    )


def test_a_virtual_environment_of_another_python_is_one_sentence(tmp_path):
    python = tmp_path / "venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\necho 3.12\n")
    python.chmod(0o755)
    assert set_up(tmp_path / "venv").startswith(
        f"make: {tmp_path}/venv has Python 3.12, but the pinned versions"
    )


def test_pip_installs_into_the_environment_whatever_its_settings(tmp_path):
    text = (ROOT / "workflows" / "setup.sh").read_text()
    assert text.index("export PIP_USER=0") < text.index('step "build tools and torch"')
    environment = {**os.environ, "PIP_USER": "0", "PIP_CONFIG_FILE": str(tmp_path / "pip.conf")}
    (tmp_path / "pip.conf").write_text("[install]\nuser = true\n")
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--no-deps", "--no-index", "pip"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
