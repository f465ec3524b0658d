"""The commands from outside: what they write, and what they say of what is broken."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from corrloss.cli import app
from corrloss.plan.matrix import load_matrix
from corrloss.plan.schema import ExperimentError
from corrloss.plan.settings import Settings

ROOT = Path(__file__).parents[1]
COMMANDS = (
    "make-data",
    "download",
    "fetch-sample",
    "sample-statistics",
    "fetch-weights",
    "convert-cityscapes",
    "predict-test-dev",
    "cost",
    "check-data",
    "resolve",
    "train",
    "evaluate",
    "collect",
    "table",
    "show",
    "report",
    "overhead",
)
TABLE = """\
title: One detector
data: coco
metrics: [AP, AP50]
rows:
  - detector: retinanet
    variants:
      - coefficient: none
      - {coefficient: spearman, weight: 0.1}
"""


RUN = "mini_coco/retinanet/none/seed0"
RESOLVE = f"resolve {RUN}"
COLLECT = "collect"
TABULATE = "table one"
EVALUATE = f"evaluate {RUN}"


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    """A project with one small table, whose two runs are finished."""
    root = tmp_path_factory.mktemp("cli") / "project"
    shutil.copytree(
        ROOT / "experiments", root / "experiments", ignore=shutil.ignore_patterns("tables", "*.pyc")
    )
    shutil.copytree(ROOT / "config", root / "config")
    shutil.copytree(ROOT / "workflows" / "schemas", root / "workflows" / "schemas")
    (root / "experiments" / "tables").mkdir()
    (root / "experiments" / "tables" / "one.yaml").write_text(TABLE)
    matrix = load_matrix(Settings.load(root, [f"results={root / 'results'}", f"data_root={root / 'data'}"]))
    for points, planned in enumerate(matrix.planned.values(), start=30):
        folder = planned.run.folder(root / "results")
        folder.path.mkdir(parents=True)
        record = {"run": planned.run.name, "identity": planned.identity["evaluation"], "train_seconds": 9.0}
        record["metrics"] = {"AP": points, "AP50": 50.0}
        folder.record.write_text(json.dumps(record))
    return root


@pytest.fixture
def project(pristine, tmp_path, monkeypatch):
    root = Path(shutil.copytree(pristine, tmp_path / "project"))
    monkeypatch.chdir(root)
    return root


@pytest.fixture
def invoke(project):
    def run(command):
        return CliRunner().invoke(app, [*command.split(), "--root", str(project)])

    return run


def done(result):
    assert result.exit_code == 0, result.output
    return result.output


def refused(result):
    """The one message of a command that refused its input."""
    assert result.exit_code == 1 and isinstance(result.exception, SystemExit)
    assert result.stderr.startswith("error: ") and result.stderr.count("error: ") == 1
    assert "Traceback" not in result.output
    return result.stderr


def test_help_lists_every_command():
    output = done(CliRunner().invoke(app, ["--help"]))
    known = {
        (it.name or it.callback.__name__).replace("_", "-") for it in app.registered_commands if not it.hidden
    }
    assert set(COMMANDS) <= known
    assert [name for name in known if name not in output] == []


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command):
    output = done(CliRunner().invoke(app, [command, "--help"]))
    assert output.count("Usage: ") == 1 and "Traceback" not in output


def test_the_installed_command_starts_without_loading_what_it_does_not_use():
    code = (
        "import sys, corrloss.cli\n"
        "print([name for name in ('torch', 'mmengine', 'mmdet', 'pandas', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_from_records_to_tables_and_the_terminal(invoke, project):
    done(invoke(COLLECT))
    done(invoke(TABULATE))
    lines = (project / "results/mini/runs.csv").read_text().splitlines()
    assert lines[0].startswith("run,scale,dataset,detector,coefficient,weight,seed,AP,AP50,train_seconds")
    assert len(lines) == 3
    csv = (project / "results/mini/tables/one.csv").read_text().splitlines()
    assert csv[0].startswith("detector,coefficient,weight,AP,AP50,delta_AP,ci_low,ci_high,se_images,se_seeds")
    row = dict(zip(csv[0].split(","), csv[2].split(","), strict=True))
    assert (row["coefficient"], row["AP"], row["delta_AP"], row["n_seeds"]) == ("spearman", "31", "1", "1")
    assert row["ci_low"] == "" and row["verdict"] == "not comparable"  # no replicates, no paper's scale
    markdown = (project / "results/mini/tables/one.md").read_text()
    assert markdown.startswith("# One detector\n") and "no evidence" in markdown
    latex = (project / "results/mini/tables/one.tex").read_text()
    assert latex.startswith("% One detector\n% Scale") and r"delta\_AP" in latex
    shown = done(invoke("show"))
    assert "spearman 0.1" in shown and "31.0" in shown and "results/mini/runs.csv" in shown
    assert [path.name for path in (project / "results/mini").rglob("*.part")] == []


def test_resolve_prints_the_config_of_a_run(invoke):
    assert f"run': '{RUN}'" in done(invoke(RESOLVE))


def test_a_run_of_no_table_is_named(invoke, project):
    said = refused(invoke(RESOLVE.replace("none", "spearman_w0.9")))
    assert (
        "mini_coco/retinanet/spearman_w0.9/seed0: no table of experiments/tables has this run at sca" in said
    )


def test_a_run_of_an_older_config_has_no_figures(invoke, project):
    path = next((project / "results").rglob("spearman*/seed0/record.json"))
    path.write_text(path.read_text().replace('"identity": "', '"identity": "older'))
    done(invoke(COLLECT))
    done(invoke(TABULATE))
    csv = (project / "results/mini/tables/one.csv").read_text().splitlines()
    row = dict(zip(csv[0].split(","), csv[2].split(","), strict=True))
    assert (row["coefficient"], row["AP"], row["delta_AP"], row["n_seeds"]) == ("spearman", "", "", "0")
    assert row["incomplete"].endswith(path.parents[1].name + "/seed0")


@pytest.mark.parametrize("command", [RESOLVE, COLLECT])
@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        ("tables/one.yaml", "retinanet", "retinent", "at rows[0].detector: expected one of "),
        ("tables/one.yaml", "title: ", "title: [", "not readable as YAML"),
        ("scales/mini.yaml", "section: mini", "section: tiny", "`tiny`"),
        ("detectors/retinanet.py", "correlation = ", "corelation = ", "'correlation' is missing"),
        ("datasets/mini_coco.py", "folder = ", "folder = = ", "SyntaxError"),
    ],
)
def test_a_broken_file_of_experiments_is_one_message(invoke, project, command, file, old, new, said):
    path = project / "experiments" / file
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    message = refused(invoke(command))
    assert str(Path("experiments") / file) in message and said in message


def test_a_broken_record_is_one_message(invoke, project):
    path = next((project / "results").rglob("record.json"))
    path.write_text(path.read_text()[:20])
    assert str(path.relative_to(project)) in refused(invoke(COLLECT))


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("results/mini/runs.csv", "line 1: no column run"),
        ("experiments/reference/paper.csv", "line 1: no column table"),
        ("experiments/tables/one.yaml", "expected a mapping, got nothing"),
    ],
)
def test_a_broken_input_of_a_table_is_one_message(invoke, project, file, said):
    runs = project / "results/mini/runs.csv"
    runs.write_text("run,scale,dataset,detector,coefficient,weight,seed,AP,AP50,train_seconds,identity\n")
    (project / file).write_text("")
    message = refused(invoke(TABULATE))
    assert file in message and said in message
    assert not (project / "results/mini/tables/one.csv").exists()


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("download voc", "expected one of coco, coco_small, coco_val, coco_test_dev, cityscapes, got 'voc'"),
        ("make-data voc", "experiments/datasets/voc.py: no such file; there are"),
        ("check-data voc", "experiments/datasets/voc.py: no such file"),
        ("show", "results/mini/tables: no table yet"),
        ("show scale=huge", "at scale: expected one of mini, paper, small, smoke, zoo, zoo_500, got 'huge'"),
        ("collect data_rot=/data", "unknown key 'data_rot'; valid keys: accumulate, ap, data_root, gpu"),
        ("collect mini", "expected key=value, got 'mini'"),
        (f"{EVALUATE} ap=fast", "at ap: expected one of hotcoco, pycocotools, got 'fast'"),
        (EVALUATE, "data/mini_coco/annotations/instances_val.json"),
    ],
)
def test_what_is_not_there_is_one_message(invoke, project, command, said):
    assert said in refused(invoke(command))


def test_published_weights_are_not_rehearsed(tmp_path):
    command = ["rehearse", "coco_val/atss/published/seed0", "scale=zoo", f"results={tmp_path}"]
    found = CliRunner().invoke(app, [*command, f"--root={ROOT}"])
    assert found.exit_code == 1 and "got published weights; nothing to rehearse" in found.stderr


def test_the_cost_of_finished_runs_is_that_of_their_records(invoke):
    said = done(invoke("cost"))
    (row,) = (line for line in said.splitlines() if line.startswith("| one "))
    assert [cell.strip() for cell in row.split("|")[2:6]] == ["2", "1", "2", "0.0"]  # 18 seconds
    assert "2 are from their own records" in said


def test_conversion_says_what_is_missing(invoke):
    said = refused(invoke("convert-cityscapes cityscapes train data_root=nowhere"))
    assert "unpack leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip in nowhere/cityscapes" in said


@pytest.mark.parametrize("command", ["table", "show --scael mini", "tabel"])
def test_a_mistaken_call_shows_how_to_call(invoke, command):
    result = invoke(command)
    assert result.exit_code == 2 and "Usage: " in result.output and "Traceback" not in result.output


@pytest.mark.parametrize("error", [ValueError, OSError, KeyError, RuntimeError])
def test_a_defect_keeps_its_traceback(invoke, monkeypatch, error):
    def broken(*_):
        raise error("a defect")

    monkeypatch.setattr("corrloss.tables.show.show", broken)
    result = invoke("show")
    assert type(result.exception) is error and result.exc_info[2] is not None
    assert "error: " not in result.stderr


@pytest.mark.parametrize("error", [ExperimentError, FileNotFoundError, PermissionError])
def test_an_error_of_ours_or_of_a_file_does_not(invoke, monkeypatch, error):
    def broken(*_):
        raise error("what is wrong")

    monkeypatch.setattr("corrloss.tables.show.show", broken)
    assert refused(invoke("show")) == "error: what is wrong\n"
