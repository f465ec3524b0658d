from pathlib import Path

import pytest

from corrloss.data.mini_coco import make_mini_coco
from corrloss.plan.batch_plan import RECIPE
from corrloss.plan.config_files import dump
from corrloss.plan.configs import resolve
from corrloss.plan.experiments import Experiments
from corrloss.plan.runs import Run

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def smoke_config(tmp_path_factory):
    """Writes the resolved config of a RetinaNet at scale smoke, twelve images, 3 epochs of 3 iterations."""
    folder = tmp_path_factory.mktemp("smoke")
    make_mini_coco(folder / "smoke_coco", train_images=12, val_images=4)

    def write(name, change=None, spread=RECIPE, detector="retinanet"):
        run = Run("smoke", "smoke_coco", detector, "concordance", 0.2, 0)
        settings = resolve(Experiments(ROOT), run, folder, spread=spread)
        settings["train_cfg"]["max_epochs"] = 3
        if change is not None:
            change(settings)
        path = folder / f"{name}.py"
        path.write_text(dump(settings))
        return path

    return write
