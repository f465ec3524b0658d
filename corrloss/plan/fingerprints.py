"""What a data set is, in a small file whose time says when that last changed.

Trainings and predictions depend on these files, not on the data: to copy, touch or mount a data set anew
makes nothing stale, to change what is in its annotations does.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from corrloss.files import atomic_write
from corrloss.plan.code import PACKAGE, digest_of

UNKNOWN = "not there yet"


def update_fingerprints(settings: dict, data_root: Path, folder: Path, name: str, cache: Path) -> None:
    """Write ``<name>.train.identity`` and ``<name>.test.identity``, each only if it changed.

    A file that is new, or that said `UNKNOWN`, gets a time before all results: to learn what a data set
    is, by a download say, is no change of it.

    Args:
        settings: The data set's file in ``experiments/datasets``.
        data_root: Folder that holds the data sets.
        folder: Where the files go.
        name: Name of the data set.
        cache: Folder for digests of large files, kept by size and time.
    """
    for part in ("train", "test"):
        path = folder / f"{name}.{part}.identity"
        before = path.read_text(encoding="utf-8").strip() if path.exists() else UNKNOWN
        now = _identity(settings, part, data_root, cache)
        if before == now != UNKNOWN or (now == UNKNOWN and path.exists()):
            continue
        with atomic_write(path) as temporary:
            temporary.write_text(f"{now}\n", encoding="utf-8")
        if before == UNKNOWN:
            os.utime(path, (0, 0))


def _identity(settings: dict, part: str, data_root: Path, cache: Path) -> str:
    """What decides a data set that is made: its arguments and its generator; else its annotations."""
    if "make" in settings:
        how = json.dumps(settings["make"], sort_keys=True) + digest_of(_makers(settings))
        return hashlib.sha256(how.encode()).hexdigest()
    path = data_root / settings["folder"] / settings[part]["ann_file"]
    return _sha256(path, cache) if path.is_file() else UNKNOWN


def _makers(settings: dict) -> tuple[Path, ...]:
    """Modules that make a data set, and the one that converts it where it is made in another layout."""
    names = [settings["make"]["type"], *(["cityscapes"] if "convert" in settings else [])]
    return tuple(PACKAGE / "data" / f"{name}.py" for name in names)


def _sha256(path: Path, cache: Path) -> str:
    stat = path.stat()
    key = hashlib.sha256(f"{path.resolve()} {stat.st_size} {stat.st_mtime_ns}".encode()).hexdigest()[:24]
    kept = cache / f"sha256-{key}.txt"
    if kept.is_file():
        return kept.read_text(encoding="utf-8")
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    with atomic_write(kept) as temporary:
        temporary.write_text(digest, encoding="utf-8")
    return digest
