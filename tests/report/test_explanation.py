import pytest

from corrloss.analysis.gain_parts import gain_parts
from corrloss.coco import load_detections
from corrloss.report.comparisons import compare
from corrloss.report.explanation import explain, explanation


@pytest.fixture
def explained(project):
    data, runs = project.data(), project.runs()
    truth = data["mini_coco"].ground_truth

    def detections(run):
        return load_detections(run.folder(project.results).detections(), truth)

    comparisons = compare(project.tables(), runs)
    return list(explain(comparisons, runs, data, detections)), comparisons, detections, truth


def test_every_comparison_is_explained_by_its_pair_of_runs(explained, project):
    found, comparisons, detections, truth = explained
    assert [one.name for one in found] == [comparison.name for comparison in comparisons]
    runs = {(run.run.detector, run.loss): run for run in project.runs()}
    for one, comparison in zip(found, comparisons, strict=True):
        base, own = (runs[comparison.detector, loss] for loss in ("none", comparison.loss))
        parts = gain_parts(truth, detections(base.run), detections(own.run))
        ap = base.metric("AP")
        expected = [own.metric("AP") - ap, parts["order_AP"] - ap, parts["boxes_AP"] - ap]
        assert list(one.parts.values()) == pytest.approx(expected)
        assert one.errors["tide_Loc"] == pytest.approx(base.metric("tide_Loc") - own.metric("tide_Loc"))
        assert len(one.errors) == 4


def test_the_figure_names_every_part(explained):
    found, *_ = explained
    drawing = explanation(found)
    assert len(drawing.panels) == 2 and all(one.name in panel for one in found for panel in drawing.panels)
    assert f"{found[0].name}: order alone" in drawing.panels[0]
    assert "localisation" in drawing.panels[1] and len({key.colour for key in drawing.legend}) == 7
    assert explanation([]) is None
