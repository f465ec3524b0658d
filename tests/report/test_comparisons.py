from dataclasses import replace

import pandas as pd

from corrloss.analysis.pooled import Pooled
from corrloss.report.comparisons import Comparison, Mean, compare, count, means, sentences
from corrloss.report.forest import ONE_SEED, OVER_DETECTORS, PUBLISHED, SEVERAL_SEEDS, forest

ATSS = Comparison(
    dataset="coco", detector="atss", coefficient="concordance", weight="0.2", loss="concordance 0.2",
    metric="AP", headline=True, value=40.0, delta=1.0, interval=(0.5, 1.5), n_seeds=1, published=1.1,
    verdict="reproduced", rho={"rho_img": (27.0, 31.0), "rho_cls": (40.0, 39.0)},
)  # fmt: skip
COMPARISONS = [
    ATSS,
    replace(
        ATSS, coefficient="spearman", loss="spearman 0.2", delta=-1.0, interval=(-2.0, -0.1), published=None
    ),
    replace(ATSS, detector="paa", delta=0.2, interval=(-0.5, 0.9), rho={"rho_img": (30.0, 29.0)}),
    replace(ATSS, detector="gfl", delta=0.1, interval=None, rho={}),
]


def test_counts():
    counts = {one.name: (one.rose, one.total) for one in count(COMPARISONS)}
    assert counts == {
        "ρ_img rose": (2, 3),
        "ρ_cls rose": (0, 2),
        "AP rose": (3, 4),
        "AP rose, interval above 0": (1, 3),
        "AP fell, interval below 0": (1, 3),
    }


def test_boxes_of_a_table_of_masks_are_shown_and_not_counted_again():
    boxes = replace(ATSS, headline=False)
    assert count([ATSS, boxes]) == count([ATSS])


def test_sentences_of_small_scales_claim_nothing_about_the_paper():
    assert any("no evidence about the paper" in text for text in sentences("mini", COMPARISONS))
    assert "4 reproduced" in sentences("paper", COMPARISONS)[-1]


def test_one_seed_is_drawn_and_called_otherwise_than_several():
    one, several = (forest([replace(ATSS, n_seeds=n)], f"forest-{n}") for n in (1, 3))
    assert ONE_SEED in one.legend and SEVERAL_SEEDS not in one.legend and PUBLISHED in one.legend
    assert SEVERAL_SEEDS in several.legend and ONE_SEED not in several.legend
    assert "this pair only" in ONE_SEED.label and "this pair only" in one.panels[0]
    assert "stroke-dasharray" in one.panels[0] and "stroke-dasharray" not in several.panels[0]


def test_every_detector_of_the_tables_is_compared_once_per_coefficient(project):
    found = compare(project.tables(), project.runs())
    names = [(c.detector, c.coefficient, c.weight) for c in found]
    # The table of weights has Spearman at 0.1 and 0.2; the first is taken.
    assert sorted(names) == [
        ("retinanet", "concordance", "0.2"),
        ("retinanet", "spearman", "0.1"),
        ("sparse_rcnn", "spearman", "0.1"),
    ]
    metrics = {(run.run.detector, run.loss): run.record["metrics"] for run in project.runs()}
    for comparison in found:
        base, own = metrics[comparison.detector, "none"], metrics[comparison.detector, comparison.loss]
        assert abs(comparison.delta - (own["AP"] - base["AP"])) < 1e-4
        assert comparison.rho["rho_img"] == (base["rho_img"], own["rho_img"])


def test_of_equal_losses_the_one_with_more_seeds_is_taken(project):
    tables = project.tables()
    frame = tables[0].frame.assign(n_seeds=3)
    more = replace(tables[0], frame=frame)
    assert all(c.n_seeds == 3 for c in compare([tables[0], more], []))
    assert all(c.n_seeds == 3 for c in compare([more, tables[0]], []))


def test_a_run_without_the_loss_under_another_recipe_is_no_comparison(project):
    table = project.tables()[0]
    half = table.frame[table.frame["coefficient"] != "none"].assign(coefficient="none", weight=0.0)
    frame = pd.concat([table.frame, half.assign(batch="half")])
    assert compare([replace(table, frame=frame)], []) == compare([table], [])


POOLED = Pooled(0.46, -0.04, 0.96, 0.07, 0.1, 0.2, 0.4, 200, 4, 3)


def test_means_are_asked_for_the_compared_pairs_of_a_coefficient(project):
    comparisons, asked = compare(project.tables(), project.runs()), {}

    def interval(runs, metric):
        asked[runs[0].coefficient] = [run.name for run in runs]
        return POOLED if len({run.detector for run in runs}) > 1 else None

    found = means(comparisons, project.runs(), interval)
    assert found == [Mean("mini_coco", "spearman", POOLED)]
    # The table of weights has Spearman at 0.2, too, which is not compared.
    pair = ["mini_coco/retinanet/spearman_w0.1/seed0", "mini_coco/sparse_rcnn/spearman_w0.1/seed0"]
    assert asked == {"spearman": pair, "concordance": ["mini_coco/retinanet/concordance_w0.2/seed0"]}
    unknown = replace(POOLED, ci_low=float("nan"))
    assert means(comparisons, project.runs(), lambda runs, metric: unknown) == []


def test_the_mean_over_detectors_is_the_last_row_of_the_forest():
    drawing = forest(COMPARISONS, "forest-mean", [Mean("coco", "concordance", POOLED)])
    assert drawing.legend[-1] == OVER_DETECTORS
    text = drawing.panels[0]
    assert text.index("gfl · ") < text.index("mean gain of 4 detectors")
    assert "+0.5 AP (95% over images, seeds and detectors: 0.0 … +1.0), AP rose in 3" in text
    assert OVER_DETECTORS not in forest(COMPARISONS, "forest-none").legend
