"""Reading weights: tensors only, and only those that are expected."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from mmengine.config import Config

from corrloss.errors import CorrLossError
from corrloss.files import sha256
from corrloss.plan.config_nodes import nodes

# A file of weights must not run code. mmengine calls torch.load without arguments: the first variable would
# let it. OneDL's mmengine loads what was refused again, without protection: the second variable forbids that.
os.environ.pop("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", None)
os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"


class WeightsError(CorrLossError):
    """A weights file is damaged, or not the expected one; the message names it."""


def load_weights(model: torch.nn.Module, path: Path) -> None:
    """Load a state dict: tensors only, exactly the model's keys and shapes.

    Raises:
        WeightsError: The file is damaged, holds more than tensors, or has other keys or shapes.
    """
    state = _tensors(path, "not the weights of this run's model; delete the file and train again")
    try:
        model.load_state_dict(state)
    except Exception as error:  # torch raises many kinds if it is not a state dict
        raise WeightsError(
            f"{path}: not the weights of this run's model; delete the file and train again ({error})"
        ) from error


def check_starting_weights(config: Config) -> None:
    """Check the files of weights that a training starts from, before mmengine loads them.

    Raises:
        WeightsError: A file is missing, is not the one that was published or planned with, or holds more
            than tensors.
    """
    for node in nodes(config.model.to_dict()):
        if node.get("type") == "Pretrained":
            path = Path(node["checkpoint"])
            expected = config.bench.starting_weights.get(path.name) or ""
            found = sha256(path) if path.is_file() else "no file"
            if not found.startswith(expected) or found == "no file":
                raise WeightsError(
                    f"{path}: expected a file with SHA-256 {expected or 'of any value'}, found {found}; "
                    "delete it if it was downloaded, and run snakemake again"
                )
            _tensors(path, "expected a file that holds tensors alone; get the weights from their publisher")


def _tensors(path: Path, wrong: str) -> object:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a damaged file
        # Without torch's own text, which advises to load the file without protection.
        raise WeightsError(f"{path}: {wrong} ({type(error).__name__})") from error
