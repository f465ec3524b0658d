import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corrloss.plan.runs import OPTION_NAMES, Run, readable
from corrloss.plan.table_files import make_run

NUMBERS = st.floats(min_value=1e-9, max_value=1e9, allow_nan=False, exclude_min=True)
CHOICES = {
    "strength": NUMBERS,
    "scope": st.sampled_from(["batch", "level", "image"]),
    "reduction": st.sampled_from(["mean", "sum"]),
    "gradient_to": st.sampled_from(["classifier", "regressor", "both"]),
    "processes": st.sampled_from(["own", "all"]),
    "batch": st.just("half"),
    "length": st.integers(2, 99),
    "normaliser": st.just("released"),
    "onset": st.sampled_from(["after_warm_up", "ramp"]),
}
VARIANTS = st.fixed_dictionaries(
    {"coefficient": st.sampled_from(["pearson", "concordance", "spearman"]), "weight": NUMBERS},
    optional=CHOICES,
)
RUN = Run("mini", "mini_coco", "atss", "spearman", 0.2, 3, (("gradient_to", "both"), ("strength", 0.01)))


def test_choices_are_those_of_a_run():
    assert set(CHOICES) == set(OPTION_NAMES)


@given(VARIANTS, VARIANTS, st.integers(0, 99), st.integers(0, 99))
def test_two_runs_have_one_name_only_if_they_are_one(first, second, first_seed, second_seed):
    one = make_run("mini", "mini_coco", "atss", first, first_seed)
    other = make_run("mini", "mini_coco", "atss", second, second_seed)
    assert (one.name == other.name) == (one == other) == ((first, first_seed) == (second, second_seed))


@given(NUMBERS, NUMBERS)
def test_a_number_in_a_name_is_that_number(one, other):
    assert float(readable(one)) == one
    assert (readable(one) == readable(other)) == (one == other)


@given(VARIANTS)
def test_a_name_is_a_path_that_a_shell_and_snakemake_take(variant):
    run = make_run("mini", "mini_coco", "atss", variant, 0)
    assert re.fullmatch(r"\w+/\w+/[\w.-]+/seed\d+", run.name)


def test_a_name_can_be_read():
    assert RUN.name == "mini_coco/atss/spearman_w0.2_gradient_toboth_strength0.01/seed3"
    assert RUN.folder(Path("results")).path == Path("results/mini/runs") / RUN.name


@pytest.mark.parametrize("number", [1, 1.0])
def test_a_whole_number_is_read_like_a_float(number):
    variant = {"coefficient": "spearman", "weight": number, "strength": number}
    run = make_run("mini", "mini_coco", "atss", variant, 0)
    assert run.variant == "spearman_w1_strength1"
    assert [type(value) for value in (run.weight, *dict(run.options).values())] == [float, float]


def test_the_baseline_differs_in_the_loss_alone():
    assert RUN.baseline == replace(RUN, coefficient="none", weight=0.0, options=())
    assert RUN.baseline.name == "mini_coco/atss/none/seed3"
    assert RUN.baseline.is_baseline and not RUN.is_baseline
    assert RUN.baseline.baseline == RUN.baseline


def test_another_recipe_without_the_loss_is_no_baseline():
    run = make_run("mini", "mini_coco", "atss", {"coefficient": "none", "batch": "half"}, 3)
    assert run.name == "mini_coco/atss/none_batchhalf/seed3"
    assert not run.has_loss and not run.is_baseline
    assert run.baseline == RUN.baseline


def test_the_baseline_has_the_length_and_no_other_option():
    run = replace(RUN, options=(("batch", "half"), ("length", 2), ("onset", "ramp")))
    assert run.baseline == replace(RUN, coefficient="none", weight=0.0, options=(("length", 2),))
    assert run.baseline.is_baseline and run.baseline.baseline == run.baseline
    assert not replace(run.baseline, options=(("batch", "half"), ("length", 2))).is_baseline
