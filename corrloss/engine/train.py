"""Training of one run: from its resolved config to its weights, in as many processes as its recipe has."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.distributed as dist
from mmengine.config import Config

from corrloss.engine.checkpoints import Checkpoints
from corrloss.engine.processes import train_as_one_of_several, train_in_processes
from corrloss.engine.trainer import train_here, write_training
from corrloss.errors import CorrLossError
from corrloss.plan.config_files import load
from corrloss.run import RunFolder


class NoGpuError(CorrLossError):
    """A run that is planned for a GPU would be trained on a processor, which takes days or months."""


def train(folder: RunFolder, log: Callable[[str], None]) -> None:
    """Train the detector of a run; write its weights and the report of the training.

    A training that was interrupted resumes, bit-exactly, from its last checkpoint. A recipe for several
    processes is trained by as many on this machine, each on a GPU of its own where the recipe uses GPUs. If
    the loss diverges the training ends early: the report has the reason under ``failed``, and the weights
    are those of the last checkpoint before (an empty state dict if there is none).

    Args:
        folder: The run's folder, which holds its config.
        log: Called with lines about the progress.

    Raises:
        ExperimentError: The config is missing or damaged.
        ProcessesError: There are fewer GPUs than processes, or a process failed.
        NoGpuError: The recipe is for a GPU, and there is none.
    """
    config = load(folder.config)
    _refuse_without_gpu(config)
    checkpoints = Checkpoints.of(folder, config)
    if dist.is_torchelastic_launched():  # one of the processes that train_in_processes started
        train_as_one_of_several(config, folder, checkpoints, log)
        return
    with folder.exclusive(log):
        folder.start("training")
        checkpoints.note_start()
        if config.bench.processes == 1:
            write_training(folder, checkpoints, *train_here(config, checkpoints, log))
        else:
            train_in_processes(config, folder, checkpoints, log)


def _refuse_without_gpu(config: Config) -> None:
    one_gpu = config.bench.gpus and config.bench.processes == 1  # several processes count theirs
    if one_gpu and not torch.cuda.is_available():
        raise NoGpuError(
            f"{config.bench.run}: expected a GPU, PyTorch finds none (`nvidia-smi` and CUDA_VISIBLE_DEVICES "
            "say why). Run it on a machine with a GPU, or set on_cpu=true to train on the CPU"
        )
