"""Training in several processes of this machine, started by torchrun."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

import torch
import torch.distributed as dist
from mmengine.config import Config

from corrloss.engine.checkpoints import Checkpoints
from corrloss.engine.trainer import last_weights, train_here, write_training
from corrloss.errors import CorrLossError
from corrloss.parent import end_with_parent
from corrloss.run import RunFolder


class ProcessesError(CorrLossError):
    """The processes of a training cannot be started, or one of them failed."""


def train_in_processes(
    config: Config, folder: RunFolder, checkpoints: Checkpoints, log: Callable[[str], None]
) -> None:
    """Start the processes of a training and wait for them; the first one writes weights and report.

    Raises:
        ProcessesError: There are fewer GPUs than processes, or a process failed.
    """
    count = config.bench.processes
    _refuse_too_few_gpus(config)
    checkpoints.take_divergence()  # of an earlier start
    checkpoints.newest_intact(log)  # renames damaged ones before several processes read them
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--local-addr=127.0.0.1"]
    command = [sys.executable, *torchrun, f"--nproc-per-node={count}", "-m", "corrloss.cli", "train-process"]
    # By the loopback device: the name of this machine may not resolve, and nothing leaves the machine.
    environment = {"GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": str(config.bench.threads), **os.environ}
    # sys.__stdout__: the caller may have redirected sys.stdout.
    done = subprocess.run(
        [*command, str(folder.path)],
        env=environment,
        stdout=sys.__stdout__,
        preexec_fn=end_with_parent,
        check=False,
    )
    if done.returncode == 0:
        return
    report = checkpoints.take_divergence()
    if report is None:
        raise ProcessesError(
            f"{folder.path}: expected {count} training processes to finish, but one of them failed; its "
            "messages are above. Start again: the training resumes from its last checkpoint"
        )
    write_training(folder, checkpoints, report, last_weights(checkpoints))


def train_as_one_of_several(
    config: Config, folder: RunFolder, checkpoints: Checkpoints, log: Callable[[str], None]
) -> None:
    """Train in one of the processes that `train_in_processes` started."""
    end_with_parent()
    if config.bench.gpus:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if config.bench.gpus else "gloo")
    first = dist.get_rank() == 0
    report, weights = train_here(config, checkpoints, log if first else lambda line: None)
    if "failed" in report:
        checkpoints.write_divergence(report)
        sys.exit(1)  # the other processes wait for this one: torchrun ends them
    if first:
        write_training(folder, checkpoints, report, weights)
    dist.destroy_process_group()


def _refuse_too_few_gpus(config: Config) -> None:
    found = torch.cuda.device_count()
    if config.bench.gpus and found < config.bench.processes:
        raise ProcessesError(
            f"{config.bench.run}: expected {config.bench.processes} GPUs, one for each process, "
            f"found {found} (CUDA_VISIBLE_DEVICES={os.environ.get('CUDA_VISIBLE_DEVICES', 'not set')}); make "
            "more visible, or change the recipe with --config processes=N (see docs/paper_scale.md)"
        )
