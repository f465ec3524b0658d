"""All of experiments/ at once, and a stream of broken files: each an error with place and valid choices."""

from pathlib import Path

import pytest
from toy_project import ROOT

from corrloss.plan.experiments import Experiments
from corrloss.plan.matrix import load_matrix
from corrloss.plan.schema import ExperimentError
from corrloss.plan.settings import Settings, SettingsError

TABLE, SCALE = "tables/toys.yaml", "scales/mini.yaml"
DETECTOR, DATASET = "detectors/toy.py", "datasets/shapes.py"
VARIANT = "at rows[0].variants"

# name: file, what is replaced (None: all of it), by what, and what the message must say of it
BROKEN = {
    "unknown key": (TABLE, "title", "titel", ["unknown key 'titel'", "'title' is missing", "metrics"]),
    "unknown key in a variant": (TABLE, "weight", "wieght", [f"{VARIANT}[1]", "'wieght'", "strength"]),
    "unknown detector": (TABLE, "toy\n", "tyo\n", ["at rows[0].detector", "got 'tyo'", "one of toy"]),
    "unknown coefficient": (TABLE, "spearman", "kendall", [f"{VARIANT}[1].coeff", "'kendall'", "pearson"]),
    "weight 0": (TABLE, "0.2", "0", [f"{VARIANT}[1].weight", "0 is less than or equal to the minimum of 0"]),
    "negative weight": (TABLE, "0.2", "-0.2", [f"{VARIANT}[1].weight", "-0.2 is less than"]),
    "weight in words": (TABLE, "0.2", "much", [f"{VARIANT}[1].weight", "'much'", "expected a number"]),
    "weight true": (TABLE, "0.2", "true", [f"{VARIANT}[1].weight", "True", "expected a number"]),
    "weight nan": (TABLE, "0.2", ".nan", ["line 8", "expected a finite number, got .nan"]),
    "weight twice": (TABLE, "weight: 0.2", "weight: 0.2, weight: 0.3", ["line 8", "duplicate key 'weight'"]),
    "no weight": (TABLE, ", weight: 0.2", "", [f"{VARIANT}[1]", "'weight' is missing"]),
    "weight of a baseline": (
        TABLE, "- coefficient: none", "- {coefficient: none, weight: 0.2}",
        [f"{VARIANT}[0].weight", "not allowed together"],
    ),
    "unknown scope": (TABLE, "0.2}", "0.2, scope: all}", [f"{VARIANT}[1].scope", "'all'", "batch, level"]),
    "no baseline": (TABLE, "      - coefficient: none\n", "", ["no baseline", "{coefficient: none}", "toy"]),
    "no data": (TABLE, "data: coco\n", "", ["expected one of the keys data, dataset"]),
    "two kinds of data": (TABLE, "coco\n", "coco\ndataset: shapes\n", ["at data: not allowed together"]),
    "unknown data set of one's own": (TABLE, "data: coco", "dataset: shape", ["at dataset", "one of shapes"]),
    "unknown kind of data": (TABLE, "coco", "voc", ["at data", "'voc'", "coco, cityscapes"]),
    "data that the scale lacks": (TABLE, "coco", "cityscapes", ["at data", "'mini'", "one of coco"]),
    "no YAML": (TABLE, "[AP, AP50]", "[AP, AP50", ["not readable as YAML", "line 4"]),
    "tabs": (TABLE, "  - detector", "\t- detector", ["not readable as YAML", "line 5"]),
    "empty": (TABLE, None, "", ["expected a mapping, got nothing"]),
    "list for mapping": (TABLE, None, "- title: Toys\n", ["expected a mapping, got ["]),
    "text for list": (TABLE, "[AP, AP50]", "AP", ["at metrics", "'AP'", "expected a list"]),
    "no headline": (TABLE, "[AP, AP50]", "[AP50]", ["at metrics", "expected one of AP, mask_AP"]),
    "no rows": (TABLE, None, "title: T\ndata: coco\nmetrics: [AP]\nrows: []\n", ["at rows", "non-empty"]),
    "table extends nothing": (TABLE, "title", "extends: toyz\ntitle", ["at extends", "'toyz'"]),
    "no runs at all": (TABLE, "title", "scales: [other]\ntitle", ["tables", "no table has a run", "'mini'"]),
    "scale extends nothing": (SCALE, "gpus", "extends: tiny\ngpus", ["at extends", "'tiny'", "one of other"]),
    "scales in a circle": (SCALE, "gpus", "extends: other\ngpus", ["mini -> other -> mini"]),
    "unknown key of a scale": (SCALE, "gpus", "gpu", ["'gpu'", "'gpus' is missing: GPUs of", "threads"]),
    "threads 0": (SCALE, "threads: 1", "threads: 0", ["at threads", "minimum of 1"]),
    "unknown data set": (SCALE, "shapes", "shape", ["at datasets.coco", "'shape'", "one of shapes"]),
    "override of no key": (SCALE, "  model:", "  modle:", ["at overrides", "'modle'", "model, train"]),
    "override that does not fit": (SCALE, "{depth: 18}", "{depth: {a: 1}}", ["at overrides", "not fit"]),
    "section that no detector has": (SCALE, "section: small", "section: tiny", ["`tiny`", "toy.py"]),
    "detector without correlation": (DETECTOR, "correlation", "corelation", ["'correlation' is missing"]),
    "correlation without place": (DETECTOR, 'at="model.bbox_head", ', "", ["at correlation", "'at'"]),
    "correlation that says more": (DETECTOR, '"batch")', '"batch", size=1)', ["'size'", "reduction, scope"]),
    "correlation's wrong scope": (DETECTOR, '"batch"', '"bach"', ["at correlation.scope", "'bach'", "level"]),
    "correlation at no key": (
        DETECTOR, "model.bbox_head", "model.roi_head",
        ["at correlation.at", "'roi_head'", "backbone, bbox_head"],
    ),
    "correlation at a value": (DETECTOR, "model.bbox_head", "model.type", ["at correlation.at", "a head"]),
    "correlation below a value": (DETECTOR, "model.bbox_head", "model.type.x", ["at correlation.at", "'x'"]),
    "detector without a model": (DETECTOR, "model = ", "modle = ", ["'model' is missing"]),
    "detector that is no Python": (DETECTOR, "model = dict(", "model = dict((", ["SyntaxError", "toy.py"]),
    "detector of an unknown name": (DETECTOR, "width=256", "width=wide", ["'wide' is not defined"]),
    "detector over a missing base": (DETECTOR, None, '_base_ = "./gone.py"\n', ["gone.py"]),
    "detector over no config of mmdet": (DETECTOR, None, '_base_ = "mmdet::a/gone.py"\n', ["gone.py"]),
    "section that is no dict": (DETECTOR, "small = ", "small, _ = 32, ", ["`small`", "mini.yaml"]),
    "section with no key of mmdet": (
        DETECTOR, "small = dict(model", "small = dict(modle",
        ["at small", "'modle'", "model, train_dataloader"],
    ),
    "section that does not fit": (DETECTOR, "width=32", "width=dict(a=1)", ["at small", "not fit"]),
    "data set without folder": (DATASET, "folder", "foldr", ["'folder' is missing"]),
    "data set without classes": (DATASET, "classes", "names", ["one of the keys classes, num_classes"]),
    "classes as text": (DATASET, '("circle", "square")', '"circle"', ["at classes", "'circle'", "a list"]),
    "a class twice": (DATASET, '"square"', '"circle"', ["at classes", "non-unique"]),
    "data set without annotations": (DATASET, 'ann_file="test.json", ', "", ["at test", "'ann_file'"]),
    "data set with a part too many keys": (DATASET, 'img="test/"', 'img="t/", size=1', ["at test", "'size'"]),
}  # fmt: skip


@pytest.fixture
def load(project, tmp_path):
    (project / "experiments" / "scales" / "other.yaml").write_text("extends: mini\n")

    def load_scale(scale="mini"):
        pairs = [f"scale={scale}", f"data_root={tmp_path / 'data'}", f"results={tmp_path / 'results'}"]
        return load_matrix(Settings.load(project, pairs))

    return load_scale


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_refused_with_file_place_and_choices(name, project, load):
    file, old, new, said = BROKEN[name]
    path = project / "experiments" / file
    named = {"no runs at all": path.parent, "scales in a circle": path.with_name("other.yaml")}.get(
        name, path
    )
    whole = path.read_text()
    assert old is None or old in whole
    path.write_text(new if old is None else whole.replace(old, new))
    with pytest.raises(ExperimentError) as caught:
        load()
    message = str(caught.value)
    assert str(named) in message
    assert [part for part in said if part not in message] == []


def test_a_scale_that_is_not_there_is_refused(project, load):
    with pytest.raises(SettingsError, match=r"at scale: expected one of mini, other, got 'huge'"):
        load("huge")


def test_the_small_project_is_sound(load):
    matrix = load()
    assert list(matrix.tables) == ["toys"]
    assert list(matrix.planned) == ["shapes/toy/none/seed0", "shapes/toy/spearman_w0.2/seed0"]
    assert matrix.datasets["shapes"]["folder"] == "shapes"


def test_a_run_that_two_tables_share_is_planned_once(project, load):
    tables = project / "experiments" / "tables"
    text = (tables / "toys.yaml").read_text()
    (tables / "more.yaml").write_text(text + "      - {coefficient: concordance, weight: 1}\n")
    matrix = load()
    assert [len(matrix.tables[name].runs) for name in ("more", "toys")] == [3, 2]
    assert len(matrix.planned) == 3


@pytest.mark.parametrize("scale", Experiments(ROOT).scales)
def test_experiments_hold_at_every_scale(scale, tmp_path, real_settings):
    matrix = load_matrix(real_settings(f"scale={scale}", f"data_root={tmp_path}"))
    wanted = {run.name for table in matrix.tables.values() for run in table.runs}
    assert set(matrix.planned) == wanted
    folders = {str(planned.run.folder(tmp_path).path).lower() for planned in matrix.planned.values()}
    assert len(folders) == len(wanted)  # also where a file system does not tell A from a
    for stage in ("training", "prediction", "evaluation"):
        assert len({planned.identity[stage] for planned in matrix.planned.values()}) == len(wanted)
    for name, planned in matrix.planned.items():
        assert planned.run.name == name == planned.config["bench"]["run"]


@pytest.fixture(scope="module")
def paper(configs_cache):
    return load_matrix(Settings.load(ROOT, [f"results={configs_cache}", "scale=paper"]))


def test_tables_are_main_of_analysis_or_of_overhead(paper):
    grouped = [*paper.main_tables, *paper.analysis_tables, *paper.overhead_tables]
    assert sorted(grouped) == sorted(name for name, table in paper.tables.items() if table.runs)
    assert paper.main_tables == ["instance_segmentation", "nms_based", "nms_free"]
    assert paper.overhead_tables == ["overhead"]
    assert sorted(paper.result_tables) == sorted(paper.main_tables + paper.analysis_tables)


def test_what_a_run_needs_of_a_machine(paper, real_settings):
    (run,) = (one for one in paper.planned.values() if one.run.name == "coco/atss/none/seed0")
    assert (run.threads, run.gpus) == (16, 4)  # four processes
    (weights,) = run.weights_in(Path("data"))
    assert weights.parent == Path("data/weights") and weights.name.startswith("resnet50-")
    mini = load_matrix(real_settings("scale=mini")).planned["mini_coco/atss/none/seed0"]
    assert (mini.threads, mini.gpus, mini.weights_in(Path("data"))) == (1, 0, [])


def test_runs_of_several_tables_are_listed_once(paper):
    runs = paper.runs_of(["weight", "nms_based"])
    assert len(set(runs)) == len(runs)
    assert set(runs) == {*paper.tables["weight"].runs, *paper.tables["nms_based"].runs}


def test_the_largest_run_and_a_run_that_is_not_planned(paper):
    assert (paper.most("gpus"), paper.most("threads")) == (4, 4)
    name = "coco/atss/none/seed0"
    assert paper.run(name).run.name == name
    with pytest.raises(ExperimentError, match=r"coco/atss/none/seed9: no table .* at scale 'paper'"):
        paper.run("coco/atss/none/seed9")


def test_the_data_set_of_test_dev_is_that_of_the_table(paper):
    (first, *_) = paper.tables["test_dev"].runs
    assert paper.test_dev_data(first) == "coco_test_dev"
