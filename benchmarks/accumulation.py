"""How far the gradient of two accumulated steps is from that of two processes, at the first update.

    python benchmarks/accumulation.py

Scale mini, 8 images: 4 in each process, or 4 in each step, the same ones. Two processes differ where mmdet
takes the mean over processes of what a loss is divided by. docs/recipes.md has the table.
"""

import contextlib
import copy
import tempfile
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from mmengine.config import Config
from mmengine.logging import MessageHub, MMLogger
from torch import Tensor

from corrloss.data.dataset import make_dataset
from corrloss.engine.step_timing import Trained, batches
from corrloss.plan.configs import resolve
from corrloss.plan.detectors import load_settings
from corrloss.plan.experiments import Experiments
from corrloss.plan.runs import Run

ROOT = Path(__file__).parents[1]
DETECTORS = (
    "retinanet", "foveabox", "atss", "atss_no_aux", "paa", "paa_no_aux", "sparse_rcnn", "yolact",
    "gfl", "vfnet", "tood", "fcos", "faster_rcnn", "deformable_detr",
)  # fmt: skip
IMAGES, PARTS = 4, 2


def main() -> None:
    print("| detector | of the whole gradient | of the gradient of Correlation Loss |")
    print("| --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        settings = load_settings(ROOT / "experiments" / "datasets" / "mini_coco.py")
        make_dataset(Path(folder) / settings["folder"], settings["make"])
        for detector in DETECTORS:
            mp.spawn(gradient_of_process, (detector, folder), nprocs=PARTS)
            processes = [torch.load(Path(folder) / f"{rank}.pt") for rank in range(PARTS)]
            steps = [gradients(*model_and_images(detector, Path(folder), part)) for part in range(PARTS)]
            cells = [
                f"{difference(mean(p[i] for p in processes), mean(s[i] for s in steps)):.1e}" for i in (0, 1)
            ]
            print(f"| {detector} | " + " | ".join(cells) + " |", flush=True)


def gradient_of_process(rank: int, detector: str, folder: str) -> None:
    """Gradients of one of the processes, written to a file."""
    model, images = model_and_images(detector, Path(folder), rank)  # before: a sampler divides by processes
    dist.init_process_group("gloo", f"file://{folder}/{detector}.store", rank=rank, world_size=PARTS)
    torch.save(gradients(model, images), Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()


def model_and_images(detector: str, data_root: Path, part: int) -> tuple[torch.nn.Module, dict]:
    """A new model, the same each time, and one part of the first images."""
    MMLogger.get_current_instance().setLevel("ERROR")
    MessageHub.get_current_instance().update_info("epoch", 0)  # TOOD reads it
    torch.set_num_threads(1)
    run = Run("mini", "mini_coco", detector, "concordance", 0.2, 0)
    config = Config(copy.deepcopy(resolve(Experiments(ROOT), run, data_root)))
    config.train_dataloader.batch_size = IMAGES * PARTS
    model = Trained(config).model
    with contextlib.redirect_stdout(None):  # pycocotools
        data = next(batches(config))
    return model, {key: values[part * IMAGES :][:IMAGES] for key, values in data.items()}


def gradients(model: torch.nn.Module, images: dict) -> tuple[Tensor, Tensor]:
    """Gradient of all losses, and of Correlation Loss alone."""
    losses = model(**model.data_preprocessor(images, True), mode="loss")
    correlation = sum(term for name, term in losses.items() if name.endswith("loss_corr"))
    return gradient(model.parse_losses(losses)[0], model), gradient(correlation, model)


def gradient(loss: Tensor, model: torch.nn.Module) -> Tensor:
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    grads = torch.autograd.grad(loss, weights, retain_graph=True, allow_unused=True)
    return torch.cat(
        [(torch.zeros_like(w) if g is None else g).flatten() for g, w in zip(grads, weights, strict=True)]
    )


def mean(gradients) -> Tensor:
    return torch.stack(list(gradients)).mean(0)


def difference(one: Tensor, other: Tensor) -> float:
    """Norm of the difference, relative to the norm of the other."""
    return float((one - other).norm() / other.norm())


if __name__ == "__main__":
    main()
