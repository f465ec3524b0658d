"""Prediction of one run: from its weights to detections in COCO's result format."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import mmdet.datasets
import mmdet.evaluation
import mmdet.models  # noqa: F401 -- registers mmdet's modules
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner

import corrloss.heads  # noqa: F401 -- registers the heads with the loss
from corrloss.coco.reading import load_ground_truth
from corrloss.engine.candidates import BOUNDS, CandidateKeeper, CandidatesUnavailable, write_candidates
from corrloss.engine.environment import environment, peak_memory_mb
from corrloss.errors import CorrLossError
from corrloss.files import atomic_write, write_json
from corrloss.plan.config_files import load
from corrloss.run import RunFolder


class WeightsError(CorrLossError):
    """A weights file is damaged or belongs to another detector; the message names it."""


class PredictionProgressHook(Hook):
    """Says how many batches are predicted, every tenth of the way."""

    def __init__(self, run: str, log: Callable[[str], None]) -> None:
        self.run = run
        self.log = log

    def after_test_iter(self, runner: Runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        """Say a line each time another tenth is done."""
        total = len(runner.test_dataloader)
        done = batch_idx + 1
        if done * 10 // total > batch_idx * 10 // total:
            self.log(f"{self.run}  predicted {done / total:.0%} of {total} batches")


def predict(
    config_path: Path,
    weights: Path,
    training: Path,
    detections: Path,
    report: Path,
    log: Callable[[str], None],
    candidates: Path | None = None,
) -> None:
    """Write the detections of a trained run on its test images; none of a run whose training failed.

    Args:
        config_path: The run's resolved config.
        weights: State dict that :func:`corrloss.engine.train.train` kept.
        training: The report that it wrote.
        detections: Where the boxes go: a list of ``image_id, category_id, bbox, score`` with boxes
            ``x, y, width, height`` in pixels of the original image. Masks, where the detector has
            them, go beside it with ``bbox`` in the name turned into ``segm``.
        report: Where seconds, memory and environment are written, as JSON.
        log: Takes lines about the progress.
        candidates: Folder for what :meth:`corrloss.engine.candidates.CandidateKeeper.write` keeps of the
            detector's post-processing; None keeps nothing. Of a detector that cannot be watched nothing
            is written, and ``log`` is told why.

    Raises:
        ExperimentError: The config is damaged.
        StageReportError: The report of the training is.
        WeightsError: The weights do not load or do not fit the config's model.
    """
    config = load(config_path)
    torch.set_num_threads(config.bench.threads)
    kinds = ["bbox", "segm"] if config.bench.masks else ["bbox"]
    with RunFolder(report.parent).exclusive(log):
        if "failed" in RunFolder(training.parent).read_training():
            _write_nothing(detections, kinds, candidates)
            write_json(report, _report(0.0))
        else:
            seconds = _predict(config, weights, kinds, detections, log, candidates)
            write_json(report, _report(seconds))


def _predict(
    config: Config,
    weights: Path,
    kinds: list[str],
    detections: Path,
    log: Callable[[str], None],
    candidates: Path | None,
) -> float:
    """Write what the model detects; returns the seconds that took."""
    for left in detections.parent.glob(".predict-*"):  # of a process that was killed; this one has the lock
        shutil.rmtree(left)
    with tempfile.TemporaryDirectory(dir=detections.parent, prefix=".predict-") as scratch:
        runner = _build_runner(config, Path(scratch), kinds, log)
        load_weights(runner.model, weights)
        keeper = _build_keeper(config, runner) if candidates else None
        start = time.monotonic()
        with keeper.watching(runner.model) if keeper else nullcontext():
            runner.test()
        seconds = time.monotonic() - start
        for kind in kinds:
            with atomic_write(_place(detections, kind)) as temporary:
                (Path(scratch) / f"detections.{kind}.json").replace(temporary)
    if keeper:
        _write_candidates(keeper, candidates, config.bench.run, log)
    return seconds


def _place(detections: Path, kind: str) -> Path:
    return detections.with_name(detections.name.replace("bbox", kind))


def _report(seconds: float) -> dict:
    return {"predict_seconds": seconds, "peak_memory_mb": peak_memory_mb(), "environment": environment()}


def _write_nothing(detections: Path, kinds: list[str], candidates: Path | None) -> None:
    """Write the files of a run without detections: what follows in the pipeline finds them."""
    for kind in kinds:
        with atomic_write(_place(detections, kind)) as temporary:
            temporary.write_text("[]\n", encoding="utf-8")
    if candidates:
        write_candidates(candidates, [], {order: [] for order in BOUNDS})


def load_weights(model: torch.nn.Module, path: Path) -> None:
    """Load a state dict, tensors only, every key accounted for.

    Raises:
        WeightsError: The file is damaged, holds more than tensors, or has other keys or shapes.
    """
    try:
        model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:  # torch raises many kinds for a damaged file
        raise WeightsError(
            f"{path}: not the weights of this run's model; delete the file and train again ({error})"
        ) from error


def _build_keeper(config: Config, runner: Runner) -> CandidateKeeper:
    dataset = config.test_dataloader.dataset
    ground_truth = load_ground_truth(f"{dataset.data_root}{dataset.ann_file}")
    return CandidateKeeper(ground_truth, runner.test_dataloader.dataset.cat_ids)


def _write_candidates(keeper: CandidateKeeper, folder: Path, run: str, log: Callable[[str], None]) -> None:
    try:
        keeper.write(folder)
    except CandidatesUnavailable as reason:
        log(f"{run}  positives before post-processing are not available: {reason}")


def _build_runner(config: Config, scratch: Path, kinds: list[str], log: Callable[[str], None]) -> Runner:
    dataset = config.test_dataloader.dataset
    return Runner(
        model=config.model,
        work_dir=str(scratch),
        test_dataloader=config.test_dataloader,
        test_cfg=dict(),
        test_evaluator=dict(
            type="CocoMetric",
            ann_file=f"{dataset.data_root}{dataset.ann_file}",
            metric=kinds,
            format_only=True,
            outfile_prefix=f"{scratch}/detections",
        ),
        custom_hooks=[PredictionProgressHook(config.bench.run, log)],
        randomness=config.randomness,
        default_scope=config.default_scope,
        log_level="WARNING",
        experiment_name=config.bench.run.replace("/", "-"),
    )
