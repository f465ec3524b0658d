"""Settings of a user: ``config/config.yaml``, and ``key=value`` as ``snakemake --config`` takes it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path

from corrloss.errors import CorrLossError
from corrloss.plan.batch_plan import BatchPlan
from corrloss.plan.experiments import Experiments
from corrloss.plan.schema import ExperimentError, check, shortened
from corrloss.plan.yaml_files import TextLoader, load_yaml

FILE = Path("config/config.yaml")
SCHEMA = Path("workflows/schemas/config.yaml")
COMMAND_LINE = "command line"


class SettingsError(CorrLossError):
    """A setting is unknown or has a wrong value; the message names it."""


def with_scale_of(targets: Iterable[str], pairs: Iterable[str], scales: Iterable[str]) -> list[str]:
    """Settings of the command line, with ``scale=NAME`` where a target is named as a scale.

    Args:
        targets: Targets of a call of Snakemake.
        pairs: What ``--config`` was given.
        scales: Names of all scales.

    Raises:
        SettingsError: That is another scale than the one in ``pairs``, or two targets are scales.
    """
    pairs, named = list(pairs), {f"scale={name}" for name in scales if name in targets}
    chosen = named | {pair for pair in pairs if pair.startswith("scale=")}
    if named and len(chosen) > 1:
        raise SettingsError(
            f"expected one scale, got {', '.join(sorted(chosen))}: a target with the name of a scale sets "
            "the scale; name one"
        )
    return [*pairs, *sorted(named - set(pairs))]


@dataclass(frozen=True)
class Settings:
    """All settings; ``config/config.yaml`` describes each of them.

    Attributes:
        root: The project's root: the folder of ``config/``, ``experiments/`` and ``workflows/``.
    """

    root: Path
    scale: str
    data_root: Path
    results: Path
    ap: str
    processes: int | None
    images_per_process: int | str | None
    accumulate: int | str | None
    precision: str | None
    rescale_lr: bool
    on_cpu: bool
    tensorboard: bool
    rehearsal_updates: int
    gpus: int | None
    gpu_hour_price: float | None

    @classmethod
    def load(cls, root: Path = Path(), pairs: Iterable[str] = (), files: Iterable[Path] = ()) -> Settings:
        """Read ``config/config.yaml``, then further files, then ``key=value`` pairs; the last value counts.

        Every value is read as text and then as its schema says: ``data_root=2024`` is a folder.

        Raises:
            SettingsError: A key is unknown, or a value is wrong; all wrong ones are listed.
            ExperimentError: A file is not readable as YAML.
        """
        sources = [(str(path), _mapping(path)) for path in (root / FILE, *files)]
        sources.append((COMMAND_LINE, dict(map(_pair, pairs))))
        schema = load_yaml(root / SCHEMA)
        schema["properties"]["scale"]["enum"] = Experiments(root).scales
        values: dict[str, object] = {}
        for where, texts in sources:
            read = {key: _value(text, schema["properties"].get(key, {})) for key, text in texts.items()}
            check(read, schema, where, SettingsError)
            values |= read
        if missing := [field.name for field in fields(cls) if field.name not in (*values, "root")]:
            raise SettingsError(
                f"{root / FILE}: expected a value for {', '.join(missing)}; add it to the file"
            )
        folders = {key: Path(os.path.expanduser(values[key])) for key in ("data_root", "results")}
        return cls(root=root, **values | folders)

    @property
    def batch(self) -> BatchPlan:
        """How the batch of a run is spread over processes."""
        return BatchPlan(**{field.name: getattr(self, field.name) for field in fields(BatchPlan)})

    @property
    def experiments(self) -> Experiments:
        """The files of ``experiments/``."""
        return Experiments(self.root)

    @property
    def cache(self) -> Path:
        """Folder of what is slow to compute and the same for all scales."""
        return self.results / ".cache"

    @property
    def out(self) -> Path:
        """Folder of the results of the scale."""
        return self.results / self.scale

    @property
    def runs_csv(self) -> Path:
        """Table of all finished runs of the scale."""
        return self.out / "runs.csv"

    def dataset(self, name: str) -> dict:
        """The file of a data set in ``experiments/datasets``.

        Raises:
            ExperimentError: The file does not exist or is broken.
        """
        from corrloss.plan.detectors import read_settings  # mmengine's Config takes a second to import

        return read_settings(self.experiments, "dataset", name, self.cache)

    def folder_of(self, dataset: str) -> Path:
        """Folder of a data set."""
        return self.data_root / self.dataset(dataset)["folder"]

    def section(self, name: str, key: str) -> dict:
        """A section of a data set's file that not every data set has.

        Raises:
            ExperimentError: The file does not exist, is broken, or lacks the section.
        """
        if key not in (data := self.dataset(name)):
            path = self.experiments.folder / "datasets" / f"{name}.py"
            raise ExperimentError(f"{path}: expected `{key}`, found none; name a data set that has it")
        return data[key]

    def table(self, name: str) -> Path:
        """A table of the scale, as CSV."""
        return self.out / "tables" / f"{name}.csv"

    @property
    def rehearsal(self) -> Path:
        """Table of the rehearsals of the scale, as CSV."""
        return self.out / "rehearsal.csv"

    def made_of(self, table: str) -> Path:
        """Identity of a table, JSON."""
        return self.table(table).with_suffix(".json")

    def checked(self, dataset: str) -> Path:
        """Report of the check of a data set."""
        return self.out / "data" / f"{dataset}.json"

    def arguments(self) -> list[str]:
        """What a command needs to load the same settings: those that differ from ``config/config.yaml``."""
        default = Settings.load(self.root)
        changed = {
            field.name: getattr(self, field.name)
            for field in fields(self)
            if getattr(self, field.name) != getattr(default, field.name)
        }
        root = [] if self.root == Path() else [f"--root={self.root}"]
        return [*root, *(f"{key}={_text(value)}" for key, value in changed.items())]


def _mapping(path: Path) -> dict[str, str]:
    content = load_yaml(path, TextLoader) or {}
    if not isinstance(content, dict):
        raise SettingsError(f"{path}: expected a mapping `key: value`, got {shortened(content)}")
    return content


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals:
        raise SettingsError(f"{COMMAND_LINE}: expected key=value, got {text!r}; for example scale=mini")
    return key, value


def _value(text: object, schema: dict) -> object:
    """A value of the schema's type if the text is one, else the text, which the schema then refuses."""
    kinds = schema.get("type", "string")
    if "null" in kinds and text in ("", "null", "~"):
        return None
    if "integer" in kinds and re.fullmatch(r"-?[0-9]{1,18}", str(text)):
        return int(text)
    if "number" in kinds and re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", str(text)):
        return float(text)
    if "boolean" in kinds and str(text).lower() in ("true", "false"):
        return str(text).lower() == "true"
    return text


def _text(value: object) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
