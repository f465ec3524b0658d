"""conda's file, the package's extras and the script that builds the environment against the locks."""

import os
import platform
import re
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, distribution
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
# Lock and extra of each stack; the default one is first.
STACKS = {"requirements.lock": "bench", "requirements.onedl.lock": "onedl"}
SCRIPT = ROOT / "workflows" / "setup.sh"
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


def locked(name):
    lines = (ROOT / name).read_text().splitlines()
    return pins(line.removesuffix(" \\") for line in lines if line[0].isalnum())


@pytest.fixture(scope="module")
def lock():
    return locked("requirements.lock")


@pytest.fixture(scope="module")
def conda():
    return yaml.safe_load(CONDA)["dependencies"]


def test_conda_pins_what_the_lock_pins(lock, conda):
    (by_pip,) = (entry["pip"] for entry in conda if isinstance(entry, dict))
    found = pins(by_pip)
    assert found.items() <= lock.items()


def test_conda_brings_what_mmcv_is_built_with_as_the_script_does(conda):
    (by_pip,) = (entry["pip"] for entry in conda if isinstance(entry, dict))
    (tools,) = re.findall(r"BUILD_TOOLS='\^\((.+)\)=='", SCRIPT.read_text())
    assert set(pins(by_pip)) == {*tools.split("|"), "torch"}


def test_the_rest_comes_from_the_lock_itself(lock):
    """The commands in conda's file: mmcv first, then everything of the lock and nothing else."""
    commands = re.findall(r"pip install ([^#&\n]+)", CONDA)
    mmcv, everything, own = (command.split() for command in commands)
    assert mmcv[-1] == f"mmcv=={lock['mmcv']}"
    assert everything[-2:] == ["-r", "requirements.lock"] and own[-2:] == ["-e", "."]
    assert all("--no-deps" in command for command in (mmcv, everything, own))


def test_one_range_of_pythons_everywhere(conda):
    (python,) = (entry for entry in conda if isinstance(entry, str) and entry.startswith("python="))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (pythons,) = re.findall(r'(?m)^PYTHONS="(.+)"', SCRIPT.read_text())
    assert pythons.split() == ["3.13", "3.12", "3.11"]
    for version in (python.removeprefix("python="), *pythons.split()):
        assert version in SpecifierSet(project["requires-python"]) and version in pythons
    assert "--python-version 3.11.5" in (ROOT / "workflows" / "lock.sh").read_text()


@pytest.mark.parametrize("name", STACKS)
def test_every_file_of_a_lock_has_its_hash(name):
    text = (ROOT / name).read_text()
    blocks = re.split(r"(?m)^(?=[a-z])", text)[1:]
    assert len(blocks) > 100
    for block in blocks:
        assert re.search(r"--hash=sha256:[0-9a-f]{64}$", block, re.MULTILINE), block


@pytest.mark.parametrize("name", STACKS)
def test_a_lock_is_closed_under_what_its_packages_need(name):
    """Every requirement of an installed package of the lock is in the lock, in a version that it accepts."""
    lock = locked(name)
    for name in lock:
        try:
            found = distribution(name)
        except PackageNotFoundError:  # on other systems alone
            continue
        for requirement in map(Requirement, found.requires or ()):
            if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
                continue
            needed = canonicalize_name(requirement.name)
            if needed.startswith(("nvidia-", "cuda-")) or needed == "triton":  # come with torch
                continue
            assert requirement.specifier.contains(lock[needed]), (name, requirement)


@pytest.mark.parametrize("name", STACKS)
def test_a_lock_satisfies_the_extras(name):
    lock = locked(name)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    assert set(extras) > OTHER_LIBRARIES
    others = OTHER_LIBRARIES | set(STACKS.values()) - {STACKS[name]}
    wanted = chain.from_iterable(extras[extra] for extra in set(extras) - others)
    for requirement in map(Requirement, chain(project["dependencies"], wanted)):
        if requirement.name != project["name"]:  # not an extra within an extra
            package = canonicalize_name(requirement.name)
            assert package in lock, requirement
            assert requirement.specifier.contains(lock[package]), requirement


def test_both_locks_have_one_version_of_what_they_share():
    default, onedl = map(locked, STACKS)
    shared = default.keys() & onedl.keys()
    assert {name: default[name] for name in shared} == {name: onedl[name] for name in shared}
    assert default.keys() - shared == {"mmcv", "mmdet", "mmengine"}


def set_up(venv):
    """What the script says of a virtual environment that is there already; it must end before it installs."""
    environment = {**os.environ, "VENV": str(venv), "PYTHON": sys.executable}
    done = subprocess.run(
        ["bash", SCRIPT], env=environment, cwd=ROOT, capture_output=True, text=True, check=False
    )
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
    # It runs, but is too old.
    python.write_text('#!/bin/sh\ncase $2 in "") ;; *print*) echo 3.10.2 ;; *) exit 1 ;; esac\n')
    python.chmod(0o755)
    assert set_up(tmp_path / "venv").startswith(
        f"make: {tmp_path}/venv has Python 3.10.2, but the pinned versions need Python 3.11.5 to 3.13"
    )


def test_another_python_than_that_of_the_environment_is_one_sentence(tmp_path):
    python = tmp_path / "venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\ncase $2 in *print*) echo 3.12.9 ;; esac\n")
    python.chmod(0o755)
    message = (
        f"make: {tmp_path}/venv has Python 3.12.9, but {sys.executable} is {platform.python_version()}; "
    )
    assert set_up(tmp_path / "venv").startswith(message)


def test_what_the_lock_assumes_about_torch_is_not_what_uv_installs():
    assert "uv" not in tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    assumed = tomllib.loads((ROOT / "workflows" / "uv.toml").read_text())["dependency-metadata"]
    assert {entry["name"] for entry in assumed} == {"mmcv", "torch"}


def test_pip_installs_into_the_environment_whatever_its_settings(tmp_path):
    text = SCRIPT.read_text()
    assert text.index("export PIP_USER=0") < text.index('step "build tools and torch"')
    environment = {**os.environ, "PIP_USER": "0", "PIP_CONFIG_FILE": str(tmp_path / "pip.conf")}
    (tmp_path / "pip.conf").write_text("[install]\nuser = true\n")
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--no-deps", "--no-index", "pip"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def functions_of_the_script():
    text = SCRIPT.read_text()
    return text[: text.rindex("case ${1:-} in")]


def test_mmcv_reads_its_version_under_every_python(tmp_path):
    """Its setup.py does what this code does; on Python 3.13 that is a KeyError without the script's help."""
    code = "def version():\n    exec('found = 1')\n    return locals()['found']\nprint(version())"
    done = subprocess.run(
        ["bash", "-c", f'{functions_of_the_script()}\nwith_old_exec "$0" -c "$1"', sys.executable, code],
        env={**os.environ, "VENV": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "1\n", done.stderr


def found_python(tmp_path, *names):
    """The Python that the script takes where these commands are Pythons that run."""
    for name in ("python3.13", "python3.12", "python3.11"):
        program = tmp_path / name
        program.write_text(f"#!/bin/sh\nexit {int(name not in names)}\n")  # else a shim that runs nothing
        program.chmod(0o755)
    functions = functions_of_the_script()
    calls = 'check_machine() { :; }; make_venv() { echo "$PYTHON"; exit; }; set_up'
    return subprocess.run(
        ["bash", "-c", f"{functions}\n{calls}"],
        cwd=tmp_path,
        env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_newest_python_that_runs_is_taken(tmp_path):
    assert found_python(tmp_path, "python3.11", "python3.12").stdout == "python3.12\n"
    assert found_python(tmp_path, "python3.11", "python3.13").stdout == "python3.13\n"


def test_without_python_and_uv_there_is_one_sentence(tmp_path):
    done = found_python(tmp_path)
    assert done.returncode == 1
    assert done.stderr.strip().startswith("make: expected one of Python 3.13 3.12 3.11, found none. Install")


def test_the_image_copies_files_that_exist_and_is_not_built_anew_for_an_edit():
    steps = [line.split() for line in (ROOT / "Dockerfile").read_text().splitlines()]
    copied = [step[1:-1] for step in steps if step[:1] == ["COPY"]]
    assert copied[-1] == ["."] and "corrloss" not in chain.from_iterable(copied)
    for name in chain.from_iterable(copied):
        assert (ROOT / name).exists(), name
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert {".venv", "results", "data"} <= set(ignored)


def printed_by_make(*arguments):
    return subprocess.run(["make", "-n", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)


def test_a_stack_has_an_environment_and_results_of_its_own():
    command = printed_by_make("demo", "STACK=onedl").stdout
    assert ".venv-onedl/bin" in command and "results=results/onedl" in command
    assert "compare results/onedl/mini" in command
    default = printed_by_make("demo", "STACK=").stdout
    assert "onedl" not in default and "results=" not in default  # config/config.yaml may name another folder


def test_another_stack_is_one_sentence():
    done = printed_by_make("setup", "STACK=openmmlab")
    assert done.returncode == 2 and "STACK=openmmlab: expected onedl, or nothing" in done.stderr
