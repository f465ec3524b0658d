"""What a user sets, and how it is read: as what is meant, or refused by name."""

import shlex
from pathlib import Path

import pytest
import yaml
from toy_project import ROOT

from corrloss.plan.batch_plan import BatchPlan
from corrloss.plan.schema import ExperimentError
from corrloss.plan.settings import FILE, SCHEMA, Settings, SettingsError, with_scale_of


def test_the_defaults_are_those_of_the_file():
    settings = Settings.load(ROOT)
    assert (settings.scale, settings.data_root, settings.results) == ("mini", Path("data"), Path("results"))
    assert (settings.ap, settings.gpus, settings.batch) == ("hotcoco", None, BatchPlan())


def test_every_setting_has_a_comment_and_a_schema():
    lines = (ROOT / FILE).read_text().splitlines()
    above = {line.partition(":")[0]: lines[i - 1] for i, line in enumerate(lines) if line[:1].isalpha()}
    assert all(comment.startswith("# ") for comment in above.values())
    assert above.keys() == yaml.safe_load((ROOT / SCHEMA).read_text())["properties"].keys()


@pytest.mark.parametrize(
    "name",
    ["2024", "007", "1e3", "1.50", "1_000", "yes", "true", "null", "12:30", "2026-11-25", "a=b", "o'x y"],
)
@pytest.mark.parametrize("key", ["data_root", "results"])
def test_a_folder_is_the_text_that_was_written(project, tmp_path, key, name):
    assert getattr(Settings.load(project, [f"{key}={name}"]), key) == Path(name)
    file = tmp_path / "mine.yaml"
    file.write_text(f"{key}: {name}\n")
    assert getattr(Settings.load(project, files=[file]), key) == Path(name)


def test_a_tilde_is_the_home(project, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    settings = Settings.load(project, ["data_root=~/data", "results=~"])
    assert (settings.data_root, settings.results) == (Path("/home/me/data"), Path("/home/me"))


@pytest.mark.parametrize(
    ("pairs", "batch"),
    [
        ([], BatchPlan()),
        (["processes=2"], BatchPlan(processes=2)),
        (["processes=null"], BatchPlan()),
        (["processes=2", "images_per_process=auto"], BatchPlan(2, "auto")),
        (["images_per_process=1", "rescale_lr=true"], BatchPlan(None, 1, True)),
        (["rescale_lr=True"], BatchPlan(rescale_lr=True)),
    ],
)
def test_the_batch_is_read_from_the_settings(project, pairs, batch):
    assert Settings.load(project, pairs).batch == batch


def test_the_last_value_counts(project, tmp_path):
    (project / FILE).write_text((project / FILE).read_text().replace("ap: hotcoco", "ap: pycocotools"))
    assert Settings.load(project).ap == "pycocotools"
    file = tmp_path / "mine.yaml"
    file.write_text("data_root: 1\nresults: 1\n")
    settings = Settings.load(project, ["results=2", "results=3"], [file])
    assert (settings.data_root, settings.results) == (Path("1"), Path("3"))


@pytest.mark.parametrize(
    ("pair", "said"),
    [
        ("data_rot=/data", "command line: unknown key 'data_rot'; valid keys: accumulate, ap, data_root"),
        ("scale", "command line: expected key=value, got 'scale'"),
        ("scale=huge", "command line: at scale: expected one of mini, got 'huge'"),
        ("scale=", "at scale: expected one of mini, got ''"),
        ("ap=fast", "at ap: expected one of hotcoco, pycocotools, got 'fast'"),
        ("processes=0", "at processes: 0 is less than the minimum of 1"),
        ("processes=-1", "at processes: -1 is less than the minimum of 1"),
        ("processes=two", "at processes: expected a whole number or nothing, got 'two'"),
        ("processes=1.5", "at processes: expected a whole number or nothing, got '1.5'"),
        ("processes=auto", "at processes: expected a whole number or nothing, got 'auto'"),
        ("images_per_process=all", "at images_per_process: expected a whole number or auto, got 'all'"),
        ("rescale_lr=yes", "at rescale_lr: expected true or false, got 'yes'"),
        ("gpus=many", "at gpus: expected a whole number or nothing, got 'many'"),
        (
            "results=",
            "at results: expected the name of a folder in UTF-8, without braces and control",
        ),
        (
            "data_root=a{b}",
            "at data_root: expected the name of a folder in UTF-8, without braces and control",
        ),
    ],
)
def test_a_wrong_setting_is_one_sentence(project, pair, said):
    with pytest.raises(SettingsError) as caught:
        Settings.load(project, [pair])
    assert str(caught.value).startswith("command line: ") and said in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "error", "said"),
    [
        ("data_rot: /data\n", SettingsError, "unknown key 'data_rot'"),
        (
            "processes: [1, 2]\n",
            SettingsError,
            "at processes: expected a whole number or nothing, got ['1', '2']",
        ),
        ("results: {a: b}\n", SettingsError, "at results: expected text, got {'a': 'b'}"),
        ("- mini\n", SettingsError, "expected a mapping `key: value`, got ['mini']"),
        ("scale: mini\nscale: mini\n", ExperimentError, "duplicate key 'scale'"),
        ("scale: [\n", ExperimentError, "not readable as YAML"),
    ],
)
def test_a_wrong_file_is_named(project, tmp_path, text, error, said):
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(error) as caught:
        Settings.load(project, files=[file])
    assert str(caught.value).startswith(f"{file}: ") and said in str(caught.value)


def test_a_file_without_a_setting_is_refused(project):
    (project / FILE).write_text("scale: mini\n")
    with pytest.raises(SettingsError, match=r"config\.yaml: expected a value for data_root, results, ap"):
        Settings.load(project)


def test_commands_are_given_what_differs_from_the_file(monkeypatch):
    monkeypatch.chdir(ROOT)
    assert Settings.load().arguments() == []
    pairs = ["data_root=/my data", "processes=2", "rescale_lr=true", "results=o'x"]
    settings = Settings.load(pairs=["scale=mini", *pairs])
    assert sorted(settings.arguments()) == sorted(pairs)
    assert Settings.load(pairs=shlex.split(shlex.join(settings.arguments()))) == settings


def test_commands_are_given_the_root_where_it_is_not_the_working_folder(project):
    assert Settings.load(project).arguments() == [f"--root={project}"]


@pytest.mark.parametrize(
    ("targets", "pairs", "settings"),
    [
        ([], ["ap=hotcoco"], ["ap=hotcoco"]),
        (["nms_free"], ["scale=paper", "scale=mini"], ["scale=paper", "scale=mini"]),  # the last one counts
        (["small"], ["ap=hotcoco"], ["ap=hotcoco", "scale=small"]),
        (["small", "nms_free"], ["scale=small"], ["scale=small"]),
    ],
)
def test_a_target_that_is_named_as_a_scale_is_a_setting(targets, pairs, settings):
    assert with_scale_of(targets, pairs, ["mini", "small", "paper"]) == settings


@pytest.mark.parametrize(("targets", "pairs"), [(["small"], ["scale=paper"]), (["small", "mini"], [])])
def test_two_scales_are_refused(targets, pairs):
    with pytest.raises(SettingsError, match=r"expected one scale, got scale=\w+, scale=small"):
        with_scale_of(targets, pairs, ["mini", "small", "paper"])
