"""The folders of ``experiments/``: which files there are, and what the YAML files say."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

from corrloss.plan.yaml_files import existing, load_yaml, names, read_yaml


@dataclass(frozen=True)
class Experiments:
    """The folders of ``experiments/`` and of the schemas that its files keep to.

    Args:
        root: The project's root.
    """

    root: Path

    @property
    def folder(self) -> Path:
        """``experiments/``."""
        return self.root / "experiments"

    @property
    def reference(self) -> Path:
        """Table of the published figures."""
        return self.folder / "reference" / "paper.csv"

    @property
    def seconds(self) -> Path:
        """Table of the seconds of a training iteration."""
        return self.folder / "reference" / "seconds.csv"

    @property
    def detectors(self) -> list[str]:
        """Names of all detectors that a table may use."""
        return names(self.folder / "detectors", ".py")

    @property
    def datasets(self) -> list[str]:
        """Names of all data sets that a scale may use."""
        return names(self.folder / "datasets", ".py")

    @property
    def scales(self) -> list[str]:
        """Names of all scales."""
        return names(self.folder / "scales", ".yaml")

    @property
    def tables(self) -> list[str]:
        """Names of all tables."""
        return names(self.folder / "tables", ".yaml")

    @functools.cache  # noqa: B019 -- one instance lives as long as the process
    def read(self, kind: str, name: str) -> dict:
        """Content of ``experiments/<kind>s/<name>.yaml``, validated; ``kind`` is table or scale.

        A file may ``extend`` another of its kind and then says only what differs.

        Raises:
            ExperimentError: The file does not exist, or see `corrloss.plan.yaml_files.read_yaml`.
        """
        return read_yaml(existing(self.folder / f"{kind}s", name, ".yaml"), self.schema(kind))

    @functools.cache  # noqa: B019
    def schema(self, kind: str) -> dict:
        """JSON schema of a table, scale, detector or dataset; names of files must exist."""
        schema = load_yaml(self.root / "workflows" / "schemas" / f"{kind}.yaml")
        if kind == "table":
            schema["properties"]["rows"]["items"]["properties"]["detector"]["enum"] = self.detectors
            schema["properties"]["dataset"]["enum"] = self.datasets
            schema["$defs"]["seeds"]["propertyNames"] = {"enum": self.scales}
            schema["$defs"]["scales"]["items"]["enum"] = self.scales
        if kind == "scale":
            for dataset in schema["properties"]["datasets"]["properties"].values():
                dataset["enum"] = self.datasets
        return schema
