"""A published detector as a run: its weights take the place of those that a training leaves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import mmdet.models  # noqa: F401 -- registers mmdet's modules
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import DefaultScope

from corrloss.engine.environment import environment, peak_memory_mb
from corrloss.engine.weights import WeightsError, check_starting_weights
from corrloss.files import atomic_write
from corrloss.plan.config_files import load
from corrloss.run import RunFolder

SHOWN_KEYS = 5


def use_published(folder: RunFolder, log: Callable[[str], None]) -> None:
    """Write the weights of a run that is a published detector, and the report of a training of 0 iterations.

    Args:
        folder: The run's folder, which holds its config.
        log: Called with one line.

    Raises:
        ExperimentError: The config is missing or damaged.
        WeightsError: The file of weights is missing, has another checksum, holds more than tensors and plain
            values, or is of another model.
    """
    config = load(folder.config)
    with folder.exclusive(log):
        folder.start("training")
        state = _published_state(config)
        with atomic_write(folder.weights) as temporary:
            torch.save(state, temporary)
        report = {"peak_memory_mb": peak_memory_mb(), "environment": environment(), "curve": []}
        counts = {"train_seconds": 0.0, "iterations": 0, "resumes": 0}
        folder.write_training({"identity": config.bench.identity.training, **counts, **report})
        log(f"{config.bench.run}  published weights {Path(config.bench.published.checkpoint).name}")


def _published_state(config: Config) -> dict[str, torch.Tensor]:
    """State dict of the config's model with the published weights, under the names of the installed mmdet.

    The modules' own hooks rename keys of older versions as they load.
    """
    published = config.bench.published
    check_starting_weights(Config({"model": published.to_dict(), "bench": config.bench.to_dict()}))
    content = torch.load(published.checkpoint, map_location="cpu", weights_only=True)
    state = content.get("state_dict", content) if isinstance(content, dict) else content
    with DefaultScope.overwrite_default_scope(config.default_scope):
        model = MODELS.build(config.model)
    wrong = f"{published.checkpoint}: expected the weights of {published.model}"
    try:
        keys = model.load_state_dict(state, strict=False)
    except Exception as error:  # torch raises many kinds if it is not a state dict, and for other shapes
        text = " ".join(str(error).split())[:500]
        raise WeightsError(
            f"{wrong}, found others ({text}); take the file that is published for it"
        ) from error
    if keys.missing_keys or keys.unexpected_keys:
        raise WeightsError(
            f"{wrong}, found others: missing {_some(keys.missing_keys)}; unexpected "
            f"{_some(keys.unexpected_keys)}; take the file that is published for it"
        )
    return model.state_dict()


def _some(keys: list[str]) -> str:
    more = f" and {len(keys) - SHOWN_KEYS} more" if len(keys) > SHOWN_KEYS else ""
    return (", ".join(keys[:SHOWN_KEYS]) or "none") + more
