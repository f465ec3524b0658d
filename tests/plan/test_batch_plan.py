import pytest
from toy_project import ROOT

from corrloss.plan.batch_plan import BatchPlan
from corrloss.plan.configs import config_hash, resolve
from corrloss.plan.experiments import Experiments
from corrloss.plan.matrix import load_matrix
from corrloss.plan.runs import Run
from corrloss.plan.schema import ExperimentError

ATSS = Run("paper", "coco", "atss", "concordance", 0.2, 0)


def resolved(spread, tmp_path, configs_cache):
    return resolve(Experiments(ROOT), ATSS, tmp_path, configs_cache, spread)


def test_the_recipe_is_4_processes_of_4_images(tmp_path, configs_cache):
    config = resolved(BatchPlan(), tmp_path, configs_cache)
    assert (config["bench"]["processes"], config["bench"]["gpus"]) == (4, 4)
    assert config["train_dataloader"]["batch_size"] == 4
    assert config["optim_wrapper"]["optimizer"]["lr"] == 0.01
    assert "lr_factor" not in config["bench"]


def test_the_same_batch_on_fewer_gpus_is_another_run(tmp_path, configs_cache):
    recipe = resolved(BatchPlan(), tmp_path, configs_cache)
    config = resolved(BatchPlan(2, 8), tmp_path, configs_cache)
    assert (config["bench"]["processes"], config["bench"]["gpus"]) == (2, 2)
    assert config["train_dataloader"]["batch_size"] == 8
    assert config["optim_wrapper"]["optimizer"]["lr"] == 0.01
    assert config_hash(config) != config_hash(recipe)


def test_images_per_process_follow_from_the_recipes_batch(tmp_path, configs_cache):
    for processes, images in ((1, 16), (2, 8), (8, 2), (16, 1)):
        config = resolved(BatchPlan(processes, "auto"), tmp_path, configs_cache)
        assert (config["bench"]["processes"], config["train_dataloader"]["batch_size"]) == (processes, images)
    with pytest.raises(
        ExperimentError,
        match=r"expected the recipe's batch of 16 images, got 3 processes of 5 images, a batch of 15",
    ):
        resolved(BatchPlan(3, "auto"), tmp_path, configs_cache)


def test_another_batch_is_refused_with_the_way_out(tmp_path, configs_cache):
    with pytest.raises(ExperimentError) as caught:
        resolved(BatchPlan(2), tmp_path, configs_cache)
    for part in (
        "coco/atss/concordance",
        "batch of 8",
        "recipe's batch of 16",
        "images_per_process=auto",
        "rescale_lr",
    ):
        assert part in str(caught.value)
    with pytest.raises(ExperimentError) as caught:
        resolved(BatchPlan(3), tmp_path, configs_cache)
    assert "images_per_process=" not in str(caught.value)


@pytest.mark.parametrize(("processes", "steps"), [(1, 4), (2, 2), (4, 1)])
def test_steps_follow_from_the_recipes_batch(tmp_path, configs_cache, processes, steps):
    recipe = resolved(BatchPlan(), tmp_path, configs_cache)
    config = resolved(BatchPlan(processes, accumulate="auto"), tmp_path, configs_cache)
    assert (config["bench"]["processes"], config["bench"]["gpus"]) == (processes, processes)
    assert config["bench"].get("accumulate", 1) == steps
    assert config["train_dataloader"]["batch_size"] == 4
    assert config["optim_wrapper"] == recipe["optim_wrapper"]
    assert config["param_scheduler"] == recipe["param_scheduler"]
    assert (config_hash(config) == config_hash(recipe)) == (steps == 1)


@pytest.mark.parametrize(
    ("plan", "found", "way"),
    [
        (BatchPlan(3, accumulate="auto"), "3 processes of 4 images, a batch of 12", "processes=1|2|4 with"),
        (BatchPlan(1, accumulate=3), "1 processes of 4 images in 3 steps, a batch of 12", "accumulate=auto"),
        (BatchPlan(2), "a batch of 8", "accumulate=auto"),
    ],
)
def test_steps_that_do_not_give_the_batch_are_refused_with_the_way_out(
    tmp_path, configs_cache, plan, found, way
):
    with pytest.raises(ExperimentError) as caught:
        resolved(plan, tmp_path, configs_cache)
    assert found in str(caught.value) and way in str(caught.value)


def test_a_precision_is_another_run(tmp_path, configs_cache):
    recipe = resolved(BatchPlan(), tmp_path, configs_cache)
    assert config_hash(resolved(BatchPlan(precision="fp32"), tmp_path, configs_cache)) == config_hash(recipe)
    configs = [resolved(BatchPlan(precision=name), tmp_path, configs_cache) for name in ("bf16", "fp16")]
    types = [config["optim_wrapper"]["type"] for config in configs]
    assert types == ["AutocastOptimWrapper", "AmpOptimWrapper"]
    assert len({config_hash(config) for config in (recipe, *configs)}) == 3


def test_a_scales_plan_applies_where_the_user_says_nothing():
    scale = {"processes": 1, "accumulate": "auto", "precision": "bf16"}
    assert BatchPlan().over(scale) == BatchPlan(1, accumulate="auto", precision="bf16")
    assert BatchPlan(2, precision="fp32").over(scale) == BatchPlan(2, accumulate="auto", precision="fp32")


def test_a_coefficient_over_all_processes_is_not_divided_into_steps(tmp_path, configs_cache):
    run = Run("paper", "coco", "atss", "concordance", 0.2, 0, (("processes", "all"),))
    with pytest.raises(ExperimentError, match="images_per_process=auto without accumulate"):
        resolve(Experiments(ROOT), run, tmp_path, configs_cache, BatchPlan(1, accumulate="auto"))


def test_another_batch_rescales_the_learning_rate_where_that_is_asked_for(tmp_path, configs_cache):
    config = resolved(BatchPlan(1, 8, rescale_lr=True), tmp_path, configs_cache)
    assert config["optim_wrapper"]["optimizer"]["lr"] == pytest.approx(0.005)
    assert config["bench"]["lr_factor"] == 0.5


def test_all_runs_of_a_scale_follow_the_settings(real_settings):
    matrix = load_matrix(real_settings("scale=smoke", "processes=2", "images_per_process=2"))
    assert {planned.config["bench"]["processes"] for planned in matrix.planned.values()} == {2}
    assert {planned.config["bench"]["gpus"] for planned in matrix.planned.values()} == {0}


def test_on_the_processor_a_recipe_needs_no_gpu_and_is_another_run(tmp_path, configs_cache):
    config = resolved(BatchPlan(on_cpu=True), tmp_path, configs_cache)
    assert (config["bench"]["processes"], config["bench"]["gpus"]) == (4, 0)
    assert config_hash(config) != config_hash(resolved(BatchPlan(), tmp_path, configs_cache))
