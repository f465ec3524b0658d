"""The folder of a training's checkpoints: which are kept, which is intact, how often the training started."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from mmengine.config import Config

from corrloss.files import write_json
from corrloss.run import RunFolder

#: Checkpoints that are kept: the newest, and the one before it in case the newest is damaged.
KEPT = 2


@dataclass(frozen=True)
class Checkpoints:
    """Checkpoints of one training, and what must outlive a killed process.

    Attributes:
        folder: From `corrloss.run.RunFolder.checkpoints`; its name is the training's identity.
    """

    folder: Path

    @classmethod
    def of(cls, folder: RunFolder, config: Config) -> Checkpoints:
        """Those of a run's planned training; another identity has another folder, and starts without any."""
        return cls(folder.checkpoints(config.bench.identity.training))

    @property
    def tensorboard(self) -> Path:
        """Folder of TensorBoard's event files, in the run's folder: it stays when checkpoints are removed."""
        return self.folder.parents[1] / "tensorboard"

    def path(self, iteration: int) -> Path:
        """File of the checkpoint after so many iterations."""
        return self.folder / f"iter_{iteration:09d}.pth"

    def newest_first(self) -> list[Path]:
        """All checkpoints, damaged ones too."""
        return sorted(self.folder.glob("iter_" + "[0-9]" * 9 + ".pth"), reverse=True)

    def newest_intact(self, log: Callable[[str], None]) -> Path | None:
        """The newest checkpoint that can be read; None if there is none.

        A damaged one (truncated, wrong checksum) or one of another training is renamed, and ``log`` is
        called with one line.
        """
        for path in self.newest_first():
            reason = _damage(path, self.folder.name)
            if reason is None:
                return path
            damaged = path.with_suffix(".damaged")
            path.replace(damaged)
            log(f"{path}: unusable checkpoint ({reason}); renamed to {damaged.name}, using the one before it")
        return None

    def remove_all_but(self, kept: int) -> None:
        """Remove older checkpoints."""
        for path in self.newest_first()[kept:]:
            path.unlink()

    def note_start(self) -> None:
        """Count one more start of the training."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._starts.open("a") as file:
            file.write("started\n")

    def resumes(self) -> int:
        """How often the training was started again."""
        return len(self._starts.read_text().splitlines()) - 1

    def write_divergence(self, report: dict) -> None:
        """Keep the report of a training process that diverged, for the process that started it."""
        write_json(self._divergence, report)

    def take_divergence(self) -> dict | None:
        """Read and remove what `write_divergence` wrote; None if no process diverged."""
        if not self._divergence.exists():
            return None
        report = json.loads(self._divergence.read_text(encoding="utf-8"))
        self._divergence.unlink()
        return report

    @property
    def _starts(self) -> Path:
        return self.folder / "starts.txt"

    @property
    def _divergence(self) -> Path:
        return self.folder / "diverged.json"


def _damage(path: Path, identity: str) -> str | None:
    """Why a checkpoint cannot be used; None if it can."""
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
        if broken is not None:
            return f"checksum of {broken}"
        found = torch.load(path, map_location="cpu", weights_only=True, mmap=True)["bench"]["identity"]
    except Exception as error:  # torch and zipfile raise many kinds for a damaged file
        return type(error).__name__  # torch's own text advises to load it without protection
    return None if found == identity else f"expected identity {identity}, found {found}"
