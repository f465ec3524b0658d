"""What is read from metafiles, and what a scale of published weights plans."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from corrloss.plan.configs import resolve
from corrloss.plan.experiments import Experiments
from corrloss.plan.matrix import load_matrix
from corrloss.plan.model_zoo import model_of, published_model
from corrloss.plan.runs import Run
from corrloss.plan.schema import ExperimentError
from corrloss.plan.workflow import Plan

ROOT = Path(__file__).parents[2]
ENTRY = {
    "Name": "toy",
    "Config": "configs/toys/toy.py",
    "Results": [{"Dataset": "COCO", "Metrics": {"box AP": 30.0, "mask AP": 28}}],
    "Weights": "https://example.org/toy-0123abcd.pth",
}
ZOO = Experiments(ROOT).read("scale", "zoo")["published"]


@pytest.fixture
def configs(tmp_path):
    """A folder like mmdet's ``.mim/configs``, and a function that writes its one metafile."""
    folder = tmp_path / "configs"
    (folder / "toys").mkdir(parents=True)
    (folder / "toys" / "toy.py").write_text("model = dict()\n")

    def write(**changes):
        (folder / "toys" / "metafile.yml").write_text(yaml.safe_dump({"Models": [ENTRY | changes]}))
        return folder

    return write


def test_a_metafile_gives_config_weights_and_ap(configs):
    folder = configs()
    model = published_model("toys/toy", folder)
    assert (model.config, model.url) == (folder / "toys" / "toy.py", ENTRY["Weights"])
    assert model.ap == {"AP": 30.0, "mask_AP": 28.0} and model.file == "toy-0123abcd.pth"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"Results": []}, "at Results: expected box AP or mask AP on COCO, found none"),
        ({"Results": [{"Dataset": "LVIS", "Metrics": {"box AP": 1}}]}, "expected box AP or mask AP on COCO"),
        ({"Weights": None}, "at Weights: expected an address .* found None"),
        ({"Weights": "https://example.org/toy.pth"}, "at Weights: expected an address that ends in"),
        ({"Config": "configs/toys/other.py"}, "at Config: expected a file of mmdet"),
        ({"Name": "other"}, "expected a model 'toy', found other"),
    ],
)
def test_a_metafile_that_lacks_something_is_refused(configs, changes, said):
    with pytest.raises(ExperimentError, match=f"metafile.yml: .*{said}"):
        published_model("toys/toy", configs(**changes))


def test_a_folder_without_a_metafile_is_refused(tmp_path):
    with pytest.raises(ExperimentError, match=r"toys/metafile.yml: expected the metafile of 'toys/toy'"):
        published_model("toys/toy", tmp_path)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"config": "none.py"}, "expected an mmdet config"),
        ({"weights": "https://example.org/a.pth"}, "SHA-256"),
    ],
)
def test_a_model_of_ones_own_that_lacks_something_is_refused(tmp_path, changes, said):
    (tmp_path / "own.py").write_text("model = dict()\n")
    entry = {"config": "own.py", "weights": "mine.pth"}
    assert model_of(entry, tmp_path).weights == str(tmp_path / "mine.pth")
    with pytest.raises(ExperimentError, match=said):
        model_of(entry | changes, tmp_path)


def test_every_model_of_scale_zoo_is_in_the_installed_mmdet():
    models = {detector: published_model(name) for detector, name in ZOO.items()}
    assert models.pop("yolact").ap == {"mask_AP": 28.4}  # its metafile has no AP of boxes
    assert all(model.ap["AP"] > 30 for model in models.values())


def test_mmdet_is_not_imported():
    code = "import sys, corrloss.plan.model_zoo as p; p.published_model('atss/atss_r50_fpn_1x_coco')"
    subprocess.run([sys.executable, "-c", f"{code}; assert 'mmdet' not in sys.modules"], check=True, cwd=ROOT)


def test_scale_zoo_has_published_runs_alone_and_no_other_scale_has_any(real_settings):
    zoo = load_matrix(real_settings("scale=zoo"))
    assert {one.run.variant for one in zoo.planned.values()} == {"published"}
    assert {one.run.detector for one in zoo.planned.values()} == {*ZOO}
    assert zoo.main_tables == ["published", "published_masks"]
    assert zoo.analysis_tables == ["bounds", "calibration", "correlation", "threshold"]
    paper = load_matrix(real_settings("scale=paper"))
    assert "published" not in {one.run.variant for one in paper.planned.values()}


def test_the_config_is_mmdets_own_without_training(real_settings):
    config = load_matrix(real_settings("scale=zoo")).run("coco_val/paa/published/seed0").config
    assert config["model"]["bbox_head"]["type"] == "PAAHead" and not {"train_dataloader"} & config.keys()
    assert config["model"]["backbone"]["init_cfg"] is None
    assert list(config["bench"]["pretrained"]) == ["paa_r50_fpn_1x_coco_20200821-936edec3.pth"]
    assert list(config["bench"]["starting_weights"].values()) == ["936edec3"]


def test_scale_zoo_500_predicts_a_sample_of_val2017_on_a_cpu(real_settings):
    settings = real_settings("scale=zoo_500", "data_root=nowhere")
    matrix = load_matrix(settings)
    config = matrix.run("coco_val_500/paa/published/seed0").config
    assert config["bench"]["gpus"] == 0
    assert config["test_dataloader"]["dataset"]["ann_file"] == "annotations/instances_val2017_500.json"
    assert not list(Plan(settings, matrix).missing(has_gpus=False))  # rules fetch the images


def test_a_detector_without_a_published_model_is_refused():
    run = Run("zoo", "coco_val", "atss_no_aux", "published", 0.0, 0)
    with pytest.raises(ExperimentError, match="at published: expected a model for detector atss_no_aux"):
        resolve(Experiments(ROOT), run, Path("data"))
