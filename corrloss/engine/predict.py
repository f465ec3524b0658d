"""Prediction of one run: from its weights to detections in COCO's result format."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import mmdet.datasets
import mmdet.evaluation
import mmdet.models  # noqa: F401 -- registers mmdet's modules
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner

import corrloss.heads  # noqa: F401 -- registers the heads with the loss
from corrloss.analysis.bounds import ORDERS
from corrloss.coco import load_ground_truth
from corrloss.engine.candidates import CandidateRecorder, CandidatesUnavailable, write_candidates
from corrloss.engine.environment import environment, peak_memory_mb
from corrloss.engine.weights import load_weights
from corrloss.files import atomic_write
from corrloss.plan.config_files import load
from corrloss.run import KINDS, RunFolder


class PredictionProgressHook(Hook):
    """Logs the share of predicted batches, ten times in all."""

    def __init__(self, run: str, log: Callable[[str], None]) -> None:
        self.run = run
        self.log = log

    def after_test_iter(self, runner: Runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        """Log a line when another tenth is done."""
        total = len(runner.test_dataloader)
        done = batch_idx + 1
        if done * 10 // total > batch_idx * 10 // total:
            self.log(f"{self.run}  predicted {done / total:.0%} of {total} batches")


def predict(folder: RunFolder, log: Callable[[str], None]) -> None:
    """Write the detections of a trained run on its test images, and the report of the prediction.

    Boxes and, where the detector has them, masks; positives before post-processing and the boxes of their
    best and worst order, unless the post-processing is of an unknown kind, which ``log`` is told. The files
    of a run whose training failed have no entries.

    Args:
        folder: The run's folder, which holds its config, weights and the report of its training.
        log: Called with lines about the progress.

    Raises:
        ExperimentError: The config is missing or damaged.
        StageReportError: The report of the training is, or it is of another training.
        WeightsError: The weights do not load or do not fit the config's model.
    """
    config = load(folder.config)
    with folder.exclusive(log):
        training = folder.read_training(config.bench.identity.training)
        folder.start("prediction")
        if "failed" in training:
            seconds = 0.0
            _write_empty(folder, kinds_of(config))
        else:
            seconds = _predict(config, folder, log)
        report = {"peak_memory_mb": peak_memory_mb(), "environment": environment()}
        identity = config.bench.identity.prediction
        folder.write_prediction({"identity": identity, "predict_seconds": seconds, **report})


def kinds_of(config: Config) -> tuple[str, ...]:
    """Kinds of detections that a run has."""
    return KINDS if config.bench.masks else ("bbox",)


def _predict(config: Config, folder: RunFolder, log: Callable[[str], None]) -> float:
    """Write all files of a prediction but its report; returns the seconds that the model took."""
    with tempfile.TemporaryDirectory(dir=folder.path, prefix=".predict-") as scratch:
        runner = build_test_runner(config, folder.weights, Path(scratch), log)
        keeper = _candidate_keeper(config, runner)
        start = time.monotonic()
        with keeper.recording(runner.model):
            runner.test()
        seconds = time.monotonic() - start
        for kind in kinds_of(config):
            RunFolder(Path(scratch)).detections(kind).replace(folder.detections(kind))
    try:
        keeper.write(folder.path)
    except CandidatesUnavailable as reason:
        log(f"{config.bench.run}  positives before post-processing are not available: {reason}")
    return seconds


def _write_empty(folder: RunFolder, kinds: tuple[str, ...]) -> None:
    """Write files without entries, which the next stages read like those of any other run."""
    for kind in kinds:
        with atomic_write(folder.detections(kind)) as temporary:
            temporary.write_text("[]\n", encoding="utf-8")
    write_candidates(folder.path, [], {order: [] for order in ORDERS})


def _candidate_keeper(config: Config, runner: Runner) -> CandidateRecorder:
    dataset = config.test_dataloader.dataset
    ground_truth = load_ground_truth(f"{dataset.data_root}{dataset.ann_file}")
    return CandidateRecorder(ground_truth, runner.test_dataloader.dataset.cat_ids)


def build_test_runner(config: Config, weights: Path, scratch: Path, log: Callable[[str], None]) -> Runner:
    """An mmengine Runner whose ``test()`` writes the detections on the test images without measuring them.

    Args:
        config: Resolved config of the run.
        weights: State dict of the model.
        scratch: Folder for the detections, named as in a `corrloss.run.RunFolder`, and mmengine's log.
        log: Called with lines about the progress.

    Raises:
        WeightsError: The weights do not load or do not fit the config's model.
    """
    torch.set_num_threads(config.bench.threads)
    dataset = config.test_dataloader.dataset
    runner = Runner(
        model=config.model,
        work_dir=str(scratch),
        test_dataloader=config.test_dataloader,
        test_cfg=dict(),
        test_evaluator=dict(
            type="CocoMetric",
            ann_file=f"{dataset.data_root}{dataset.ann_file}",
            metric=list(kinds_of(config)),
            format_only=True,
            outfile_prefix=f"{scratch}/detections",
        ),
        custom_hooks=[PredictionProgressHook(config.bench.run, log)],
        randomness=config.randomness,
        default_scope=config.default_scope,
        log_level="WARNING",
        experiment_name=config.bench.run.replace("/", "-"),
    )
    load_weights(runner.model, weights)
    return runner
