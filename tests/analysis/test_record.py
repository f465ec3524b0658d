import json
import subprocess
from datetime import UTC, datetime

import numpy as np
import pytest
from synthetic_coco import make_dataset, make_detections, write

from corrloss.analysis import record as record_module
from corrloss.analysis.ap import METRICS, average_precision
from corrloss.analysis.differences import paired_difference
from corrloss.analysis.metrics import metric_names
from corrloss.analysis.record import make_record, write_replicates
from corrloss.analysis.replicates import METRICS as BOOTSTRAPPED
from corrloss.analysis.replicates import Replicates
from corrloss.analysis.stored_run import load_run
from corrloss.coco import load_detections, load_ground_truth
from corrloss.run import RunFolder

NAME = "mini_coco/atss/spearman_w0.2/seed3"
TRAINING = {
    "identity": "0123456789ab",
    "train_seconds": 61.5,
    "iterations": 400,
    "resumes": 2,
    "peak_memory_mb": 812.5,
    "environment": {"device": "cpu (x86_64)", "versions": {"torch": "2.1"}},
    "curve": [{"iteration": 8, "loss": 1.5}],
}
PREDICTION = {
    "identity": "0123456789ab",
    "predict_seconds": 4.5,
    "peak_memory_mb": 400.0,
    "environment": {"device": "cpu (aarch64)"},
}


@pytest.fixture
def folder(tmp_path):
    dataset = make_dataset(0)
    write(tmp_path / "annotations.json", dataset)
    write(tmp_path / "detections.bbox.json", make_detections(1, dataset))
    write(tmp_path / "training.json", TRAINING)
    write(tmp_path / "prediction.json", PREDICTION)
    return tmp_path


def stored(folder):
    return load_run(RunFolder(folder), folder / "annotations.json")


def made(folder):
    return make_record(NAME, "0123456789ab", RunFolder(folder), stored(folder))


def test_a_record_says_what_was_measured_and_under_what_circumstances(folder):
    record = made(folder)
    assert {key: record[key] for key in ("run", "seed", "identity")} == {
        "run": NAME,
        "seed": 3,
        "identity": "0123456789ab",
    }
    assert (record["train_seconds"], record["predict_seconds"], record["iterations"]) == (61.5, 4.5, 400)
    assert record["resumes"] == 2
    assert record["peak_memory_mb"] == 812.5
    assert record["environment"] == {
        "train": TRAINING["environment"],
        "predict": PREDICTION["environment"],
    }
    truth = load_ground_truth(folder / "annotations.json")
    boxes = load_detections(folder / "detections.bbox.json", truth)
    expected = average_precision(truth, boxes, backend="pycocotools")
    assert {name: record["metrics"][name] for name in METRICS} == pytest.approx(expected)
    assert not [name for name in record["metrics"] if name.startswith("mask_")]
    assert json.loads(json.dumps(record, allow_nan=False)) == record


def test_a_record_is_dated_in_universal_time(folder):
    before = datetime.now(UTC).replace(microsecond=0)
    date = datetime.fromisoformat(made(folder)["date"])
    assert before <= date <= datetime.now(UTC)


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A git repository with one commit, which takes the place of this one."""
    place = tmp_path / "repository"
    place.mkdir()
    monkeypatch.setattr(record_module, "__file__", str(place / "record.py"))

    def git(*arguments):
        who = ["-c", "user.name=n", "-c", "user.email=e@example.org"]
        done = subprocess.run(
            ["git", *who, *arguments], cwd=place, check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    git("init", "--quiet")
    (place / "file").write_text("1")
    git("add", "file")
    git("commit", "--quiet", "-m", "first")
    git("tag", "-a", "v1.0", "-m", "of the kind that git describe goes by")
    return git, place


def test_the_commit_is_a_hash_also_where_there_is_a_tag(folder, repository):
    git, _ = repository
    assert made(folder)["commit"] == git("rev-parse", "HEAD")[:12]


def test_a_changed_checkout_says_so(folder, repository):
    git, place = repository
    (place / "file").write_text("2")
    assert made(folder)["commit"] == git("rev-parse", "HEAD")[:12] + "-dirty"


def test_outside_git_the_commit_is_unknown(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(record_module, "__file__", str(tmp_path / "record.py"))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert made(folder)["commit"] == "unknown"


def test_without_git_the_commit_is_unknown(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert made(folder)["commit"] == "unknown"


@pytest.mark.parametrize(
    "name", ["training.json", "prediction.json", "detections.bbox.json", "annotations.json"]
)
def test_a_file_that_is_not_there_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises((OSError, ValueError), match=name):
        made(folder)


@pytest.mark.parametrize("name", ["detections.bbox.json", "annotations.json"])
def test_a_file_that_was_cut_short_is_named(folder, name):
    path = folder / name
    path.write_text(path.read_text()[:-10])
    with pytest.raises(ValueError, match=name):
        made(folder)


def fail(folder, with_masks):
    """What the stages before leave of a training that diverged: no detections in files that are there."""
    write(folder / "training.json", TRAINING | {"failed": "loss is nan at iteration 7 (loss_cls nan)"})
    for name in ("bbox", "segm")[: 1 + with_masks]:
        write(folder / f"detections.{name}.json", [])


@pytest.mark.parametrize("with_masks", [False, True])
def test_a_training_that_failed_is_a_record_with_its_reason_and_no_metric(folder, with_masks):
    fail(folder, with_masks)
    record = made(folder)
    assert record["failed"] == "loss is nan at iteration 7 (loss_cls nan)"
    assert record["metrics"] == dict.fromkeys(metric_names(with_masks))
    assert record["train_seconds"] == 61.5 and "failed" not in made_whole(folder)


def made_whole(folder):
    write(folder / "training.json", TRAINING)
    return made(folder)


@pytest.mark.parametrize("with_masks", [False, True])
def test_a_training_that_failed_leaves_replicates_that_give_no_interval(folder, with_masks):
    dataset = make_dataset(0)
    write(folder / "detections.bbox.json", make_detections(1, dataset))
    write_replicates(RunFolder(folder), "0123456789ab", stored(folder))
    whole = Replicates.load(folder / "bootstrap.bbox.npz")
    fail(folder, with_masks)
    write_replicates(RunFolder(folder), "0123456789ab", stored(folder))
    failed = Replicates.load(folder / "bootstrap.bbox.npz")
    assert (folder / "bootstrap.segm.npz").exists() == with_masks
    assert failed.values.shape == whole.values.shape == (1000, len(BOOTSTRAPPED))
    interval = paired_difference([whole], [failed])["AP"]
    assert np.isnan([interval.delta, interval.ci_low, interval.ci_high, interval.p_value]).all()


def test_the_reference_tool_gives_the_same_record_and_is_named(folder):
    reference = make_record(NAME, "0123456789ab", RunFolder(folder), stored(folder), "pycocotools")
    fast = made(folder)
    assert (reference.pop("ap_backend"), fast.pop("ap_backend")) == ("pycocotools", "hotcoco")
    assert reference["metrics"] == pytest.approx(fast["metrics"])
