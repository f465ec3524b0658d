"""A run's folder: its files, its reports, and one process at a time."""

import subprocess
import sys
import threading

import pytest

from corrloss.files import atomic_write
from corrloss.run import PREDICTION_KEYS, TRAINING_KEYS, RunFolder, StageReportError

HOLD = """
import sys, time
from pathlib import Path
from corrloss.run import RunFolder
with RunFolder(Path(sys.argv[1])).exclusive(print):
    print("held", flush=True)
    time.sleep(60)
"""


def test_neither_torch_nor_mmdet_nor_pandas_is_imported():
    code = "import sys, corrloss.run; print({'torch', 'mmdet', 'mmengine', 'pandas'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_reports_are_read_as_they_were_written(tmp_path):
    folder = RunFolder(tmp_path)
    training, prediction = (dict.fromkeys(keys, 1.5) for keys in (TRAINING_KEYS, PREDICTION_KEYS))
    folder.write_training(training | {"failed": "loss is nan"})
    folder.write_prediction(prediction)
    assert folder.read_training() == training | {"failed": "loss is nan", "files": {}}
    assert folder.read_prediction() == prediction | {"files": {}}


def finished_folder(path):
    folder = RunFolder(path)
    folder.path.mkdir(exist_ok=True)
    for file in (folder.weights, *folder.predicted, folder.replicates()):
        file.write_text(file.name)
    folder.write_training(dict.fromkeys(TRAINING_KEYS, "a"))
    folder.write_prediction(dict.fromkeys(PREDICTION_KEYS, "b"))
    folder.write_record({})
    return folder


def test_a_report_of_another_identity_is_refused_by_name(tmp_path):
    folder = finished_folder(tmp_path)
    assert folder.read_training("a") and folder.read_prediction("b")
    with pytest.raises(StageReportError, match=r"training\.json: expected identity b, found a; delete it"):
        folder.read_training("b")


@pytest.mark.parametrize("change", ["other", "gone", "one more"])
def test_files_that_are_not_of_the_report_beside_them_are_refused_by_name(tmp_path, change):
    folder = finished_folder(tmp_path)
    masks = folder.detections("segm")
    if change == "one more":
        masks.unlink()
        folder.write_prediction(dict.fromkeys(PREDICTION_KEYS, "b"))
        masks.write_text("of another run")
    elif change == "gone":
        masks.unlink()
    else:
        masks.write_text("of another run")
    with pytest.raises(
        StageReportError, match=r"prediction\.json: .* found others or none of detections\.segm"
    ):
        folder.read_prediction("b")
    assert folder.read_prediction()  # the report page needs no more than the report


@pytest.mark.parametrize(
    ("stage", "left"),
    [
        ("evaluation", ["detections.bbox.json", "prediction.json", "training.json", "weights.pth"]),
        ("prediction", ["training.json", "weights.pth"]),
        ("training", []),
    ],
)
def test_a_stage_starts_without_its_own_and_all_later_files(tmp_path, stage, left):
    folder = finished_folder(tmp_path)
    folder.start(stage)
    found = {path.name for path in tmp_path.iterdir()}
    assert found & {"detections.bbox.json", "prediction.json", "training.json", "weights.pth"} == set(left)
    assert not found & {"record.json", "bootstrap.bbox.npz"}


@pytest.mark.parametrize("content", [None, "", '{"train_seconds": 1', "[]", "7", '{"train_seconds": 1}'])
def test_a_damaged_report_is_named_with_its_keys_and_what_to_do(tmp_path, content):
    folder = RunFolder(tmp_path)
    if content is not None:
        folder.training.write_text(content)
    with pytest.raises(StageReportError) as error:
        folder.read_training()
    for part in (str(folder.training), "train_seconds, iterations", "delete it and run snakemake again"):
        assert part in str(error.value)


def test_a_second_process_waits_until_the_first_is_killed(tmp_path):
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    lines, entered = [], threading.Event()

    def wait_for_it():
        with RunFolder(tmp_path).exclusive(lines.append):
            entered.set()

    waiting = threading.Thread(target=wait_for_it)
    waiting.start()
    try:
        assert not entered.wait(0.5)
        assert "waiting for another process" in lines[0] and str(tmp_path) in lines[0]
        holder.kill()
        assert entered.wait(10)
    finally:
        holder.kill()
        waiting.join()


def test_a_free_folder_is_locked_without_a_message(tmp_path):
    lines = []
    with RunFolder(tmp_path / "new").exclusive(lines.append):
        assert (tmp_path / "new").is_dir()
    assert lines == []


def test_files_that_a_killed_process_left_half_written_are_removed(tmp_path):
    folder = RunFolder(tmp_path)
    code = """
import os, signal, sys
from pathlib import Path
from corrloss.files import atomic_write
for name in ("weights.pth", "checkpoints/0123/iter_000000009.pth"):
    atomic_write(Path(sys.argv[1]) / name).__enter__().write_text("half")
os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    (tmp_path / ".predict-abc").mkdir()
    (tmp_path / ".predict-abc" / "detections.bbox.json").write_text("[")
    with atomic_write(folder.weights) as temporary:
        temporary.write_text("whole")
    assert len(list(tmp_path.rglob(".*.part"))) == 2
    with folder.exclusive(print):
        left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {".lock", "weights.pth"}
