import math
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from corrloss.analysis.differences import Interval
from corrloss.analysis.gain_parts import PARTS
from corrloss.analysis.metrics import metric_names
from corrloss.analysis.pooled import Pooled
from corrloss.analysis.verdict import prediction_interval
from corrloss.plan.experiments import Experiments
from corrloss.plan.runs import Run
from corrloss.plan.schema import ExperimentError
from corrloss.plan.table_files import Table, load_table
from corrloss.tables.build import build_table, columns
from corrloss.tables.notes import table_notes
from corrloss.tables.pooled_rows import is_comparison
from corrloss.tables.records import runs_frame
from corrloss.tables.reference import COLUMNS

REAL = Experiments(Path(__file__).parents[2])
SEEDS = (0, 1, 2)
#: AP by (coefficient, weight) and seed; the gains of single seeds are 1, 2 and 6.
AP = {("none", 0.0): (30.0, 31.0, 35.0), ("spearman", 0.2): (31.0, 33.0, 41.0)}


def run(coefficient, weight, seed, options=()):
    return Run("paper", "coco", "atss", coefficient, weight, seed, options)


def table_of(runs, metrics=("AP", "AP50")):
    headlines = tuple(name for name in metrics if name in ("AP", "mask_AP"))
    return Table("toys", "Toys", "coco", tuple(metrics), headlines, True, tuple(runs), {})


def measured(figures, more=None):
    """runs.csv of some runs with their figures, and of single runs more that their records say."""
    records = [
        (run, {"metrics": metrics, "train_seconds": 1.0, "identity": "0" * 12} | (more or {}).get(run, {}))
        for run, metrics in figures.items()
    ]
    return runs_frame(records)


FAILED = {"metrics": {"AP": None, "AP50": None}, "failed": "loss is nan at iteration 7 (loss_cls nan)"}


def reference(*cells):
    """Published figures as (coefficient, weight, options, metric, value, attribution)."""
    rows = []
    for coefficient, weight, options, metric, value, attribution in cells:
        row = dict.fromkeys(COLUMNS, "") | {
            "metric": metric, "value": value, "source": "the note", "source_kind": "second-hand",
            "run_data": "coco", "run_detector": "atss", "run_coefficient": coefficient, "run_weight": weight,
            "run_options": options, "attribution": attribution,
        }  # fmt: skip
        rows.append(row)
    return pd.DataFrame(rows, columns=list(COLUMNS))


RUNS = [run(*variant, seed) for variant in AP for seed in SEEDS]
FIGURES = {run: {"AP": AP[run.coefficient, run.weight][run.seed], "AP50": 50.0 + run.seed} for run in RUNS}
NOTHING = reference()


def test_means_are_over_seeds_and_deltas_of_the_same_seed():
    frame = build_table(table_of(RUNS), measured(FIGURES), NOTHING)
    assert list(frame) == [
        "detector", "coefficient", "weight", "AP", "AP50", "delta_AP", "ci_low", "ci_high", "se_images",
        "se_seeds", "p_value", "p_holm", "interval_over", "n_images", "seeds_for_1_AP", "n_seeds",
        "paper_AP", "paper_delta", "paper_source", "difference", "compared", "verdict", "tolerance_low",
        "tolerance_high",
    ]  # fmt: skip
    assert frame[["detector", "coefficient", "weight"]].values.tolist() == [
        ["atss", "none", 0.0],
        ["atss", "spearman", 0.2],
    ]
    assert frame["AP"].tolist() == [32.0, 35.0]
    assert frame["AP50"].tolist() == [51.0, 51.0]
    assert pd.isna(frame["delta_AP"][0]) and frame["delta_AP"][1] == 3.0
    assert frame["n_seeds"].tolist() == [3, 3]


def test_a_delta_is_of_pairs_even_where_a_baseline_is_missing():
    """Without the baseline of seed 2 the gain is that of seeds 0 and 1, not the difference of two means."""
    figures = {run: values for run, values in FIGURES.items() if run != RUNS[2]}
    frame = build_table(table_of(RUNS), measured(figures), NOTHING)
    assert frame["AP"].tolist() == [30.5, 35.0]
    assert frame["delta_AP"][1] == 1.5
    assert frame["n_seeds"].tolist() == [2, 3]
    assert frame["incomplete"].tolist() == [RUNS[2].name, RUNS[2].name]


def test_a_missing_run_leaves_its_cell_empty_and_is_named():
    baselines = {run: values for run, values in FIGURES.items() if run.is_baseline}
    frame = build_table(table_of(RUNS), measured(baselines), NOTHING)
    assert frame["AP"][0] == 32.0
    assert frame.loc[1, ["AP", "AP50", "delta_AP"]].isna().all()
    assert frame["n_seeds"].tolist() == [3, 0]
    assert frame["incomplete"].tolist() == ["", " ".join(run.name for run in RUNS[3:])]


def test_without_any_run_every_cell_is_empty():
    frame = build_table(table_of(RUNS), runs_frame([]), NOTHING)
    assert frame[["AP", "AP50", "delta_AP", "paper_AP", "paper_delta"]].isna().all(axis=None)
    assert (frame["incomplete"] != "").all()


def test_a_run_that_failed_is_in_no_mean_and_is_named():
    """Of seed 2 the gain was 6: with that training failed it is that of seeds 0 and 1, and is not judged."""
    paper = reference(
        ("none", 0.0, "", "AP", "32.0", "stated"), ("spearman", 0.2, "", "AP", "33.5", "stated")
    )
    asked = []

    def interval(runs, metric):
        asked.extend(runs)
        return None

    frame = build_table(table_of(RUNS), measured(FIGURES, {RUNS[5]: FAILED}), paper, interval)
    assert frame["AP"].tolist() == [32.0, 32.0]
    assert frame["delta_AP"][1] == 1.5 and asked == [RUNS[3], RUNS[4]]
    assert frame["n_seeds"].tolist() == [3, 2]
    assert frame["failed"].tolist() == ["", RUNS[5].name] and "incomplete" not in frame
    assert frame["verdict"].tolist() == ["reproduced (second-hand)", ""]
    assert pd.isna(frame["difference"][1])


def test_a_baseline_that_failed_takes_the_delta_with_it():
    frame = build_table(table_of(RUNS), measured(FIGURES, {run: FAILED for run in RUNS[:3]}), NOTHING)
    assert pd.isna(frame["AP"][0]) and frame["AP"][1] == 35.0
    assert frame["delta_AP"].isna().all()
    assert frame["failed"].tolist() == [" ".join(run.name for run in RUNS[:3])] * 2
    assert frame["verdict"].tolist() == ["", ""]


def test_where_every_training_failed_there_is_no_number():
    frame = build_table(table_of(RUNS), measured(FIGURES, dict.fromkeys(RUNS, FAILED)), NOTHING)
    assert frame[["AP", "AP50", "delta_AP", "ci_low", "difference"]].isna().all(axis=None)
    assert frame["n_seeds"].tolist() == [0, 0]


def environment(threads=1, torch="2.13.0", predicted_with=None):
    train = {"threads": threads, "versions": {"torch": torch, "numpy": "2.4.6"}}
    return {"environment": {"train": train, "predict": train | {"threads": predicted_with or threads}}}


def test_runs_made_alike_are_not_remarked_on():
    frame = build_table(table_of(RUNS), measured(FIGURES, {run: environment() for run in RUNS}), NOTHING)
    assert "mixed" not in frame


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (environment(threads=2), "threads: 1 / 2"),
        (environment(torch="2.12.0"), "versions.torch: 2.12.0 / 2.13.0"),
        (environment(predicted_with=4), "predict.threads: 1 / 4"),
        (environment(2, "2.12.0"), "threads: 1 / 2; versions.torch: 2.12.0 / 2.13.0"),
    ],
)
def test_what_differs_between_the_runs_of_a_row_and_their_baselines_is_named(other, said):
    more = {run: environment() for run in RUNS} | {RUNS[4]: other}
    frame = build_table(table_of(RUNS), measured(FIGURES, more), NOTHING)
    assert frame["mixed"].tolist() == ["", said]
    more = {run: environment() for run in RUNS} | {RUNS[1]: other}
    frame = build_table(table_of(RUNS), measured(FIGURES, more), NOTHING)
    assert frame["mixed"].tolist() == [said, said]


def test_a_figure_that_is_not_defined_stays_empty():
    figures = {run: values | {"AP_S": None} for run, values in FIGURES.items()}
    frame = build_table(table_of(RUNS, ["AP", "AP_S"]), measured(figures), NOTHING)
    assert frame["AP_S"].isna().all() and frame["AP"].notna().all()


def test_options_are_columns_and_tell_variants_apart():
    both = (("gradient_to", "both"),)
    runs = [RUNS[0], RUNS[3], run("spearman", 0.2, 0, both)]
    figures = {one: {"AP": 30.0 + index, "AP50": 1.0} for index, one in enumerate(runs)}
    frame = build_table(table_of(runs), measured(figures), NOTHING)
    assert frame["gradient_to"].fillna("").tolist() == ["", "", "both"]
    assert frame["delta_AP"].tolist()[1:] == [1.0, 2.0]
    assert list(frame.columns[:4]) == ["detector", "coefficient", "weight", "gradient_to"]


def test_masks_have_a_delta_of_their_own_and_are_what_is_compared_with_the_paper():
    metrics = ["AP", "mask_AP"]
    figures = {run: {"AP": 10.0, "mask_AP": 20.0 + run.weight} for run in RUNS}
    paper = reference(
        ("none", 0.0, "", "AP", "1.0", "stated"), ("none", 0.0, "", "mask_AP", "28.3", "stated")
    )
    frame = build_table(table_of(RUNS, metrics), measured(figures), paper)
    assert frame["delta_AP"][1] == 0
    assert frame["delta_mask_AP"][1] == pytest.approx(0.2)
    assert frame["paper_AP"][0] == 28.3


def test_published_figures_stand_where_there_are_any():
    paper = reference(
        ("none", 0.0, "", "AP", "38.7", "inferred"),
        ("spearman", 0.2, "", "AP", "39.8", "stated"),
        ("spearman", 0.3, "", "AP", "99.9", "stated"),
    )
    frame = build_table(table_of(RUNS), measured(FIGURES), paper)
    assert frame["paper_AP"].tolist() == [38.7, 39.8]
    assert pd.isna(frame["paper_delta"][0]) and frame["paper_delta"][1] == 1.1
    assert frame["paper_source"].tolist() == [
        "second-hand: the note; attribution inferred",
        "second-hand: the note",
    ]


@pytest.mark.parametrize("known", ["baseline", "loss", "nothing"])
def test_no_published_figure_is_made_up(known):
    cells = {
        "baseline": [("none", 0.0, "", "AP", "38.7", "stated")],
        "loss": [("spearman", 0.2, "", "AP", "39.8", "stated")],
        "nothing": [("spearman", 0.2, "", "AP50", "60", "stated")],
    }
    frame = build_table(table_of(RUNS), measured(FIGURES), reference(*cells[known]))
    there = {"baseline": [True, False], "loss": [False, True], "nothing": [False, False]}[known]
    assert frame["paper_AP"].notna().tolist() == there
    assert (frame["paper_source"] != "").tolist() == there
    assert frame["paper_delta"].isna().all()


def test_the_interval_is_of_the_pairs_of_the_headline():
    asked = []

    def interval(runs, metric):
        asked.append((runs, metric))
        return known

    known = Interval(3.0, 0.5, 5.5, 0.01, 0.7, 0.9, 1.2, 200, 2)
    figures = {run: values for run, values in FIGURES.items() if run != RUNS[2]}
    frame = build_table(table_of(RUNS), measured(figures), NOTHING, interval)
    assert asked == [([RUNS[3], RUNS[4]], "AP")]  # not the baseline, not the seed without one
    columns = ["ci_low", "ci_high", "se_images", "se_seeds", "p_value", "n_images"]
    assert frame[columns].isna().all(axis=1).tolist() == [True, False]
    assert frame.loc[1, columns].tolist() == [0.5, 5.5, 0.7, 0.9, 0.01, 200]
    assert frame["interval_over"].tolist() == ["", "images and seeds"]
    assert frame["p_holm"][1] == 0.01


def test_one_seed_is_said_to_be_one_pair():
    known = Interval(1.0, 0.5, 1.5, math.nan, 0.7, math.nan, math.nan, 200, 1)
    runs = [RUNS[0], RUNS[3]]
    frame = build_table(table_of(runs), measured(FIGURES), NOTHING, lambda runs, metric: known)
    assert frame["interval_over"].tolist() == ["", "images, this pair only"]
    assert frame[["p_value", "p_holm"]].isna().all(axis=None)


def test_p_values_are_adjusted_for_the_comparisons_of_the_table():
    runs = [*RUNS, *(run("spearman", 0.4, seed) for seed in SEEDS)]
    figures = FIGURES | {one: {"AP": 33.0, "AP50": 1.0} for one in runs[6:]}
    p_values = {0.2: 0.03, 0.4: 0.01}

    def interval(runs, metric):
        return Interval(1.0, 0.5, 1.5, p_values[runs[0].weight], 0.7, 0.1, 0.1, 200, 3)

    frame = build_table(table_of(runs), measured(figures), NOTHING, interval)
    assert frame["p_holm"].tolist()[1:] == pytest.approx([0.03, 0.02])


def test_a_cell_is_judged_against_the_paper():
    baseline, other = ("none", 0.0, "", "AP", "32.0", "stated"), ("spearman", 0.2, "", "AP", "39.8", "stated")
    known = Interval(3.0, 2.0, 4.0, 0.01, 0.4, 0.3, 0.2, 200, 3)
    paper = reference(baseline, other)
    frame = build_table(table_of(RUNS), measured(FIGURES), paper, lambda runs, metric: known)
    # The AP is the published 32.0, but the gain 3.0 where 7.8 is published.
    assert frame["verdict"].tolist() == ["reproduced (second-hand)", "smaller (second-hand)"]
    assert frame["compared"].tolist() == ["AP", "delta_AP"]
    assert frame["difference"].tolist() == pytest.approx([0.0, 3.0 - 7.8])
    tolerance = frame[["tolerance_low", "tolerance_high"]].values.tolist()
    assert tolerance == [pytest.approx([31.4, 32.6]), pytest.approx(list(prediction_interval(known)))]


@pytest.mark.parametrize("scale", ["mini", "smoke"])
def test_below_the_papers_scale_nothing_is_judged(scale):
    runs = [Run(scale, "coco", "atss", *loss, 0) for loss in (("none", 0.0), ("spearman", 0.2))]
    paper = reference(
        ("none", 0.0, "", "AP", "32.0", "stated"), ("spearman", 0.2, "", "AP", "35.0", "stated")
    )
    figures = dict(zip(runs, ({"AP": 32.0, "AP50": 1.0}, {"AP": 35.0, "AP50": 1.0}), strict=True))
    frame = build_table(table_of(runs), measured(figures), paper)
    assert frame["paper_AP"].tolist() == [32.0, 35.0]
    assert frame["verdict"].tolist() == ["not comparable"] * 2
    assert frame[["difference", "tolerance_low", "tolerance_high"]].isna().all(axis=None)


def test_a_metric_that_a_run_may_lack_is_an_empty_column():
    frame = build_table(table_of(RUNS, ["AP", "rho_img"]), measured(FIGURES), NOTHING)
    assert frame["rho_img"].isna().all()


def test_a_metric_that_no_record_has_is_refused_with_those_that_there_are():
    table = table_of(RUNS, ["AP", "APP"])
    with pytest.raises(ExperimentError, match="table toys: at metrics: 'APP' is not one of AP, AP50"):
        build_table(table, measured(FIGURES), NOTHING)


def test_a_table_without_runs_at_this_scale_is_refused():
    with pytest.raises(ExperimentError, match="table toys: has no runs at this scale"):
        build_table(table_of([]), measured(FIGURES), NOTHING)


@pytest.mark.parametrize("name", REAL.tables)
def test_every_table_asks_for_metrics_that_records_have(name):
    assert set(columns(load_table(REAL, name, "paper"))) <= {*metric_names(masks=True), *PARTS}


def test_a_table_may_count_detections_as_mmdet_does_and_its_columns_say_so():
    metrics = ("AP", "AP50", "mask_AP", "mask_AP_S")
    table = replace(table_of(RUNS, metrics), max_detections=1000)
    figures = {run: {"AP": 10.0, "AP50": 1.0, "AP50_1000": 2.0, "mask_AP": 3.0} for run in RUNS}
    frame = build_table(table, measured(figures), NOTHING)
    assert frame["AP50_1000"].tolist() == [2.0, 2.0] and "AP50" not in frame
    assert "mask_AP_S_1000" in frame and "delta_mask_AP" in frame
    assert any("up to 1,000 detections" in note for note in table_notes(frame))


def test_a_control_follows_its_baseline_with_the_figures_after_isotonic_regression():
    after = {"isotonic_AP": 30.5, "isotonic_oLRP": 70.0, "isotonic_LaECE": 2.0}
    figures = {run: {"AP": 30.0 + run.weight, "oLRP": 71.0, "LaECE": 9.0, **after} for run in RUNS}
    table = replace(table_of(RUNS, ("AP", "oLRP", "LaECE", "isotonic_AP")), control=True)

    def interval(runs, metric):
        low = 0.2 if runs[0].is_baseline else 1.0
        return Interval(low + 0.3, low, low + 0.6, 0.01, 0.1, 0.1, 0.2, 5000, 3)

    frame = build_table(table, measured(figures), NOTHING, interval)
    assert frame["coefficient"].tolist() == ["none", "isotonic", "spearman"]
    assert frame["ci_low"].tolist()[1:] == [0.2, 1.0] and pd.isna(frame["ci_low"][0])
    control = frame.iloc[1]
    assert control[["AP", "oLRP", "LaECE"]].tolist() == [30.5, 70.0, 2.0]
    assert control[["delta_AP", "delta_oLRP"]].tolist() == [0.5, -1.0] and pd.isna(control["isotonic_AP"])
    assert frame["isotonic_AP"][0] == 30.5 and frame["n_seeds"].tolist() == [3, 3, 3]
    assert any(note.startswith("isotonic:") for note in table_notes(frame))
    unknown = build_table(table, measured({run: {"AP": 30.0, "oLRP": 71.0} for run in RUNS}), NOTHING)
    assert pd.isna(unknown["LaECE"]).all() and pd.isna(unknown["delta_AP"][1])


DETECTORS = ("atss", "paa", "gfl")


def of_detectors(gains, seeds=(0,)):
    """Runs of several detectors with their figures: AP 30, and 30 plus a gain with the loss."""
    return {
        Run("paper", "coco", detector, *variant, seed): {
            "AP": 30.0 + gain * bool(variant[1]),
            "rho_img": 20.0,
        }
        for detector, gain in gains.items()
        for variant in AP
        for seed in seeds
    }


def test_the_mean_over_detectors_is_a_row_of_its_own():
    figures = of_detectors(dict(zip(DETECTORS, (1.0, 2.0, -0.6), strict=True)))
    asked = []

    def interval(runs, metric):
        asked.append((len(runs), metric))
        if len(runs) == 3:
            return Pooled(0.8, -2.4, 4.0, 0.4, 0.1, 0.75, 1.3, 5000, 3, 2)
        return Interval(1.0, 0.8, 1.2, math.nan, 0.1, math.nan, math.nan, 5000, 1)

    frame = build_table(table_of(figures, ("AP", "rho_img")), measured(figures), NOTHING, interval)
    mean = frame.iloc[-1]
    assert mean["detector"] == "mean of 3" and mean["coefficient"] == "spearman" and pd.isna(mean["weight"])
    assert mean["delta_AP"] == pytest.approx(0.8) and pd.isna(mean["AP"]) and mean["n_seeds"] == 1
    assert (mean["ci_low"], mean["ci_high"], mean["p_value"]) == (-2.4, 4.0, 0.4) and pd.isna(mean["p_holm"])
    assert (mean["ci_low_rho_img"], mean["ci_high_rho_img"]) == (-2.4, 4.0)
    assert mean["interval_over"] == "images, seeds and detectors" and mean["verdict"] == ""
    assert (3, "AP") in asked and is_comparison(frame).tolist() == [False, True] * 3 + [False]
    notes = table_notes(frame)
    assert "Comparisons with spearman that rose: AP in 2 of 3, ρ_img in 0 of 3." in notes
    assert any("mixed model" in note for note in notes)


@pytest.mark.parametrize("gains", [{"atss": 1.0, "paa": 2.0}, dict.fromkeys(DETECTORS, 1.0)])
def test_no_mean_over_two_detectors_or_several_weights(gains):
    figures = of_detectors(gains)
    if len(gains) > 2:
        figures |= {Run("paper", "coco", "gfl", "spearman", 0.4, 0): {"AP": 31.0, "rho_img": 20.0}}
    frame = build_table(table_of(sorted(figures), ("AP",)), measured(figures), NOTHING)
    assert set(frame["detector"]) == set(gains)


def test_published_weights_are_compared_with_their_published_ap():
    def of(detector, zoo):
        one = Run("zoo", "coco_val", detector, "published", 0.0, 0)
        frame = measured({one: {"AP": 39.31}})
        return build_table(table_of([one], ["AP"]), frame, NOTHING, zoo=zoo).iloc[0]

    found = {ap: of("atss", {"atss": {"AP": ap}}) for ap in (39.4, 39.41, 39.42, 39.21, 39.2)}
    assert {ap: row["zoo_agrees"] for ap, row in found.items()} == {
        39.4: "yes", 39.41: "yes", 39.42: "no", 39.21: "yes", 39.2: "no",
    }  # fmt: skip
    assert found[39.4]["zoo_AP"] == 39.4 and found[39.4]["paper_source"] == ""
    unknown = of("atss", {"atss": {"mask_AP": 30.0}})
    assert unknown["zoo_agrees"] == "" and pd.isna(unknown["zoo_AP"])
    assert "zoo_AP" not in of("atss", None)
