"""A rehearsal of a run: a few updates by the real training on its data, a resume, one image predicted."""

from __future__ import annotations

import copy
import re
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable

from corrloss.engine.predict import predict
from corrloss.errors import CorrLossError
from corrloss.files import write_json, write_text
from corrloss.plan.config_files import dump
from corrloss.run import RunFolder

EPOCHS = 2  # the second resumes from the checkpoint of the first
WARM_UP = 2  # updates that are not timed
#: The line of a log that says why a process failed; torch's own launcher adds errors of its own.
CAUSE = re.compile(
    r"^(?:\[rank\d+\]: ?)?(?:error: .*|(?!.*ChildFailedError)[\w.]+(?:Error|Exception): .*)$", re.M
)


class RehearsalFailed(CorrLossError):
    """A rehearsal did not reach its end; the message is the cause."""


def rehearse(folder: RunFolder, config: dict, updates: int, log: Callable[[str], None]) -> None:
    """Rehearse a run in a folder of its own; write what was measured, or why it failed.

    The report has ``identity``, that of the training, and either ``failed``, the cause, or
    ``seconds_per_update``, ``loading_share``, ``peak_memory_mb``, ``predict_seconds``, ``losses`` (the last
    value of each term) and ``environment``.

    Args:
        folder: Folder of the rehearsal; what an earlier one left in it is removed.
        config: Resolved config of the run.
        updates: Updates in all, at least 2.
        log: Called with lines about the progress.
    """
    shutil.rmtree(folder.path, ignore_errors=True)
    report = {"identity": config["bench"]["identity"]["training"], "updates": updates}
    try:
        for epochs in range(1, EPOCHS + 1):
            write_text(folder.config, dump(shortened(config, updates, epochs)))
            _train(folder)
        report |= _measured(folder, "loss_corr" in str(config["model"]))
        predict(folder, log)
        report["predict_seconds"] = folder.read_prediction()["predict_seconds"]
    except Exception as error:  # whatever it is, it is this run's row of the table
        report["failed"] = (
            str(error) if isinstance(error, CorrLossError) else f"{type(error).__name__}: {error}"
        )
        log(f"{config['bench']['run']}  rehearsal failed: {report['failed']}")
    write_json(folder.rehearsal, report)
    _remove_all_but(folder, (folder.rehearsal, folder.config, folder.rehearsal_log))


def shortened(config: dict, updates: int, epochs: int) -> dict:
    """The config of a rehearsal: as many images as its updates take, in two epochs, and one test image.

    Warm-up and schedule are those of the whole training, whose first updates these are.
    """
    changed = copy.deepcopy(config)
    bench, loader = changed["bench"], changed["train_dataloader"]
    bench["rehearsal"] = True
    batch = bench["processes"] * loader["batch_size"] * bench.get("accumulate", 1)
    _innermost(loader["dataset"])["indices"] = -(-updates // EPOCHS) * batch
    _innermost(changed["test_dataloader"]["dataset"])["indices"] = 1
    changed["train_cfg"]["max_epochs"] = epochs
    return changed


def _innermost(dataset: dict) -> dict:
    while "dataset" in dataset:  # wrappers such as RepeatDataset
        dataset = dataset["dataset"]
    return dataset


def _train(folder: RunFolder) -> None:
    """Train in a process of its own: a crash, or too little memory, ends that one alone."""
    command = [sys.executable, "-m", "corrloss.cli", "train-process", str(folder.path)]
    with folder.rehearsal_log.open("w", encoding="utf-8") as file:
        code = subprocess.run(command, stderr=file, check=False).returncode
    if code == 0:
        return
    said = CAUSE.findall(folder.rehearsal_log.read_text(encoding="utf-8", errors="replace"))
    memory = [line for line in said if "out of memory" in line.lower()]
    ended = f"the training ended with exit status {code}, as if killed; was the machine's memory full?"
    raise RehearsalFailed((memory or said or [ended])[-1].removeprefix("error: "))


def _measured(folder: RunFolder, has_loss: bool) -> dict:
    training = folder.read_training()
    if "failed" in training:
        raise RehearsalFailed(training["failed"])
    if len(training["steps"]["seconds"]) == training["iterations"]:  # the second process did all of them
        raise RehearsalFailed("expected the second process to resume from the checkpoint of the first")
    losses = {name: value for name, value in training["curve"][-1].items() if name != "iteration"}
    if has_loss and not any("loss_corr" in name for name in losses):
        raise RehearsalFailed(f"expected a term loss_corr, found {', '.join(losses)}")
    steps = training["steps"]
    seconds, loading = (steps[name][WARM_UP:] or steps[name] for name in ("seconds", "loading"))
    return {
        "seconds_per_update": statistics.median(seconds),
        "loading_share": sum(loading) / sum(seconds),
        "peak_memory_mb": training["peak_memory_mb"],
        "losses": losses,
        "environment": training["environment"],
    }


def _remove_all_but(folder: RunFolder, kept: tuple) -> None:
    for path in folder.path.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path not in kept:
            path.unlink()
