import json

import pandas as pd
import pytest

from corrloss.plan.matrix import Matrix, Planned
from corrloss.plan.runs import Run
from corrloss.tables.records import RecordError, read_finished, read_record, read_runs, runs_frame

IDENTITY = ["run", "scale", "dataset", "detector", "coefficient", "weight", "seed"]
BASE = Run("mini", "mini_coco", "atss", "none", 0.0, 0)
LOSS = Run("mini", "mini_coco", "atss", "spearman", 0.2, 0)
OPTIONS = Run("mini", "mini_coco", "atss", "spearman", 0.2, 1, (("gradient_to", "both"), ("strength", 0.01)))


def record_of(run, identity="0123456789ab", **metrics):
    metrics = metrics or {"AP": 31.4159265, "AP50": 50.0}
    return {"run": run.name, "metrics": metrics, "train_seconds": 12.5, "identity": identity, "seed": 0}


def write(path, record):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(record if isinstance(record, str) else json.dumps(record))
    return path


def test_a_record_is_returned_as_it_is(tmp_path):
    record = record_of(LOSS, AP=1.5, AP_S=None, n=3)
    assert read_record(write(tmp_path / "record.json", record), LOSS) == record


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"run": BASE.name}, f"is of run {BASE.name}, not {LOSS.name}"),
        ({"run": None}, "is of run None"),
        ({"metrics": [1]}, "damaged record"),
        ({"metrics": None}, "damaged record"),
        ({"identity": 3}, "damaged record"),
        ({"metrics": {"AP": "31"}}, "metrics.AP is '31', not a finite number"),
        ({"metrics": {"AP": 31, "AP50": True}}, "metrics.AP50 is True"),
        ({"metrics": {"AP": float("nan")}}, "metrics.AP is nan"),
        ({"metrics": {"AP": [31]}}, "metrics.AP is [31]"),
        ({"train_seconds": None}, "train_seconds is None"),
        ({"failed": None}, "damaged record"),
        ({"failed": " "}, "failed must be the reason"),
        ({"failed": "loss is nan"}, "has metrics of a training that failed (loss is nan)"),
    ],
)
def test_a_record_that_cannot_be_right_is_refused(tmp_path, change, said):
    path = write(tmp_path / "record.json", record_of(LOSS) | change)
    with pytest.raises(RecordError) as caught:
        read_record(path, LOSS)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and said in message and "run snakemake again" in message


@pytest.mark.parametrize("key", ["run", "metrics", "identity", "train_seconds"])
def test_a_record_that_lacks_something_is_refused(tmp_path, key):
    record = record_of(LOSS)
    del record[key]
    with pytest.raises(RecordError, match=f"record.json: damaged record .*{key}"):
        read_record(write(tmp_path / "record.json", record), LOSS)


def test_every_truncation_of_a_record_is_refused(tmp_path):
    text = json.dumps(record_of(LOSS))
    for length in range(len(text)):
        with pytest.raises(RecordError, match="damaged record"):
            read_record(write(tmp_path / "record.json", text[:length]), LOSS)


@pytest.mark.parametrize("text", ["[]", "1", "null", '"run"', "\x00"])
def test_other_json_is_refused(tmp_path, text):
    with pytest.raises(RecordError, match="damaged record"):
        read_record(write(tmp_path / "record.json", text), LOSS)


BINS = [[0.5, 0.1, 0.2, 0.1]]
CURVES = {"LaECE": BINS, "D_ECE": BINS, "over_scores": [[0.0, 10.0, None]]}


@pytest.mark.parametrize(
    "calibration",
    [
        {"none": CURVES},
        {"none": CURVES, "isotonic": CURVES | {"LaECE": [[0.5, 0.1]]}},
        {"none": CURVES, "isotonic": CURVES | {"over_scores": [["0", 1.0, 1.0]]}},
        {"none": CURVES, "isotonic": {"LaECE": BINS}},
    ],
)
def test_damaged_calibration_curves_are_refused(tmp_path, calibration):
    whole = record_of(LOSS) | {"calibration": {"none": CURVES, "isotonic": CURVES}}
    assert read_record(write(tmp_path / "record.json", whole), LOSS) == whole
    with pytest.raises(RecordError, match="damaged record"):
        read_record(write(tmp_path / "record.json", whole | {"calibration": calibration}), LOSS)


def test_a_missing_record_says_that_the_run_is_not_finished(tmp_path):
    with pytest.raises(RecordError, match="no record; the run is not finished"):
        read_record(tmp_path / "record.json", LOSS)


def test_columns_stand_in_the_order_that_is_promised():
    # As json sorts them, the six figures of AP would be parted by others.
    figures = {"AP": 1.0, "AP50": 2.0, "AP75": 3.0, "AP_L": 6.0, "AP_M": 5.0, "AP_S": 4.0, "AR_1": 7.0}
    masks = {f"mask_{name}": value for name, value in figures.items()}
    frame = runs_frame(
        [(BASE, record_of(BASE, **figures)), (OPTIONS, record_of(OPTIONS, oLRP=8.0, **figures, **masks))]
    )
    aps = ["AP", "AP50", "AP75", "AP_S", "AP_M", "AP_L"]
    expected = [*IDENTITY, "strength", "gradient_to", *aps, *(f"mask_{name}" for name in aps)]
    assert list(frame)[: len(expected)] == expected
    assert set(list(frame)[len(expected) : -4]) == {"AR_1", "mask_AR_1", "oLRP"}
    assert list(frame)[-4:] == ["train_seconds", "identity", "status", "environment"]
    assert frame.loc[1, aps].tolist() == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]


def test_rows_are_the_runs_and_unknown_cells_are_empty(tmp_path):
    runs = [(BASE, record_of(BASE, AP=10.0, AP_S=None)), (OPTIONS, record_of(OPTIONS, AP=12.0, AP_S=3.0))]
    path = tmp_path / "runs.csv"
    runs_frame(runs).to_csv(path, index=False, float_format="%.6g")
    lines = path.read_text().splitlines()
    assert lines == [
        "run,scale,dataset,detector,coefficient,weight,seed,strength,gradient_to,AP,AP_S,train_seconds,identity,"
        "status,environment",
        f"{BASE.name},mini,mini_coco,atss,none,0,0,,,10,,12.5,0123456789ab,ok,",
        f"{OPTIONS.name},mini,mini_coco,atss,spearman,0.2,1,0.01,both,12,3,12.5,0123456789ab,ok,",
    ]


def test_a_run_that_failed_has_its_reason_and_no_figure(tmp_path):
    reason = 'loss is nan at iteration 7, "loss_cls" nan; <b>'
    record = record_of(BASE, AP=None, AP50=None) | {"failed": reason}
    assert read_record(write(tmp_path / "record.json", record), BASE) == record
    runs_frame([(BASE, record), (LOSS, record_of(LOSS))]).to_csv(tmp_path / "runs.csv", index=False)
    read = read_runs(tmp_path / "runs.csv")
    assert read["status"].tolist() == [f"failed: {reason}", "ok"]
    assert read[["AP", "AP50"]].isna().all(axis=1).tolist() == [True, False]


def test_surroundings_of_training_and_prediction_are_a_line(tmp_path):
    train = {"device": "cpu; slow\n", "threads": 1, "versions": {"torch": "2.13.0"}}
    record = record_of(BASE) | {"environment": {"train": train, "predict": train | {"threads": 2}}}
    runs_frame([(BASE, record)]).to_csv(tmp_path / "runs.csv", index=False)
    said = "device=cpu, slow; threads=1; versions.torch=2.13.0; predict.threads=2"
    assert read_runs(tmp_path / "runs.csv")["environment"].tolist() == [said]


def test_a_runs_csv_from_before_there_were_notes_is_read(tmp_path):
    frame = runs_frame([(BASE, record_of(BASE))]).drop(columns=["status", "environment"])
    frame.to_csv(tmp_path / "runs.csv", index=False)
    assert len(read_runs(tmp_path / "runs.csv")) == 1


def test_what_is_written_is_read_back(tmp_path):
    hashes = ["012345678901", "1234567890e1", "0123456789ab"]  # two of them look like numbers
    runs = [
        (run, record_of(run, identity=hash) | {"environment": {"train": {"threads": 1}}})
        for run, hash in zip((BASE, LOSS, OPTIONS), hashes, strict=True)
    ]
    written = runs_frame(runs)
    written.to_csv(tmp_path / "runs.csv", index=False)
    read = read_runs(tmp_path / "runs.csv")
    pd.testing.assert_frame_equal(read, written, check_dtype=False)
    assert read["identity"].tolist() == hashes
    assert read["coefficient"].tolist() == ["none", "spearman", "spearman"]


def test_no_runs_are_a_file_with_a_header(tmp_path):
    runs_frame([]).to_csv(tmp_path / "runs.csv", index=False)
    frame = read_runs(tmp_path / "runs.csv")
    assert frame.empty and list(frame) == [
        *IDENTITY,
        "train_seconds",
        "identity",
        "status",
        "environment",
    ]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("AP50", "AP", "line 1: duplicate column AP; keep one"),
        ("coefficient", "coef", "line 1: no column coefficient"),
        (",ok,\n", "\n", "line 2: has 11 fields, the header 13"),
        (",0123456789ab,ok", ",,ok", "line 2, identity: expected text, found nothing"),
        ("31.4159265", "high", "line 2, AP: expected a finite number, found 'high'"),
        ("31.4159265", "inf", "line 2, AP: expected a finite number, found 'inf'"),
        (",0.2,", ",?,", "line 3, weight: expected a finite number, found '?'"),
        (",0.2,", ",,", "line 3, weight: expected a finite number, found nothing"),
        (LOSS.name, BASE.name, f"line 3: duplicate run {BASE.name}; keep one"),
        ("12.5", "long", "line 2, train_seconds: expected a finite number, found 'long'"),
    ],
)
def test_a_broken_runs_csv_is_refused_with_line_and_column(tmp_path, old, new, said):
    path = tmp_path / "runs.csv"
    runs_frame([(run, record_of(run)) for run in (BASE, LOSS)]).to_csv(path, index=False)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(RecordError) as caught:
        read_runs(path)
    assert str(caught.value).startswith(f"{path}: ") and said in str(caught.value)


def test_an_empty_figure_is_unknown(tmp_path):
    path = tmp_path / "runs.csv"
    runs_frame([(BASE, record_of(BASE))]).to_csv(path, index=False)
    path.write_text(path.read_text().replace("31.4159265", ""))
    assert read_runs(path)["AP"].isna().all()


@pytest.fixture
def matrix():
    planned = {
        run.name: Planned(run, {"bench": {"identity": {"evaluation": "0123456789ab"}}})
        for run in (BASE, LOSS, OPTIONS)
    }
    return Matrix("mini", {}, planned, {})


def test_only_runs_finished_with_their_present_config_count(matrix, tmp_path):
    write(BASE.folder(tmp_path).record, record_of(BASE))
    write(LOSS.folder(tmp_path).record, record_of(LOSS, identity="older0000000"))
    assert read_finished(matrix, tmp_path) == [(BASE, record_of(BASE))]


def test_a_damaged_record_among_the_finished_is_an_error(matrix, tmp_path):
    path = write(OPTIONS.folder(tmp_path).record, record_of(BASE))
    with pytest.raises(RecordError, match=f"^{path}: is of run {BASE.name}"):
        read_finished(matrix, tmp_path)
