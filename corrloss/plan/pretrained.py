"""ImageNet weights that backbones start from: their addresses, and the local files that replace these.

mmengine downloads ``torchvision://resnet50`` when a training starts, which needs torchvision and a network on
every compute node. A resolved config names a local file instead, which is downloaded before the training.
"""

from __future__ import annotations

import functools
import json
from importlib.resources import files
from pathlib import Path, PurePosixPath

from corrloss.plan.config_nodes import nodes
from corrloss.plan.schema import ExperimentError

FOLDER = "weights"  # below the data root
# Names and addresses are mmengine's own.
HUBS = {
    "torchvision://": "torchvision_0.12.json",
    "open-mmlab://": "openmmlab.json",
    "openmmlab://": "openmmlab.json",
}


def use_local_weights(config: dict, data_root: Path) -> dict[str, str]:
    """Replace published weights by local files in every ``init_cfg`` of a config.

    Args:
        config: A resolved config, changed in place.
        data_root: Folder of the data sets, with the weights in ``weights/``.

    Returns:
        Address of each file, by its name.

    Raises:
        ExperimentError: mmengine knows no weights of that name.
    """
    addresses = {}
    for node in nodes(config):
        if node.get("type") != "Pretrained" or not isinstance(node.get("checkpoint"), str):
            continue
        address = address_of(node["checkpoint"])
        if address is not None:
            name = PurePosixPath(address).name
            addresses[name] = address
            node["checkpoint"] = f"{data_root / FOLDER / name}"
    return addresses


def address_of(checkpoint: str) -> str | None:
    """Address of published weights; None for a file.

    Raises:
        ExperimentError: mmengine knows no weights of that name.

    Examples:
        >>> address_of("torchvision://resnet50")
        'https://download.pytorch.org/models/resnet50-0676ba61.pth'
        >>> address_of("weights/mine.pth")
    """
    if checkpoint.startswith(("https://", "http://")):
        return checkpoint
    for scheme, file in HUBS.items():
        if checkpoint.startswith(scheme):
            known, name = _hub(file), checkpoint.removeprefix(scheme)
            if name not in known:
                raise ExperimentError(f"{checkpoint!r}: unknown weights; expected one of {', '.join(known)}")
            return known[name]
    return None


@functools.cache
def _hub(file: str) -> dict[str, str]:
    return json.loads((files("mmengine") / "hub" / file).read_text(encoding="utf-8"))
