"""Scale small: what differs from scale paper, what it costs, and how long it takes to plan."""

from pathlib import Path

import pytest

from corrloss.plan.configs import resolve
from corrloss.plan.experiments import Experiments
from corrloss.plan.matrix import load_matrix
from corrloss.plan.runs import Run
from corrloss.plan.settings import Settings
from corrloss.tables.cost import cost_table, load_seconds, run_costs

ROOT = Path(__file__).parents[2]
DETECTORS = (
    "retinanet", "foveabox", "atss", "atss_no_aux", "paa", "paa_no_aux", "sparse_rcnn", "sparse_rcnn_r50_3x",
    "yolact",
)  # fmt: skip
MAIN = ("nms_based", "nms_free", "instance_segmentation")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("configs")


@pytest.fixture(scope="module")
def both(cache):
    """Config of a detector with the loss at scale small and at scale paper."""

    def both(detector):
        runs = (Run(scale, data, detector, "concordance", 0.2, 0) for scale, data in SCALES.items())
        return [resolve(Experiments(ROOT), run, Path("data"), cache) for run in runs]

    return both


SCALES = {"small": "coco_small", "paper": "coco"}


def differences(one, other, place=""):
    """Places at which two configs differ."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in one.keys() | other.keys():
            yield from differences(one.get(key), other.get(key), f"{place}.{key}")
    elif one != other:
        yield place.lstrip(".")


SIZE = {f"{loader}_dataloader.dataset.pipeline" for loader in ("train", "test")}
IMAGES = {"train_dataloader.dataset.ann_file", "train_dataloader.dataset.data_prefix.img"}
SPREAD = {"optim_wrapper.type"} | {
    f"bench.{key}" for key in ("run", "processes", "gpus", "accumulate", "precision")
}
OWN = {
    "yolact": {f"model.bbox_head.anchor_generator.{key}" for key in ("base_sizes", "strides", "centers")},
    "sparse_rcnn_r50_3x": {"train_cfg.max_epochs", "param_scheduler"},
}


@pytest.mark.parametrize("detector", DETECTORS)
def test_only_images_and_their_size_differ_from_the_papers_recipe(both, detector):
    small, paper = both(detector)
    assert set(differences(small, paper)) == SIZE | IMAGES | SPREAD | OWN.get(detector, set())


@pytest.mark.parametrize("detector", DETECTORS)
def test_one_gpu_makes_the_papers_batch_in_steps_of_the_papers_images(both, detector):
    small, paper = both(detector)
    assert (small["bench"]["processes"], small["bench"]["gpus"]) == (1, 1)
    images = 8 if detector == "yolact" else 4
    assert small["train_dataloader"]["batch_size"] == paper["train_dataloader"]["batch_size"] == images
    assert small["bench"]["accumulate"] == paper["bench"]["processes"] == 4
    assert small["bench"]["precision"] == "bf16" and "lr_factor" not in small["bench"]


def sides(pipeline):
    """Longest and shortest side of a training image, of each size that its pipeline draws."""
    for step in pipeline:
        for choice in step.get("transforms", []):
            yield from sides(choice)
        for scale in step.get("scales", [step["scale"]] if "scale" in step else []):
            yield sorted(scale)
        if "crop_size" in step:
            yield sorted(step["crop_size"])


@pytest.mark.parametrize("detector", DETECTORS)
def test_images_are_half_as_large(both, detector):
    small, paper = (sorted(sides(one["train_dataloader"]["dataset"]["pipeline"])) for one in both(detector))
    assert small == [[side / 2 if side != 1333 else 667 for side in pair] for pair in paper]
    small, paper = (one["test_dataloader"]["dataset"]["pipeline"][1]["scale"] for one in both(detector))
    assert [2 * side for side in small] == pytest.approx(list(paper), abs=1)


def test_steps_of_the_pipelines_are_the_papers(both):
    for detector in DETECTORS:
        small, paper = (
            [step["type"] for step in one["train_dataloader"]["dataset"]["pipeline"]]
            for one in both(detector)
        )
        assert small == paper


@pytest.fixture(scope="module")
def matrix(tmp_path_factory):
    folder = tmp_path_factory.mktemp("small")
    return load_matrix(Settings.load(ROOT, ["scale=small", f"results={folder}", f"data_root={folder}"]))


def test_the_main_tables_are_27_runs_of_less_than_two_days_by_measured_steps(matrix, tmp_path):
    seconds = load_seconds(ROOT / "experiments" / "reference" / "seconds.csv")
    costs = run_costs(matrix, seconds, tmp_path)
    assert tuple(sorted(matrix.main_tables)) == tuple(sorted(MAIN))
    runs = matrix.runs_of(MAIN)
    assert len(runs) == 27
    assert 40 < sum(costs[run].gpu_hours for run in runs) <= 46  # the rest is for predictions
    assert cost_table(matrix, costs, gpus=1)["unknown"].sum() == 0


def test_every_table_of_the_scale_has_its_runs(matrix):
    assert {"seeds", "weight", "coefficient_mode", "gradient"} <= set(matrix.analysis_tables)
    assert {run.dataset for run in matrix.runs_of(matrix.result_tables)} == {"coco_small"}
