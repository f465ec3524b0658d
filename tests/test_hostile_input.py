"""Every command with arguments, settings and files of a fuzzer: success or one message, no traceback."""

import copy
import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from finished_project import make_project
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from corrloss.cli import app

SECONDS, MEGABYTES = 10, 250
RUN = "mini_coco/retinanet/none/seed0"
#: Commands with arguments that are right for the project, and end soon with those or with others.
CALLS = (
    ("resolve", RUN),
    ("collect",),
    ("table", "weight"),
    ("show",),
    ("report",),
    ("cost",),
    ("evaluate", RUN),
    ("check-data", "mini_coco"),
    ("make-data", "coco"),
    ("convert-cityscapes", "mini_cityscapes", "train"),
    ("download", "cityscapes"),
    ("fetch-weights", "ftp://127.0.0.1/resnet50-0676ba61.pth", "weights.pth"),
    ("predict-test-dev", RUN),
    ("overhead", "nosuch"),
    ("train", RUN, "odd=1"),
)
KEYS = ("data_root", "results", "gpus", "processes", "images_per_process", "rescale_lr", "ap", "scale", "odd")
ODD_TEXTS = (
    "", "2024", "-1", "0", "1e5", "9" * 30, "null", "true", "~", "/dev/null", "/proc/nosuch", "x" * 300,
    "a\0b", "\udcff", "é", "{a}", "./mini", "../..", "smoke", "paper", "2024-13-45", "=1+1", "[", "--help",
)  # fmt: skip
IN_CONFIG_FILES = (
    "folder", "classes", "make", "make['seed']", "make['train_images']", "train", "test['ann_file']", "mini",
    "correlation", "correlation['at']", "train_cfg['max_epochs']", "model", "optim_wrapper",
)  # fmt: skip
odd_text = st.sampled_from(ODD_TEXTS) | st.text(max_size=12)
odd_scalar = st.none() | st.booleans() | st.integers() | st.floats() | odd_text | st.just(10**400)
odd_value = st.recursive(
    odd_scalar, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(odd_text, inner, max_size=3)
)
fuzzed = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    """A project with finished runs; its config files are loaded, so that no try has to wait for them."""
    root = make_project(tmp_path_factory.mktemp("hostile") / "project").root
    assert CliRunner().invoke(app, ["resolve", RUN, f"--root={root}"]).exit_code == 0
    return root


@pytest.fixture
def project(pristine, tmp_path, monkeypatch):
    root = Path(shutil.copytree(pristine, tmp_path / "project"))
    monkeypatch.chdir(root)
    return root


def assert_success_or_one_message(arguments, seconds=SECONDS):
    started = time.process_time()
    done = CliRunner().invoke(app, arguments, input="")
    assert done.exception is None or isinstance(done.exception, SystemExit), (arguments, done.exc_info)
    assert done.exit_code in (0, 1, 2) and "Traceback" not in done.output
    if done.exit_code:
        start = ("error: ", "\nAborted.") if done.exit_code == 1 else "Usage: "  # a login that is not given
        assert done.stderr.startswith(start) and len(done.stderr) < 5000, (arguments, done.stderr)
    assert time.process_time() - started < seconds, arguments
    return done


@fuzzed
@given(call=st.sampled_from(CALLS), key=st.sampled_from(KEYS), value=odd_text)
def test_settings_on_the_command_line(project, call, key, value):
    assert_success_or_one_message([*call, f"{key}={value}"])


@fuzzed
@given(
    call=st.sampled_from([call for call in CALLS if len(call) > 1]), place=st.integers(1, 2), value=odd_text
)
@example(call=("overhead", "nosuch"), place=1, value="weight")  # a table of another kind
@example(call=("table", "weight"), place=1, value="../tables/weight")
def test_arguments(project, call, place, value):
    call = list(call)
    call[min(place, len(call) - 1)] = value
    assert_success_or_one_message(call)


def changed(content, data, value):
    """The content with one value, at a place that the fuzzer chooses, replaced."""
    content = copy.deepcopy(content)
    node, key = {"": content}, ""
    while isinstance(node[key], dict | list) and node[key] and data.draw(st.integers(0, 4), label="deeper"):
        node = node[key]
        key = data.draw(
            st.sampled_from(list(node) if isinstance(node, dict) else range(len(node))), label="key"
        )
    node[key] = value
    return content if key != "" else value


@fuzzed
@given(
    file=st.sampled_from(
        ["config/config.yaml", "experiments/tables/weight.yaml", "experiments/scales/mini.yaml"]
    ),
    value=odd_value,
    data=st.data(),
)
def test_values_in_yaml_files(pristine, project, file, value, data):
    content = changed(yaml.safe_load((pristine / file).read_text()), data, value)
    try:
        Path(file).write_text(yaml.safe_dump(content))
    except (yaml.YAMLError, UnicodeError):  # what YAML cannot write
        return
    for command in ("cost", "show"):
        assert_success_or_one_message([command])


@fuzzed
@given(
    file=st.sampled_from(["datasets/mini_coco.py", "detectors/retinanet.py"]),
    key=st.sampled_from(IN_CONFIG_FILES),
    value=odd_value,
)
@example("datasets/mini_coco.py", "make['seed']", 2**64)
@example("datasets/mini_coco.py", "make['nosuch']", 1)
@example("detectors/retinanet.py", "mini", {"train_cfg": {"max_epochs": 0}})
@example("detectors/retinanet.py", "mini", {"epochs": "many"})
def test_values_in_config_files(pristine, project, file, key, value):
    path = Path("experiments") / file
    path.write_bytes((pristine / path).read_bytes() + f"\n{key} = {value!r}\n".encode(errors="replace"))
    assert_success_or_one_message(["cost"])
    if file.startswith("datasets") and key != "folder":
        assert_success_or_one_message(["check-data", "mini_coco"])


@pytest.fixture
def seconds_of_a_report(project):
    """CPU seconds of a report without odd values: most of them are drawing."""
    started = time.process_time()
    assert CliRunner().invoke(app, ["report"]).exit_code == 0
    return time.process_time() - started


@settings(fuzzed, max_examples=25)
@given(name=st.sampled_from(["record", "training", "prediction"]), value=odd_value, data=st.data())
def test_values_in_files_of_a_run(pristine, project, seconds_of_a_report, name, value, data):
    path = Path("results/mini/runs") / RUN / f"{name}.json"
    content = changed(json.loads((pristine / path).read_text()), data, value)
    path.write_text(json.dumps(content))
    for call in (("collect",), ("report",), ("cost",), ("evaluate", RUN)):
        assert_success_or_one_message(list(call), SECONDS + 2 * seconds_of_a_report)


@pytest.mark.parametrize("command", [call[0] for call in CALLS if call[0] != "fetch-weights"])
def test_a_file_for_a_folder(project, command):
    (call,) = (call for call in CALLS if call[0] == command)
    for key in ("results", "data_root"):
        assert_success_or_one_message([*call, f"{key}=config/config.yaml"])


def test_an_array_that_is_no_archive(project):
    with (Path("results/mini/runs") / RUN / "positives.npz").open("wb") as file:
        np.save(file, np.zeros(3))
    said = assert_success_or_one_message(["evaluate", RUN]).stderr
    assert (
        "positives.npz: cannot read these positives (not readable as .npz: it holds a single array)" in said
    )


# A small process between: the peak memory of a process begins with that of the one that starts it, which is
# large here.
MEASURED = """
import os, subprocess, sys
process = subprocess.Popen([sys.executable, *sys.argv[1:]])
_, status, usage = os.wait4(process.pid, 0)
print(os.waitstatus_to_exitcode(status), usage.ru_maxrss, usage.ru_utime + usage.ru_stime)
"""


def measured(*arguments):
    """Exit status of a Python, its peak memory in KiB, its seconds of CPU, and what it wrote to stderr."""
    command = [sys.executable, "-c", MEASURED, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return *map(float, done.stdout.split()), done.stderr


@pytest.fixture(scope="module")
def of_torch():
    """KiB of torch alone: 0.2 GB of a build for CPUs, 0.8 GB of one with CUDA."""
    return measured("-c", "import torch")[1]


BOMB = "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9 if i else 'x' * 9)}]\n" for i in range(9))


@pytest.mark.parametrize(
    ("file", "content", "call"),
    [
        ("experiments/tables/weight.yaml", "title: " + "[" * 50_000, ("cost",)),
        ("experiments/tables/weight.yaml", BOMB, ("cost",)),
        ("config/config.yaml", BOMB, ("cost",)),
        (f"results/mini/runs/{RUN}/record.json", "[" * 50_000, ("report",)),
        ("data/mini_coco/annotations/instances_val.json", '{"images": ' + "[" * 50_000, ("evaluate", RUN)),
    ],
    ids=lambda value: re.sub(r"\W+", " ", str(value))[:40],
)
def test_time_and_memory_of_a_process_are_bounded(project, of_torch, file, content, call):
    (project / file).write_text(content)
    started = time.monotonic()
    code, kilobytes, seconds, said = measured("-m", "corrloss.cli", *call)
    assert code == 1 and said.startswith("error: ") and "Traceback" not in said, said
    assert kilobytes < of_torch + MEGABYTES * 1024 and seconds < SECONDS
    assert time.monotonic() - started < 10 * SECONDS  # others use the processor, too
