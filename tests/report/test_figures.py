from dataclasses import replace

import pytest

from corrloss.report.figures import _curve


@pytest.fixture
def run(project):
    return project.runs()[0]


def with_curve(run, iterations):
    return replace(run, curve=[{"iteration": i, "loss": float(i)} for i in iterations])


def test_a_last_stretch_of_one_iteration_is_left_out(run):
    assert _curve(with_curve(run, [100, 200, 300, 301]), "loss")[0] == [100, 200, 300]


def test_a_last_stretch_of_usual_length_stays(run):
    assert _curve(with_curve(run, [100, 200, 300, 380]), "loss")[0] == [100, 200, 300, 380]
    assert _curve(with_curve(run, [100, 101]), "loss")[0] == [100, 101]
