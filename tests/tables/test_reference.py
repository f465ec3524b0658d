from pathlib import Path

import pytest

from corrloss.plan.experiments import Experiments
from corrloss.plan.runs import Run
from corrloss.tables.reference import (
    COLUMNS,
    SOURCE_KINDS,
    ReferenceFileError,
    by_cell,
    load_reference,
    published,
)

ROOT = Path(__file__).parents[2]
CONTEXT = dict.fromkeys(COLUMNS, "") | {
    "detector": "ATSS", "metric": "AP", "value": "39.4", "source": "zoo", "source_kind": "model-zoo",
}  # fmt: skip
CELL = CONTEXT | {
    "value": "39.8", "source": "note", "source_kind": "second-hand",
    "run_data": "coco", "run_detector": "atss", "run_coefficient": "concordance", "run_weight": "0.2",
    "attribution": "stated",
}  # fmt: skip
BASE = CELL | {"value": "38.7", "run_coefficient": "none", "run_weight": "0"}


@pytest.fixture
def load(tmp_path):
    def load_rows(*rows, columns=COLUMNS):
        path = tmp_path / "paper.csv"
        lines = [",".join(columns), *(",".join(row.get(name, "") for name in columns) for row in rows)]
        path.write_text("\n".join(lines) + "\n")
        return load_reference(Experiments(ROOT), path)

    return load_rows


def run(coefficient="concordance", weight=0.2, scale="paper", seed=0, options=()):
    return Run(scale, "coco", "atss", coefficient, weight, seed, options)


def test_a_cell_is_found_whatever_scale_and_seed(load):
    reference = load(CONTEXT, BASE, CELL)
    for scale, seed in (("paper", 0), ("mini", 3)):
        assert published(by_cell(reference), "coco", run(scale=scale, seed=seed), "AP")["value"] == "39.8"
        assert published(by_cell(reference), "coco", run("none", 0.0, scale, seed), "AP")["value"] == "38.7"


@pytest.mark.parametrize(
    ("data", "of_run", "metric"),
    [
        ("cityscapes", run(), "AP"),
        ("coco", run("spearman"), "AP"),
        ("coco", run(weight=0.3), "AP"),
        ("coco", run(options=(("gradient_to", "both"),)), "AP"),
        ("coco", run(), "AP50"),
        ("coco", Run("paper", "coco", "paa", "concordance", 0.2, 0), "AP"),
    ],
)
def test_nothing_is_published_of_any_other_cell(load, data, of_run, metric):
    assert published(by_cell(load(CONTEXT, BASE, CELL)), data, of_run, metric) is None


def test_context_fills_no_cell(load):
    assert published(by_cell(load(CONTEXT | {"run_data": "coco"})), "coco", run("none", 0.0), "AP") is None


def test_options_are_part_of_a_cell(load):
    reference = load(CELL, CELL | {"run_options": "gradient_to=both;strength=1", "value": "38.9"})
    options = (("gradient_to", "both"), ("strength", 1.0))
    assert published(by_cell(reference), "coco", run(options=options), "AP")["value"] == "38.9"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"source_kind": "hearsay"}, "line 3, source_kind: 'hearsay'; needs one of primary, second-hand"),
        ({"source_kind": ""}, "line 3, source_kind: ''"),
        ({"source": " "}, "line 3, source: ' '; needs a source for every figure"),
        ({"attribution": "guessed"}, "line 3, attribution: 'guessed'; needs one of stated, inferred"),
        ({"attribution": ""}, "line 3, attribution: ''; needs one of stated, inferred"),
        ({"value": "39·8"}, "line 3, value: '39·8'; needs a number from 0 to 100"),
        ({"value": ""}, "line 3, value: ''; needs a number"),
        ({"value": "398"}, "line 3, value: '398'; needs a number from 0 to 100"),
        ({"value": "-1"}, "line 3, value: '-1'"),
        ({"run_detector": "atts"}, "line 3, run_detector: 'atts'; needs one of alrp_retinanet, "),
        (
            {"run_coefficient": "kendall"},
            "line 3, run_options: at coefficient: expected one of none, published, pearson",
        ),
        ({"metric": "Ap"}, "line 3, metric: 'Ap'; needs the name of a metric"),
        ({"run_options": "strenght=1"}, "line 3, run_options: unknown key 'strenght'; valid keys: "),
        ({"run_options": "strength=much"}, "line 3, run_options: at strength: expected a number, got 'much'"),
        (
            {"run_options": "scope=epoch"},
            "line 3, run_options: at scope: expected one of batch, level, image",
        ),
        ({"run_options": "strength=1.0"}, "line 3, run_options: 'strength=1.0'; needs 'strength=1'"),
        (
            {"run_options": "strength=1;gradient_to=both"},
            "line 3, run_options: 'strength=1;gradient_to=both'; needs 'gradient_to=both;strength=1'",
        ),
        ({"value": "nan"}, "line 3, value: 'nan'"),
        ({"value": "inf"}, "line 3, value: 'inf'"),
        ({"run_weight": ""}, "line 3, run_weight: ''; needs a number"),
        ({"run_weight": "0.2 or 0.3"}, "line 3, run_weight: '0.2 or 0.3'"),
        ({"run_weight": "0"}, "line 3, run_weight: '0"),
        ({"run_coefficient": "none"}, "line 3, run_weight: '0.2"),
        ({"run_data": ""}, "line 3, run_data: ''; needs one of coco, cityscapes"),
        ({"run_data": "COCO"}, "line 3, run_data: 'COCO'"),
    ],
)
def test_a_broken_row_is_refused_with_line_and_column(load, tmp_path, change, said):
    with pytest.raises(ReferenceFileError) as caught:
        load(CONTEXT, CELL | change)
    assert str(caught.value).startswith(f"{tmp_path / 'paper.csv'}: {said}")


def test_two_figures_for_one_cell_are_refused(load):
    with pytest.raises(
        ReferenceFileError, match=r"line 4, run_data, .*, metric: a second figure for one cell"
    ):
        load(CELL, CONTEXT, CELL | {"value": "40.0", "run_weight": "0.20"})
    load(CELL, CELL | {"metric": "AP50"}, CONTEXT, CONTEXT)  # neither another metric nor context


@pytest.mark.parametrize("column", COLUMNS)
def test_a_missing_column_is_refused(load, column):
    with pytest.raises(ReferenceFileError, match=f"line 1: no column {column}$"):
        load(CELL, columns=[name for name in COLUMNS if name != column])


@pytest.mark.parametrize("fields", [2, 10, 17, 18, 20])
def test_a_line_that_is_not_whole_is_refused(tmp_path, fields):
    path = tmp_path / "paper.csv"
    row = [*CELL.values(), "more"][:fields]
    path.write_text("\n".join(map(",".join, [COLUMNS, CELL.values(), row])) + "\n")
    with pytest.raises(ReferenceFileError, match=f"line 3: has {fields} fields, the header 19"):
        load_reference(Experiments(ROOT), path)


def test_the_committed_figures_are_sound():
    reference = load_reference(Experiments(ROOT))
    assert set(reference["source_kind"]) == set(SOURCE_KINDS)
    cells = reference[reference["run_detector"] != ""]
    assert len(cells) >= 10
    assert set(cells["run_detector"]) <= set(Experiments(ROOT).detectors)
    assert set(cells["run_coefficient"]) <= {"none", "pearson", "concordance", "spearman"}


def test_the_committed_figures_are_the_papers():
    """The gains that the paper's abstract and a reading note of it state."""
    reference = load_reference(Experiments(ROOT))

    def gain(detector, coefficient, weight):
        with_loss, without = (
            published(by_cell(reference), "coco", Run("paper", "coco", detector, *variant, 0), "AP")
            for variant in ((coefficient, weight), ("none", 0.0))
        )
        return round(float(with_loss["value"]) - float(without["value"]), 2)

    assert gain("sparse_rcnn", "spearman", 0.2) == 1.6
    assert gain("atss_no_aux", "concordance", 0.3) == 1.1
    assert gain("paa_no_aux", "concordance", 0.3) == 0.8
