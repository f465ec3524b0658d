"""Atomic writes of files and folders, and a check of file names from outside."""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd


def escapes_root(name: str) -> bool:
    """Whether a file name from a data set or an archive may lead out of the folder that it is of.

    Examples:
        >>> [escapes_root(name) for name in ("a/b.png", "./b.png", "a/c:b.png", "12:00.png")]
        [False, False, False, False]
        >>> names = ("../b.png", "/b.png", "a\\\\..\\\\b.png", "C:b.png", "./C:b.png")
        >>> [escapes_root(name) for name in names]
        [True, True, True, True, True]
    """
    name = name.replace("\\", "/")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    is_absolute = name.startswith("/") or re.match("[A-Za-z]:", "".join(parts[:1])) is not None
    return is_absolute or ".." in parts or "\0" in name


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Write a file atomically: to a temporary file in the same folder, renamed to ``path`` at the end.

    The temporary name is unique across hosts and containers that share the folder. If the block raises, the
    temporary file is removed and ``path`` is left unchanged. A killed process leaves its temporary file
    behind; those in a run's folder are removed by `corrloss.run.RunFolder.exclusive`.

    Args:
        path: The file to create or replace; missing folders above it are created.

    Yields:
        The temporary file's path, to write to.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(root: Path, is_ours: Callable[[PurePosixPath], bool]) -> Iterator[Path]:
    """Give a new folder beside `root` to fill, and rename it to `root` if the block succeeds.

    What was in `root` is removed; if it holds a file that is not ours, nothing is changed.

    Args:
        root: the folder to make; missing parents are made.
        is_ours: whether a path relative to `root` is one that the caller writes.

    Yields:
        An empty folder; removed again if the block fails.

    Raises:
        FileExistsError: `root` is a file, or holds a file that is not ours.
    """
    if root.exists() and not root.is_dir():
        raise FileExistsError(f"{root} is a file; choose a folder")
    for path in root.rglob("*"):
        if not path.is_dir() and not is_ours(PurePosixPath(path.relative_to(root).as_posix())):
            raise FileExistsError(
                f"{root} holds {path.relative_to(root)}, which does not belong to this data set:"
                " move it away or choose another folder"
            )
    root.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{root.name}.", dir=root.parent) as temporary:
        new = Path(temporary) / "new"
        new.mkdir()
        yield new
        if root.exists():
            os.rename(root, Path(temporary) / "old")  # goes with the temporary folder
        os.rename(new, root)


def write_text(path: Path, text: str) -> None:
    """Write text in UTF-8, atomically."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_csv(path: Path, frame: pd.DataFrame) -> None:
    """Write a table as CSV with six significant digits, atomically.

    Text is one line; where a spreadsheet would run it as a formula, an apostrophe precedes it.
    """
    texts = {name: frame[name].map(_harmless) for name in frame.select_dtypes(["object", "string"])}
    frame = frame.assign(**texts).rename(columns=_harmless)
    write_text(path, frame.to_csv(index=False, float_format="%.6g"))


def _harmless(value: object) -> object:
    if not isinstance(value, str):
        return value
    text = " ".join(value.split())
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text


def write_json(path: Path, content: object) -> None:
    """Write JSON, indented and with sorted keys, atomically."""
    write_text(path, json.dumps(content, indent=1, sort_keys=True) + "\n")


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Read all arrays of an ``.npz`` file; pickled objects are refused.

    Raises:
        ValueError: It is missing, damaged or another kind of file.
    """
    import numpy as np

    try:
        archive = np.load(path, allow_pickle=False)
        if isinstance(archive, np.ndarray):
            raise ValueError("it holds a single array")
        with archive:
            return {name: archive[name] for name in archive.files}
    except Exception as problem:  # numpy, zipfile and zlib raise many kinds for a damaged file
        reason = str(problem).partition(" If you trust")[0]  # numpy advises to load pickles
        raise ValueError(f"not readable as .npz: {reason}") from problem


def sha256(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
