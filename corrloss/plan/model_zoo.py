"""Published detectors: what mmdet's own metafiles say of a model — config, weights, box and mask AP.

The metafiles are in the installed package and are read as YAML; mmdet itself is not imported.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path, PurePosixPath

from corrloss.plan.pretrained import address_of, checksum_of
from corrloss.plan.schema import ExperimentError
from corrloss.plan.yaml_files import load_yaml

#: Names of metrics in metafiles, by those of the bench.
METRICS = {"AP": "box AP", "mask_AP": "mask AP"}
DATASET = "COCO"


@dataclass(frozen=True)
class PublishedModel:
    """A model with weights: of mmdet's model zoo, as its metafile describes it, or a user's own.

    Attributes:
        name: ``folder/model``, such as ``atss/atss_r50_fpn_1x_coco``; of a user's own model its config file.
        config: Its config file.
        weights: Address of its weights, whose name ends in the first digits of their SHA-256; or a file.
        ap: Published AP in points, by ``AP`` and ``mask_AP``; a user's own model need not have one.
    """

    name: str
    config: Path
    weights: str
    ap: dict[str, float]

    @property
    def file(self) -> str:
        """Name of the file of weights."""
        return PurePosixPath(self.weights).name

    @property
    def url(self) -> str | None:
        """Address of the weights; None for a file."""
        return address_of(self.weights)


def model_of(entry: str | dict, root: Path) -> PublishedModel:
    """The model that a scale's file has for a detector.

    Args:
        entry: ``folder/model`` of mmdet's model zoo, or ``config``, ``weights`` (an address, or a file) and
            ``ap`` of a user's own model.
        root: The project's root, which paths are relative to.

    Raises:
        ExperimentError: See `published_model`; or there is no such config, or the name of weights that are to
            be fetched has no checksum.
    """
    if isinstance(entry, str):
        return published_model(entry)
    config, weights = root / entry["config"], entry["weights"]
    if not config.is_file():
        raise ExperimentError(
            f"{config}: expected an mmdet config, found no file; see published in the scale"
        )
    if address_of(weights) is None:
        weights = str(root / weights)
    else:
        _refuse_without_checksum(weights, f"model {entry['config']}: at weights")
    return PublishedModel(entry["config"], config, weights, entry.get("ap", {}))


def _refuse_without_checksum(address: object, where: str) -> None:
    if not isinstance(address, str) or checksum_of(PurePosixPath(address).name) is None:
        raise ExperimentError(
            f"{where}: expected an address that ends in -<first digits of the SHA-256>.pth, found "
            f"{address!r}; take another model"
        )


def published_model(name: str, configs: Path | None = None) -> PublishedModel:
    """Read what a metafile says of one model.

    Args:
        name: ``folder/model``: the folder of the metafile below mmdet's configs, and the model's name in it.
        configs: Folder of mmdet's configs, if not that of the installed package.

    Raises:
        ExperimentError: There is no such metafile, model or config, or the metafile has no AP on COCO, no
            weights, or weights without a checksum in their name.
    """
    folder, _, model = name.partition("/")
    configs = configs or _installed()
    path = configs / folder / "metafile.yml"
    if not path.is_file():
        raise ExperimentError(f"{path}: expected the metafile of {name!r} (folder/model), found no file")
    content = load_yaml(path) or {}
    models = content.get("Models", []) if isinstance(content, dict) else content
    found = {one["Name"]: one for one in models if isinstance(one, dict) and "Name" in one}
    if model not in found:
        raise ExperimentError(f"{path}: expected a model {model!r}, found {', '.join(found) or 'none'}")
    return _checked(name, found[model], configs, f"{path}: model {model}")


def _checked(name: str, entry: dict, configs: Path, where: str) -> PublishedModel:
    url = entry.get("Weights")
    _refuse_without_checksum(url, f"{where}: at Weights")
    results = [one for one in entry.get("Results") or [] if one.get("Dataset") == DATASET]
    metrics = {key: value for one in results for key, value in (one.get("Metrics") or {}).items()}
    ap = {own: float(metrics[theirs]) for own, theirs in METRICS.items() if theirs in metrics}
    if not ap:
        raise ExperimentError(
            f"{where}: at Results: expected {' or '.join(METRICS.values())} on {DATASET}, found "
            f"{', '.join(metrics) or 'none'}; take another model"
        )
    config = configs.parent / str(entry.get("Config"))
    if not config.is_file():
        raise ExperimentError(f"{where}: at Config: expected a file of mmdet, found no {config}")
    return PublishedModel(name, config, url, ap)


@functools.cache
def _installed() -> Path:
    spec = find_spec("mmdet")  # finds the package without importing it
    if spec is None or spec.origin is None:
        raise ExperimentError("mmdet: expected an installed package with its metafiles, found none")
    return Path(spec.origin).parent / ".mim" / "configs"
