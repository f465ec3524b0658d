"""Training in this process: mmengine's runner with our hooks, then weights and report."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable

import mmdet.datasets
import mmdet.models  # noqa: F401 -- registers mmdet's modules
import torch
import torch.distributed as dist
from mmengine.config import Config
from mmengine.runner import Runner

import corrloss.heads  # noqa: F401 -- registers the heads with the loss
from corrloss.engine.accumulation import AccumulatedStep
from corrloss.engine.checkpoints import Checkpoints
from corrloss.engine.environment import environment
from corrloss.engine.hooks import (
    CurveHook,
    DivergenceHook,
    MemoryHook,
    OnsetHook,
    ProgressHook,
    StepClock,
    TrainingDiverged,
)
from corrloss.engine.resume import ResumeHook
from corrloss.engine.weights import check_starting_weights
from corrloss.files import atomic_write
from corrloss.run import RunFolder


def train_here(config: Config, checkpoints: Checkpoints, log: Callable[[str], None]) -> tuple[dict, dict]:
    """Train in this process, alone or as one of several, from the newest intact checkpoint.

    Args:
        config: Resolved config of the run.
        checkpoints: Where checkpoints are read and written.
        log: Called with lines about the progress.

    Returns:
        ``(report, weights)``: what `corrloss.run.RunFolder.write_training` takes, and the state dict
        of the model on the CPU; after a divergence that of the last checkpoint.
    """
    torch.set_num_threads(config.bench.threads)
    curve, memory = CurveHook(), MemoryHook()
    resume = ResumeHook(checkpoints, curve)
    hooks = [ProgressHook(config.bench.run, log), curve, memory, DivergenceHook(), resume]
    clock = StepClock() if config.bench.get("rehearsal") else None
    runner = build_runner(config, checkpoints, [*hooks, clock] if clock else hooks, log)
    failed = {}
    try:
        runner.train()
    except TrainingDiverged as reason:
        log(f"{config.bench.run}  stopped: {reason}")
        failed = {"failed": str(reason)}
    report = {
        "identity": checkpoints.folder.name,
        "train_seconds": resume.seconds,
        "iterations": runner.iter,
        "peak_memory_mb": memory.peak,
        "environment": environment(),
        "curve": curve.curve,
        "resumes": checkpoints.resumes(),
        **({"steps": {"seconds": clock.seconds, "loading": clock.loading}} if clock else {}),
        **failed,
    }
    return report, last_weights(checkpoints) if failed else _weights(runner)


def last_weights(checkpoints: Checkpoints) -> dict:
    """State dict of the newest intact checkpoint; empty if there is none."""
    path = checkpoints.newest_intact(log=lambda line: None)
    return torch.load(path, map_location="cpu", weights_only=True)["state_dict"] if path else {}


def write_training(folder: RunFolder, checkpoints: Checkpoints, report: dict, weights: dict) -> None:
    """Write weights and report of a finished or failed training, and remove what is not needed any more.

    The last checkpoint is kept: if the weights are lost, it costs no training to write them again.
    """
    # To a file object: given a path, torch writes the path's name, which is random, into the file.
    with atomic_write(folder.weights) as temporary, temporary.open("wb") as file:
        torch.save(weights, file)
    folder.write_training(report)
    checkpoints.remove_all_but(1)
    for path in [*checkpoints.folder.glob("*/"), *checkpoints.folder.glob("*.py")]:
        # mmengine's logs, one for each start.
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def build_runner(config: Config, checkpoints: Checkpoints, hooks: list, log: Callable[[str], None]) -> Runner:
    """An mmengine Runner that trains without validation and resumes from the newest intact checkpoint.

    Args:
        config: Resolved config of the run.
        checkpoints: Where the checkpoints are; mmengine's log goes there, too.
        hooks: Hooks beside mmengine's own; one of them writes the checkpoints.
        log: Called if a checkpoint is damaged.

    Raises:
        WeightsError: A file of starting weights is not the expected one.
    """
    check_starting_weights(config)
    checkpoint = checkpoints.newest_intact(log)
    if "onset" in config.bench:
        hooks = [*hooks, OnsetHook(**config.bench.onset)]
    several = dist.is_initialized()
    # mmengine passes a GPU number to DistributedDataParallel even where there is no GPU.
    wrapper = dict(type="MMDistributedDataParallel", broadcast_buffers=False, device_ids=None)
    on_cpu = dict(model_wrapper_cfg=wrapper) if several and not config.bench.gpus else {}
    visualizer = None
    if config.bench.get("tensorboard"):
        backend = dict(type="TensorboardVisBackend", save_dir=str(checkpoints.tensorboard))
        visualizer = dict(type="Visualizer", vis_backends=[backend])
    runner = Runner(
        model=config.model,
        work_dir=str(checkpoints.folder),
        train_dataloader=_dataloader(config),
        train_cfg=dict(type="ResumableEpochLoop", max_epochs=config.train_cfg.max_epochs),
        optim_wrapper=config.optim_wrapper,
        param_scheduler=config.param_scheduler,
        default_hooks=dict(logger=dict(type="LoggerHook", interval=50), checkpoint=None),
        custom_hooks=hooks,
        visualizer=visualizer,
        randomness=config.randomness,
        default_scope=config.default_scope,
        log_level="WARNING",
        load_from=None if checkpoint is None else str(checkpoint),
        resume=checkpoint is not None,
        # mmengine keeps a visualiser and its folder by this name and the second: two starts, two names.
        experiment_name=f"{config.bench.run.replace('/', '-')}-{uuid.uuid4().hex[:8]}",
        launcher="pytorch" if several else "none",
        cfg=Config(on_cpu),
    )
    if "accumulate" in config.bench:
        runner.model.train_step = AccumulatedStep(runner.model, config.train_dataloader.batch_size)
    if config.bench.get("channels_last"):
        runner.model.to(memory_format=torch.channels_last)
    return runner


def _dataloader(config: Config) -> dict:
    """The loader; its workers are seeded from checkpointed states, and restarted in each epoch."""
    loader = config.train_dataloader
    changes = {}
    if loader["num_workers"]:
        changes |= dict(worker_init_fn=dict(type="seed_loading_worker"), persistent_workers=False)
    if accumulate := config.bench.get("accumulate"):
        batches = dict(type="ConsecutiveBatches", accumulate=accumulate, batches=loader.get("batch_sampler"))
        changes["batch_sampler"] = batches
    return {**loader, **changes}


def _weights(runner: Runner) -> dict:
    model = getattr(runner.model, "module", runner.model)  # without DistributedDataParallel
    return {key: value.cpu() for key, value in model.state_dict().items()}
