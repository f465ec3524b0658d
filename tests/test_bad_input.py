"""Bad files, each passed to the command that reads it, as a user would.

``pytest -v tests/test_bad_input.py`` lists every case with the message that is expected.
"""

import shutil
from pathlib import Path

import pytest
from bad_input import data_sets, experiments, results
from finished_project import make_project
from typer.testing import CliRunner

from corrloss.analysis.record import write_replicates
from corrloss.analysis.stored_run import load_run
from corrloss.cli import app

AREAS = (*results.AREAS, *experiments.AREAS)
CASES = [(area, name) for area in AREAS for name in area.cases]
IDS = [f"{area.title}: {name} -> {area.cases[name][1].strip()}" for area, name in CASES]


@pytest.fixture(scope="session")
def pristine(tmp_path_factory):
    """Six finished runs; those of the table that is broken have their replicates too."""
    made = make_project(tmp_path_factory.mktemp("bad") / "project")
    for run in made.runs():
        if run.run.detector == "retinanet":
            stored = load_run(run.folder, made.root / results.TRUTH)
            write_replicates(run.folder, run.record["identity"], stored)
    return made.root


@pytest.fixture
def project(pristine, tmp_path, monkeypatch):
    root = Path(shutil.copytree(pristine, tmp_path / "project"))
    monkeypatch.chdir(root)
    return root


def run(command):
    # What is read is kept by its path, and so must not be that of another test's project.
    return CliRunner().invoke(app, command.replace("--root .", f"--root {Path.cwd()}").split())


def files(root):
    return {
        path.relative_to(root) for path in root.rglob("*") if path.is_file() and ".cache" not in path.parts
    }


@pytest.mark.parametrize("command", sorted({area.command for area in AREAS}))
def test_what_is_in_order_is_taken(project, command):
    """So that what refuses a bad file is the file."""
    done = run(command)
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize(("area", "name"), CASES, ids=IDS)
def test_a_bad_file_is_refused_by_name_and_nothing_is_made_of_it(project, area, name):
    harm, said = area.cases[name]
    harm(Path(area.file))
    before = files(project)
    done = run(area.command)
    assert done.exit_code == 1 and isinstance(done.exception, SystemExit), done.output
    assert done.stderr.startswith("error: ") and "Traceback" not in done.output
    assert Path(area.file).name in done.stderr and said in done.stderr
    new = {path.name for path in files(project) - before}
    # The lock of the run's folder; and replicates, whole, where they are made before the bad file is read.
    assert new <= {".lock", "bootstrap.bbox.npz"}


def test_there_are_many():
    assert len(CASES) + len(data_sets.BAD_ANNOTATIONS) + len(data_sets.BAD_FILES) > 200
