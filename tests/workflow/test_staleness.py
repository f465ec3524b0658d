"""What a change of files, code or places does to finished results, judged by the results themselves.

After a change, weights and tables equal those of a fresh project with that change, or nothing ran and every
file is as it was.
"""

import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from project import ROOT, Project

PAIR = {
    "title": "A pair",
    "data": "coco",
    "metrics": ["AP", "AP50"],
    "rows": [
        {
            "detector": "retinanet",
            "variants": [{"coefficient": "none"}, {"coefficient": "spearman", "weight": 0.1}],
        }
    ],
}
RUNS = Path("results/smoke/runs/smoke_coco/retinanet")
NONE, LOSS = RUNS / "none/seed0", RUNS / "spearman_w0.1/seed0"
NOTHING = "Nothing to be done"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    project = Project(tmp_path_factory.mktemp("finished"), PAIR)
    succeeds(project)
    return project


@pytest.fixture
def copy(finished, tmp_path):
    """A copy of the finished project, with all its times."""
    return at(shutil.copytree(finished.folder, tmp_path / "copy", symlinks=True))


def at(folder):
    project = object.__new__(Project)
    project.folder = Path(folder)
    return project


def succeeds(project, *arguments, **settings):
    done = project.snakemake(*arguments, **settings)
    assert done.returncode == 0, done.stdout
    return done.stdout


def results(project):
    """Weights of both runs, runs.csv without times, and the table."""
    runs = pd.read_csv(project.folder / "results/smoke/runs.csv", dtype=str)
    table = (project.folder / "results/smoke/tables/pair.csv").read_text()
    return weights(project), runs.drop(columns="train_seconds").to_csv(), table


def weights(project):
    return [(project.folder / run / "weights.pth").read_bytes() for run in (NONE, LOSS)]


def snapshot(folder):
    """Content of every file but Snakemake's own."""
    paths = [path for path in folder.rglob("*") if path.is_file() and ".snakemake" not in path.parts]
    return {path.relative_to(folder): path.read_bytes() for path in paths}


def command(project, *arguments):
    """Call one of our commands in the project."""
    return subprocess.run(
        [Path(sys.executable).with_name("corrloss"), *arguments, "scale=smoke"],
        cwd=project.folder,
        capture_output=True,
        text=True,
        check=False,
    )


def edited(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def package_of(folder, monkeypatch):
    """A copy of the package that the project's commands use from now on."""
    ignored = shutil.ignore_patterns("__pycache__")
    copy = Path(shutil.copytree(ROOT / "corrloss", folder / "package/corrloss", ignore=ignored))
    monkeypatch.setenv("PYTHONPATH", str(copy.parent))
    return copy


# Nothing to be done -----------------------------------------------------------------------------


def without_metadata(project):
    shutil.rmtree(project.folder / ".snakemake")


def touched(project):
    succeeds(project, "--touch")


def other_clock(project):
    generator = random.Random(0)
    for path in sorted(project.folder.rglob("*")):
        if not path.is_symlink():
            os.utime(path, (generator.randrange(10**9, 3 * 10**9),) * 2)


def copied_without_times(project):
    other = project.folder.with_name("other")
    shutil.copytree(project.folder, other, symlinks=True, copy_function=shutil.copyfile)
    project.folder = other


def moved(project):
    project.folder = project.folder.rename(project.folder.with_name("moved here"))


def in_the_future(project):
    for path in sorted(project.folder.rglob("*")):
        os.utime(path, (4 * 10**9,) * 2, follow_symlinks=False)


def behind_a_link(project):
    results = project.folder / "results"
    results.symlink_to(results.rename(project.folder.with_name("results elsewhere")))


def files_of_other_programs(project):
    """What editors, network file systems and killed processes leave beside ours."""
    for folder in (project.folder / NONE, project.folder / "experiments/tables"):
        for name in (
            ".nfs0000000000000001",
            ".pair.yaml.swp",
            "._pair.yaml",
            "weights.pth.part",
            "record.json~",
        ):
            (folder / name).write_bytes(b"\0")


@pytest.mark.parametrize(
    "change",
    [
        without_metadata,
        touched,
        other_clock,
        in_the_future,
        copied_without_times,
        moved,
        behind_a_link,
        files_of_other_programs,
    ],
)
def test_what_decides_no_result_makes_nothing_stale(copy, change):
    change(copy)
    before = snapshot(copy.folder)
    assert NOTHING in succeeds(copy, "-n")
    assert snapshot(copy.folder) == before
    assert NOTHING in succeeds(copy)
    assert snapshot(copy.folder) == before


@pytest.mark.parametrize("folder", ["data", "results"])
@pytest.mark.parametrize("absolute", [True, False])
def test_moved_folders_and_other_spellings_make_nothing_stale(copy, folder, absolute, tmp_path):
    key = {"data": "data_root", "results": "results"}[folder]
    place = (copy.folder / folder).rename(tmp_path / "elsewhere")
    setting = place if absolute else f"./../{place.name}/."
    assert NOTHING in succeeds(copy, config=(f"{key}={setting}",))


# Repeated ---------------------------------------------------------------------------------------


def test_other_training_data_are_trained_on_from_the_start(copy, tmp_path):
    fresh = Project(tmp_path / "fresh", PAIR)
    for project in (copy, fresh):
        edited(project.folder / "experiments/datasets/smoke_coco.py", "train_images=24", "train_images=20")
    before = weights(copy)
    succeeds(copy)
    succeeds(fresh)
    assert results(copy) == results(fresh)
    assert weights(copy)[0] != before[0]
    assert json.loads((copy.folder / NONE / "training.json").read_text())["resumes"] == 0
    assert NOTHING in succeeds(copy)


def test_a_change_in_a_hard_linked_copy_leaves_the_results_of_the_first(copy, finished, tmp_path):
    other = at(tmp_path / "linked")
    subprocess.run(["cp", "-al", copy.folder, other.folder], check=True)
    path = other.folder / "experiments/tables/pair.yaml"
    text = path.read_text()
    path.unlink()
    path.write_text(text.replace("weight: 0.1", "weight: 0.2"))
    before = snapshot(copy.folder / RUNS)
    succeeds(other)
    assert (other.folder / RUNS / "spearman_w0.2").exists()
    assert snapshot(copy.folder / RUNS) == before and results(copy) == results(finished)


def test_another_generator_makes_the_data_anew(copy, tmp_path, monkeypatch):
    package = package_of(tmp_path, monkeypatch)
    edited(package / "data/mini_coco.py", "rng.integers(-8, 9,", "rng.integers(-20, 21,")
    fresh = Project(tmp_path / "fresh", PAIR)
    before = weights(copy)
    succeeds(copy)
    succeeds(fresh)
    assert results(copy) == results(fresh)
    assert weights(copy)[0] != before[0]
    assert NOTHING in succeeds(copy)


def test_another_loss_repeats_the_runs_with_it(copy, tmp_path, monkeypatch):
    package = package_of(tmp_path, monkeypatch)
    edited(package / "loss.py", "self.weight * (1", "2 * self.weight * (1")
    fresh = Project(tmp_path / "fresh", PAIR)
    before, baseline = weights(copy), snapshot(copy.folder / NONE)
    succeeds(copy)
    succeeds(fresh)
    assert results(copy) == results(fresh)
    assert weights(copy)[1] != before[1] and snapshot(copy.folder / NONE) == baseline


def test_another_commit_and_back_repeat_the_runs_with_the_loss(copy, finished, tmp_path, monkeypatch):
    package = package_of(tmp_path, monkeypatch)

    def git(*arguments):
        identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "core.hooksPath=/dev/null"]
        subprocess.run(["git", *identity, *arguments], cwd=package, check=True, capture_output=True)

    git("init", "--initial-branch=main")
    git("add", ".")
    git("commit", "-m", "as it is")
    edited(package / "loss.py", "self.weight * (1", "2 * self.weight * (1")
    git("commit", "-a", "-m", "twice the loss")
    succeeds(copy)
    assert weights(copy)[0] == weights(finished)[0] and weights(copy)[1] != weights(finished)[1]
    git("checkout", "HEAD~1")
    succeeds(copy)
    assert results(copy) == results(finished)
    git("checkout", "main")
    assert "train" in succeeds(copy, "-n")


@pytest.mark.parametrize("name", ["runs.csv", "tables/pair.csv", "tables/pair.md", "tables/pair.tex"])
def test_an_edited_table_is_made_again(copy, finished, name):
    path = copy.folder / "results/smoke" / name
    edited(path, "0", "7")
    assert "train" not in succeeds(copy)
    assert path.read_bytes() == (finished.folder / "results/smoke" / name).read_bytes()
    assert NOTHING in succeeds(copy)


def test_a_folder_of_another_variant_is_not_taken_for_this_one(copy, finished):
    shutil.copytree(copy.folder / LOSS, copy.folder / NONE, dirs_exist_ok=True)
    succeeds(copy)
    assert results(copy) == results(finished)


def test_a_checkpoint_of_another_run_is_not_resumed(copy, finished):
    (foreign,) = (copy.folder / LOSS).glob("checkpoints/*/iter_*.pth")
    (own,) = (copy.folder / NONE).glob("checkpoints/*/iter_*.pth")
    shutil.copy(foreign, own)
    for name in ("prediction.json", "record.json"):
        (copy.folder / NONE / name).unlink()
    succeeds(copy, str(NONE / "record.json"))
    assert weights(copy) == weights(finished)
    assert own.with_suffix(".damaged").exists()


# Refused by name --------------------------------------------------------------------------------


def test_detections_of_another_run_are_refused_by_name(copy):
    name = "detections.bbox.json"
    (copy.folder / NONE / name).write_text("[  ]")  # as of a training that failed, but other bytes
    done = command(copy, "evaluate", "smoke_coco/retinanet/none/seed0")
    assert done.returncode == 1 and "prediction.json: expected the files beside it" in done.stderr
    assert name in done.stderr and (copy.folder / NONE / "record.json").exists()


def test_swapped_replicates_are_refused_by_name(copy):
    one, other = (copy.folder / run / "bootstrap.bbox.npz" for run in (NONE, LOSS))
    content = one.read_bytes(), other.read_bytes()
    one.write_bytes(content[1])
    other.write_bytes(content[0])
    before = (copy.folder / "results/smoke/tables/pair.csv").read_text()
    done = command(copy, "table", "pair")
    assert done.returncode == 1 and "bootstrap.bbox.npz: expected replicates of identity" in done.stderr
    assert (copy.folder / "results/smoke/tables/pair.csv").read_text() == before


@pytest.mark.parametrize("value", [250, -3])
def test_a_metric_out_of_its_range_is_refused_by_name(copy, value):
    path = copy.folder / NONE / "record.json"
    record = json.loads(path.read_text())
    record["metrics"]["AP"] = value
    path.write_text(json.dumps(record))
    done = command(copy, "collect")
    assert done.returncode == 1 and f"record.json: metrics.AP is {value}, expected 0 to" in done.stderr
