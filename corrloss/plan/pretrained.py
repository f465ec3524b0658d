"""ImageNet weights that backbones start from: their addresses, and the local files that replace these.

mmengine downloads ``torchvision://resnet50`` when a training starts, which needs torchvision and a network on
every compute node. A resolved config names a local file instead, which is downloaded before the training.
"""

from __future__ import annotations

import functools
import json
import re
from importlib.resources import files
from pathlib import Path, PurePosixPath

from corrloss.files import sha256
from corrloss.plan.config_nodes import nodes
from corrloss.plan.schema import ExperimentError

FOLDER = "weights"  # below the data root
# torchvision's and OpenMMLab's convention, the same as in torch.hub: name-<first digits of the SHA-256>.pth
_CHECKSUM = re.compile(r"-([0-9a-f]{8,64})\.[a-z]+$")
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


def starting_weights(model: dict, addresses: dict[str, str]) -> dict[str, str | None]:
    """SHA-256, or its published first digits, of each file that a model's weights start from, by name.

    Args:
        model: The ``model`` of a config, after `use_local_weights`.
        addresses: What that returned. Other files are the user's own, and are read.
    """
    used = [node["checkpoint"] for node in nodes(model) if node.get("type") == "Pretrained"]
    paths = {Path(file).name: Path(file) for file in used if isinstance(file, str)}
    return {
        name: checksum_of(name) if name in addresses else sha256(path) if path.is_file() else "no file"
        for name, path in paths.items()
    }


def checksum_of(name: str) -> str | None:
    """The first digits of a weights file's SHA-256, at the end of its published name; None if absent.

    Example:
        >>> checksum_of("resnet50-0676ba61.pth")
        '0676ba61'
        >>> checksum_of("cspnext-s_imagenet_600e.pth")
    """
    found = _CHECKSUM.search(name)
    return found and found[1]


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
