"""Training one run: from its resolved config to its weights, in as many processes as its recipe has."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import mmdet.datasets
import mmdet.models  # noqa: F401 -- registers mmdet's modules
import torch
import torch.distributed as dist
from mmengine.config import Config
from mmengine.runner import Runner

import corrloss.heads  # noqa: F401 -- registers the heads with the loss
from corrloss.engine.environment import environment, peak_memory_mb
from corrloss.engine.hooks import CurveHook, DivergenceHook, ProgressHook, TrainingDiverged
from corrloss.engine.parent import end_with_parent
from corrloss.engine.resume import ResumeHook, checkpoints, newest_whole
from corrloss.errors import CorrLossError
from corrloss.files import atomic_write, write_json
from corrloss.plan.config_files import load
from corrloss.run import RunFolder

STARTS = "starts.txt"


class ProcessesError(CorrLossError):
    """The processes of a training cannot be started, or one of them ended early."""


@dataclass(frozen=True)
class Places:
    """Where a training reads and writes.

    Attributes:
        config: File written by :func:`corrloss.plan.config_files.dump`.
        work_dir: Folder for checkpoints and mmengine's log; a training that was cut off goes on from the
            newest whole checkpoint in it.
        weights: Where the final state dict is written.
        report: Where seconds, memory, environment and the loss curve are written, as JSON.
    """

    config: Path
    work_dir: Path
    weights: Path
    report: Path

    def as_arguments(self) -> list[str]:
        """As arguments of ``corrloss train-process``."""
        return [str(path) for path in (self.config, self.work_dir, self.weights, self.report)]


def train(places: Places, log: Callable[[str], None]) -> None:
    """Train the detector of a resolved config and keep its weights.

    A recipe for several processes is trained by as many, started by torchrun on a free port of this machine;
    on GPUs each process takes one. A training whose loss goes wrong ends early: the report says ``failed``
    and why, and the weights are those of the last checkpoint before (an empty state dict if there is none).

    Args:
        places: Where to read and write.
        log: Takes lines about the progress.

    Raises:
        ProcessesError: There are fewer GPUs than processes, or a process ended early.
    """
    config = load(places.config)
    if dist.is_torchelastic_launched():  # this is one of the processes that _start_processes started
        _train_as_one_of_several(config, places, log)
        return
    with RunFolder(places.report.parent).exclusive(log):
        places.work_dir.mkdir(parents=True, exist_ok=True)
        with (places.work_dir / STARTS).open("a") as starts:
            starts.write("started\n")
        if config.bench.processes == 1:
            _train(config, places, log)
        else:
            _start_processes(config, places)


def _start_processes(config: Config, places: Places) -> None:
    count = config.bench.processes
    _refuse_too_few_gpus(config)
    _diverged(places.work_dir).unlink(missing_ok=True)
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--local-addr=127.0.0.1"]
    command = [sys.executable, *torchrun, f"--nproc-per-node={count}", "-m", "corrloss.cli", "train-process"]
    # By the loopback device: the name of this machine need not resolve, and nothing leaves the machine.
    environment = {"GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": str(config.bench.threads), **os.environ}
    # Only lines of progress come by stdout, which the parent may have turned elsewhere.
    done = subprocess.run(
        [*command, *places.as_arguments()],
        env=environment,
        stdout=sys.__stdout__,
        preexec_fn=end_with_parent,
        check=False,
    )
    if done.returncode != 0 and not _diverged(places.work_dir).exists():
        raise ProcessesError(
            f"{config.bench.run}: one of {count} training processes ended with an error; its messages are "
            "above, and the next start goes on from the last checkpoint"
        )
    if done.returncode != 0:
        _finish_failed(places, _diverged(places.work_dir).read_text(encoding="utf-8"))


def _refuse_too_few_gpus(config: Config) -> None:
    there = torch.cuda.device_count()
    if config.bench.gpus and there < config.bench.processes:
        raise ProcessesError(
            f"{config.bench.run}: its recipe trains on {config.bench.processes} GPUs, and this machine shows "
            f"{there} (CUDA_VISIBLE_DEVICES={os.environ.get('CUDA_VISIBLE_DEVICES', 'not set')}); give it as "
            "many, or another number with --config processes=N (see docs/paper_scale.md)"
        )


def _train_as_one_of_several(config: Config, places: Places, log: Callable[[str], None]) -> None:
    end_with_parent()
    if config.bench.gpus:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if config.bench.gpus else "gloo")
    try:
        _train(config, places, log if dist.get_rank() == 0 else _nothing)
    except _StoppedEarly:
        sys.exit(1)  # the other processes would wait for this one for ever: torchrun ends them
    dist.destroy_process_group()


class _StoppedEarly(Exception):
    """This process noted why the training diverged, and the processes must end."""


def _train(config: Config, places: Places, log: Callable[[str], None]) -> None:
    torch.set_num_threads(config.bench.threads)
    curve = CurveHook()
    resume = ResumeHook(places.work_dir, curve)
    hooks = [ProgressHook(config.bench.run, log), curve, DivergenceHook(), resume]
    runner = build_runner(config, places.work_dir, hooks, newest_whole(places.work_dir, log))
    if config.bench.channels_last:
        runner.model.to(memory_format=torch.channels_last)
    try:
        runner.train()
    except TrainingDiverged as reason:
        log(f"{config.bench.run}  stopped: {reason}")
        if dist.is_initialized():
            with atomic_write(_diverged(places.work_dir)) as temporary:
                temporary.write_text(str(reason), encoding="utf-8")
            raise _StoppedEarly from reason
        _finish_failed(places, str(reason), _report(places, runner, resume))
        return
    if not dist.is_initialized() or dist.get_rank() == 0:
        _finish(places, _weights_of(runner), _report(places, runner, resume))


def _finish(places: Places, weights: dict, report: dict) -> None:
    # As a file object: by a path torch would write its name, which differs, into the file.
    with atomic_write(places.weights) as temporary, temporary.open("wb") as file:
        torch.save(weights, file)
    write_json(places.report, report)
    for old in checkpoints(places.work_dir)[1:]:  # the last stays: a lost weights file costs no training
        old.unlink()
    for log in [*places.work_dir.glob("*/"), *places.work_dir.glob("*.py")]:
        # mmengine's, one of each a start: what matters of them is in the report and the run's folder.
        shutil.rmtree(log) if log.is_dir() else log.unlink()


def _finish_failed(places: Places, reason: str, report: dict | None = None) -> None:
    last = newest_whole(places.work_dir, _nothing)
    kept = (
        torch.load(last, map_location="cpu", weights_only=True) if last else {"state_dict": {}, "bench": None}
    )
    if report is None:  # the process that knew more is gone
        bench = kept["bench"] or {"seconds": 0.0, "iteration": 0, "curve": {"curve": []}}
        report = {
            "train_seconds": bench["seconds"],
            "iterations": bench["iteration"],
            "peak_memory_mb": peak_memory_mb(),
            "environment": environment(),
            "curve": bench["curve"]["curve"],
            "resumes": _resumes(places.work_dir),
        }
    _finish(places, kept["state_dict"], {**report, "failed": reason})


def _weights_of(runner: Runner) -> dict:
    model = getattr(runner.model, "module", runner.model)  # without DistributedDataParallel
    return {key: value.cpu() for key, value in model.state_dict().items()}


def _report(places: Places, runner: Runner, resume: ResumeHook) -> dict:
    return {
        "train_seconds": resume.seconds,
        "iterations": runner.iter,
        "peak_memory_mb": peak_memory_mb(),
        "environment": environment(),
        "curve": resume.curve.curve,
        "resumes": _resumes(places.work_dir),
    }


def _resumes(work_dir: Path) -> int:
    return len((work_dir / STARTS).read_text().splitlines()) - 1


def _diverged(work_dir: Path) -> Path:
    return work_dir / "diverged.txt"


def _nothing(_line: str) -> None:
    """Say nothing."""


def build_runner(config: Config, work_dir: Path, hooks: list, checkpoint: Path | None = None) -> Runner:
    """An mmengine Runner that trains, without validation, and goes on from a checkpoint if one is given.

    Args:
        config: Resolved config of the run.
        work_dir: Folder for mmengine's log.
        hooks: Hooks beside mmengine's own; one of them writes the checkpoints.
        checkpoint: What to resume from.
    """
    several = dist.is_initialized()
    # mmengine hands DistributedDataParallel the number of a GPU, also where there is none.
    wrapper = dict(type="MMDistributedDataParallel", broadcast_buffers=False, device_ids=None)
    on_cpu = dict(model_wrapper_cfg=wrapper) if several and not config.bench.gpus else {}
    return Runner(
        model=config.model,
        work_dir=str(work_dir),
        train_dataloader=_seeded(config.train_dataloader),
        train_cfg=dict(type="ResumableEpochLoop", max_epochs=config.train_cfg.max_epochs),
        optim_wrapper=config.optim_wrapper,
        param_scheduler=config.param_scheduler,
        default_hooks=dict(logger=dict(type="LoggerHook", interval=50), checkpoint=None),
        custom_hooks=hooks,
        randomness=config.randomness,
        default_scope=config.default_scope,
        log_level="WARNING",
        load_from=None if checkpoint is None else str(checkpoint),
        resume=checkpoint is not None,
        experiment_name=config.bench.run.replace("/", "-"),
        launcher="pytorch" if several else "none",
        cfg=Config(on_cpu),
    )


def _seeded(dataloader: dict) -> dict:
    """The loader, its workers seeded by what checkpoints hold and started anew with each epoch."""
    workers = dict(worker_init_fn=dict(type="seed_loading_worker"), persistent_workers=False)
    return {**dataloader, **workers} if dataloader["num_workers"] else dataloader
