"""The plan of the whole of scale paper, on a machine with neither data nor a GPU."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from corrloss.plan.matrix import load_matrix
from corrloss.plan.settings import Settings

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("plan")


@pytest.fixture(scope="module")
def planned(folder):
    command = [Path(sys.executable).with_name("snakemake"), "all", "test_dev", "-n", "--cores", "1"]
    command += ["--snakefile", ROOT / "Snakefile", "--workflow-profile", "none", "--directory", folder]
    command += ["--config", "scale=paper"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def count(planned, job):
    found = re.search(rf"^{job} +(\d+)$", planned, re.MULTILINE)
    return int(found[1]) if found else 0


def test_every_run_of_every_table_is_trained_once(planned, folder):
    matrix = load_matrix(Settings.load(ROOT, ["scale=paper", f"results={folder / 'results'}"]))
    runs = {run.name for table in matrix.tables.values() if table.kind == "results" for run in table.runs}
    assert count(planned, "train") == len(runs)
    assert count(planned, "predict_test_dev") == len(matrix.tables["test_dev"].runs)
    assert count(planned, "fetch_weights") == len(matrix.weights)


def test_data_is_checked_and_converted_but_never_downloaded(planned):
    assert count(planned, "check_data") == 3  # COCO, test-dev, Cityscapes
    assert count(planned, "convert_cityscapes_train") == count(planned, "convert_cityscapes_test") == 1
    assert "download" not in planned


def test_what_is_missing_here_is_said(planned):
    for path in ("data/coco/annotations/instances_train2017.json", "data/cityscapes/gtFine/train"):
        assert f"missing here: {path}" in planned


def dry_run(folder, *arguments):
    command = [Path(sys.executable).with_name("snakemake"), "-n", "--cores", "1", "--directory", folder]
    command += ["--snakefile", ROOT / "Snakefile", "--workflow-profile", "none", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def test_one_detector_of_a_table_is_a_target(folder):
    code, said = dry_run(folder, "nms_based/atss", "--config", "scale=mini")
    assert code == 0, said
    assert count(said, "train") == count(said, "evaluate") == 3 and count(said, "table") == 0
    code, said = dry_run(folder, "nms_based/atts", "--config", "scale=mini")
    assert code != 0 and "expected <table>/<detector> with a detector of retinanet, foveabox, atss" in said


def test_a_target_that_is_named_as_a_scale_picks_it(folder):
    code, said = dry_run(folder, "small", "--config", "data_root=elsewhere")
    assert code == 0, said
    assert count(said, "train") == count(said, "evaluate") == 27
    assert count(said, "fetch_coco_small") == count(said, "check_data") == count(said, "small") == 1
    code, said = dry_run(folder, "small", "--config", "scale=paper")
    assert code != 0 and "expected one scale, got scale=paper, scale=small" in said
