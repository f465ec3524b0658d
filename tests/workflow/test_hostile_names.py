"""Nothing that a user, a table or a data set names reaches a shell as anything but an argument."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from project import ROOT, Project

RULES = sorted((ROOT / "workflows" / "rules").glob("*.smk"))
# Joined by shlex, and a whole number that Snakemake itself counts.
QUOTED_ALREADY = {"params.settings", "threads"}
RESULTS = "re'sults; touch pwned; $(touch pwned) & \"x"
DATA = "da ta`touch pwned`|touch pwned"


def shell_commands(text):
    """The texts of all shell commands of a file of rules."""
    for block in re.findall(r"^( *)shell:\n((?:\1 +.*\n|\n)+)", text, re.MULTILINE):
        yield "".join(re.findall(r'"((?:[^"\\]|\\.)*)"', block[1]))


@pytest.mark.parametrize("path", RULES, ids=lambda path: path.stem)
def test_every_value_in_a_shell_command_is_quoted(path):
    text = path.read_text(encoding="utf-8")
    commands = list(shell_commands(text))
    assert len(commands) == len(re.findall(r"^ *shell:", text, re.MULTILINE))
    for command in commands:
        for value in re.findall(r"\{([^{}]*)\}", command):
            assert value.endswith(":q") or value in QUOTED_ALREADY, f"{{{value}}} in {command}"


def test_folders_with_hostile_names_are_folders(tmp_path):
    """Snakemake plans, makes data and checks it there; no part of a name is run."""
    project = Project(tmp_path)
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    settings = ("scale=smoke", f"results={RESULTS}", f"data_root={DATA}")
    done = subprocess.run(
        ["snakemake", f"{RESULTS}/smoke/data/smoke_coco.json", "--config", *settings],
        cwd=project.folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    results = project.folder / RESULTS / "smoke"
    assert (results / "data" / "smoke_coco.json").is_file()
    assert (project.folder / DATA).is_dir()
    assert not list(tmp_path.rglob("pwned"))
