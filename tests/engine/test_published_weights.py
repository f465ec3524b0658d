"""What a published detector is loaded into, at full width and without weights of its own."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from corrloss.engine.published_weights import _published_state
from corrloss.engine.weights import WeightsError
from corrloss.files import sha256
from corrloss.plan.configs import resolve
from corrloss.plan.experiments import Experiments
from corrloss.plan.runs import Run

ROOT = Path(__file__).parents[2]


def config_of(detector, path):
    """The config of a detector at scale zoo, with a file of the user's own as its weights."""
    run = Run("zoo", "coco_val", detector, "published", 0.0, 0)
    config = resolve(Experiments(ROOT), run, Path("data"))
    config["bench"]["published"]["checkpoint"] = str(path)
    config["bench"]["starting_weights"] = {path.name: sha256(path) if path.is_file() else "no file"}
    return Config(config)


@pytest.mark.slow
@pytest.mark.parametrize("detector", Experiments(ROOT).read("scale", "zoo")["published"])
def test_every_model_of_the_scale_is_built_and_names_what_it_lacks(detector, tmp_path):
    path = tmp_path / "weights.pth"
    torch.save({"state_dict": {"other.weight": torch.zeros(2)}, "meta": {}}, path)
    with pytest.raises(
        WeightsError, match=r"missing .*backbone\..* more; unexpected other.weight; take the file"
    ):
        _published_state(config_of(detector, path))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "expected a file with SHA-256 no file, found no file"),
        ({"state_dict": {"backbone.conv1.weight": torch.zeros(2)}}, "found others .*size mismatch"),
        (Path("code"), "expected a file that holds tensors alone"),
        ([1, 2], "expected the weights of retinanet/retinanet_r50_fpn_1x_coco, found others"),
    ],
)
def test_what_is_not_a_model_is_refused(content, said, tmp_path):
    path = tmp_path / "weights.pth"
    if content is not None:
        torch.save(content, path)
    with pytest.raises(WeightsError, match=said):
        _published_state(config_of("retinanet", path))
