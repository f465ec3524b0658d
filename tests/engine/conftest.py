from pathlib import Path

import pytest

from corrloss.data.mini_coco import make_mini_coco
from corrloss.plan.batch_plan import RECIPE
from corrloss.plan.config_files import dump
from corrloss.plan.configs import resolve
from corrloss.plan.experiments import Experiments
from corrloss.plan.identity import run_identity
from corrloss.plan.runs import Run
from corrloss.run import RunFolder

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def smoke_run(tmp_path_factory):
    """Makes a run's folder with the config of a small RetinaNet: 12 images, 3 epochs of 3 iterations."""
    data_root = tmp_path_factory.mktemp("smoke")
    make_mini_coco(data_root / "smoke_coco", train_images=12, val_images=4)

    def make(folder, change=None, spread=RECIPE, detector="retinanet"):
        run = Run("smoke", "smoke_coco", detector, "concordance", 0.2, 0)
        settings = resolve(Experiments(ROOT), run, data_root, spread=spread)
        settings["train_cfg"]["max_epochs"] = 3
        if change is not None:
            change(settings)
        data = {"train": "0" * 12, "test": "1" * 12}
        settings["bench"]["identity"] = run_identity(settings, data, "hotcoco")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.py").write_text(dump(settings))
        return RunFolder(folder)

    return make
