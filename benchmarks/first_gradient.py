"""Norm of the gradient at the first training step: of the detector's own losses, and of Correlation Loss.

    python benchmarks/first_gradient.py

Scale mini, all weights, one batch, coefficients at weight 0.2. docs/spearman.md says what to read from it.
"""

import tempfile
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from torch import Tensor

from corrloss.data.dataset import make_dataset
from corrloss.engine.step_timing import Trained, batches
from corrloss.plan.configs import resolve
from corrloss.plan.detectors import load_settings
from corrloss.plan.experiments import Experiments
from corrloss.plan.runs import Run

ROOT = Path(__file__).parents[1]
DETECTORS = ("retinanet", "foveabox", "atss")
COEFFICIENTS = ("concordance", "pearson", "spearman_exact")


def main() -> None:
    MMLogger.get_current_instance().setLevel("WARNING")
    print("| detector | its own losses | " + " | ".join(COEFFICIENTS) + " |")
    print("| --- " * (2 + len(COEFFICIENTS)) + "|")
    with tempfile.TemporaryDirectory() as folder:
        settings = load_settings(ROOT / "experiments" / "datasets" / "mini_coco.py")
        make_dataset(Path(folder) / settings["folder"], settings["make"])
        for detector in DETECTORS:
            norms = [norms_of(detector, coefficient, Path(folder)) for coefficient in COEFFICIENTS]
            cells = [norms[0][0], *(corr for _, corr in norms)]
            print(f"| {detector} | " + " | ".join(f"{cell:.2f}" for cell in cells) + " |", flush=True)


def norms_of(detector: str, coefficient: str, data_root: Path) -> tuple[float, float]:
    """Norm of the gradient of all other losses, and of Correlation Loss."""
    run = Run("mini", "mini_coco", detector, coefficient, 0.2, 0)
    config = Config(resolve(Experiments(ROOT), run, data_root))
    model = Trained(config).model
    losses = model(**model.data_preprocessor(next(batches(config)), True), mode="loss")
    totals = {name: sum(loss) if isinstance(loss, list) else loss for name, loss in losses.items()}
    corr = totals.pop("loss_corr")
    detector_loss = sum(loss for name, loss in totals.items() if name.startswith("loss"))
    return norm_of(detector_loss, model), norm_of(corr, model)


def norm_of(loss: Tensor, model: torch.nn.Module) -> float:
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    grads = torch.autograd.grad(loss, weights, retain_graph=True, allow_unused=True)
    return torch.stack([grad.norm() for grad in grads if grad is not None]).norm().item()


if __name__ == "__main__":
    main()
