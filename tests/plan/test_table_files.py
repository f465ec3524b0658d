from collections import Counter

import pytest
import yaml
from toy_project import ROOT, TABLE

from corrloss.plan.experiments import Experiments
from corrloss.plan.runs import Run
from corrloss.plan.schema import ExperimentError
from corrloss.plan.table_files import load_table

REAL = Experiments(ROOT)
RELEASED = {  # the release's weights; None where it has none and ours is said to be so in a note
    "retinanet": {"concordance": None, "spearman": 0.1},
    "foveabox": {"concordance": 0.2, "spearman": 0.2},
    "atss": {"concordance": 0.2, "spearman": None},
    "atss_no_aux": {"concordance": 0.3, "spearman": None},
    "paa": {"concordance": None, "spearman": None},
    "paa_no_aux": {"concordance": 0.3, "spearman": None},
    "sparse_rcnn": {"concordance": None, "spearman": 0.2},
    "yolact": {"concordance": 0.4, "spearman": 0.2},
}
MAIN = {
    "nms_based": ["retinanet", "foveabox", "atss", "atss_no_aux", "paa", "paa_no_aux"],
    "nms_free": ["sparse_rcnn"],
    "instance_segmentation": ["yolact"],
}


@pytest.fixture
def toys(project):
    def load(change=lambda content: None, scale="mini"):
        content = yaml.safe_load(TABLE)
        change(content)
        (project / "experiments" / "tables" / "toys.yaml").write_text(yaml.safe_dump(content))
        return load_table(Experiments(project), "toys", scale)

    return load


def of(weight, seed=0, coefficient="spearman"):
    return Run("mini", "shapes", "toy", coefficient, weight, seed)


@pytest.mark.parametrize("scale", ["mini", "paper", "smoke"])
@pytest.mark.parametrize("name", MAIN)
def test_main_tables_have_every_detector_with_the_weights_of_the_release(name, scale):
    table = load_table(REAL, name, scale)
    assert table.main
    only_paper = ["sparse_rcnn_r50_3x"] if (name, scale) == ("nms_free", "paper") else []
    assert list(dict.fromkeys(run.detector for run in table.runs)) == MAIN[name] + only_paper
    for detector in MAIN[name]:
        variants = {run.coefficient: run for run in table.runs if run.detector == detector}
        assert list(variants) == ["none", "concordance", "spearman"]
        assert variants["none"].weight == 0
        for coefficient, weight in RELEASED[detector].items():
            run = variants[coefficient]
            assert run.weight > 0 if weight is None else run.weight == weight
            assert bool(table.notes[run]) == (weight is None)


@pytest.mark.parametrize("name", REAL.tables)
@pytest.mark.parametrize("scale", REAL.scales)
def test_every_table_is_sound_at_every_scale(name, scale):
    table = load_table(REAL, name, scale)
    assert all(run.baseline in table.runs for run in table.runs)
    assert len({run.name for run in table.runs}) == len(table.runs)
    assert all(run.scale == scale for run in table.runs)


def test_a_data_set_of_ones_own_is_a_table_of_its_own(toys):
    table = toys(lambda content: content.update(dataset="shapes") or content.pop("data"))
    assert {run.dataset for run in table.runs} == {"shapes"}
    assert table.data == "" and len(table.runs) == 2  # nothing is published of it


def test_fair_baseline_has_the_pairs_of_the_release():
    runs = {run.name.removesuffix("/seed0") for run in load_table(REAL, "fair_baseline", "paper").runs}
    assert runs >= {
        "coco/retinanet/none_batchhalf",
        "coco/retinanet/spearman_w0.1",
        "coco/atss/none_batchhalf",
        "coco/atss/concordance_w0.2_normaliserreleased",
        "coco/paa/none_batchhalf",
        "coco/paa_no_aux/concordance_w0.3",
        "coco/sparse_rcnn_r50_3x/none_batchhalf",
    }
    mini = load_table(REAL, "fair_baseline", "mini").runs
    assert {run.detector for run in mini} == {"retinanet", "atss", "paa", "paa_no_aux"}
    assert load_table(REAL, "fair_baseline", "smoke").runs == ()


def test_a_table_lists_variants_in_its_order_and_seeds_innermost(toys):
    table = toys(lambda content: content.update(seeds={"mini": [3, 1]}))
    assert table.runs == (of(0.0, 3, "none"), of(0.0, 1, "none"), of(0.2, 3), of(0.2, 1))
    assert (table.name, table.title, table.data) == ("toys", "Toys", "coco")
    assert (table.metrics, table.headlines, table.main) == (("AP", "AP50"), ("AP",), True)


def test_seeds_of_a_row_replace_those_of_the_table(toys):
    def change(content):
        content["seeds"] = {"mini": [0]}
        content["rows"][0]["seeds"] = {"mini": [0, 1, 2]}

    runs = [*(of(0.0, seed, "none") for seed in range(3)), *(of(0.2, seed) for seed in range(3))]
    assert toys(change).runs == tuple(runs)


@pytest.mark.parametrize("name", ["nms_based", "nms_free", "instance_segmentation"])
def test_a_headline_row_of_each_main_table_has_three_seeds_at_paper_scale(name):
    runs = load_table(REAL, name, "paper").runs
    assert max(Counter((run.detector, run.variant) for run in runs).values()) == 3


def test_options_and_notes_belong_to_their_variant(toys):
    extra = {"coefficient": "spearman", "weight": 1, "strength": 1, "gradient_to": "both", "note": "why"}
    table = toys(lambda content: content["rows"][0]["variants"].append(extra))
    run = Run("mini", "shapes", "toy", "spearman", 1.0, 0, (("gradient_to", "both"), ("strength", 1.0)))
    assert table.notes == {of(0.0, 0, "none"): "", of(0.2): "", run: "why"}


@pytest.mark.parametrize("where", ["table", "row", "variant"])
def test_scales_leave_runs_out(project, toys, where):
    scales = project / "experiments" / "scales"
    (scales / "large.yaml").write_text("extends: mini\n")

    def only_at_large(content):
        row = content["rows"][0]
        {"table": content, "row": row, "variant": row["variants"][1]}[where]["scales"] = ["large"]

    assert [run.coefficient for run in toys(only_at_large).runs] == (["none"] if where == "variant" else [])
    assert len(toys(only_at_large, "large").runs) == 2


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: c["rows"][0]["variants"].pop(0), "spearman_w0.2/seed0 has no baseline in this table"),
        (
            lambda c: c.update(data="cityscapes"),
            "at data: expected one of coco, which scale 'mini' has a data set for, got 'cityscapes'",
        ),
        (lambda c: c.update(seeds={"mine": [1]}), "at seeds: expected one of mini, got 'mine'"),
        (lambda c: c.update(scales=["huge"]), "at scales[0]: expected one of mini, got 'huge'"),
    ],
)
def test_a_table_that_cannot_be_run_is_refused(project, toys, change, said):
    with pytest.raises(ExperimentError) as caught:
        toys(change)
    assert str(caught.value).startswith(str(project / "experiments" / "tables" / "toys.yaml"))
    assert said in str(caught.value)


def test_names_of_files_are_the_valid_choices():
    schema = REAL.schema("table")
    assert schema["properties"]["rows"]["items"]["properties"]["detector"]["enum"] == REAL.detectors
    assert set(RELEASED) <= set(REAL.detectors)
    assert {"mini", "paper", "smoke"} <= set(REAL.scales)
