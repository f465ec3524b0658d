"""Writing a file so that nobody ever sees half of it, and names of files that are not ours."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from corrloss.errors import CorrLossError


def escapes_root(name: str) -> bool:
    """Whether a file name from a data set or an archive may lead out of the folder that it is of.

    >>> [escapes_root(name) for name in ("a/b.png", "./b.png", "a/c:b.png")]
    [False, False, False]
    >>> [escapes_root(name) for name in ("../b.png", "/b.png", "a\\\\..\\\\b.png", "C:b.png", "./C:b.png")]
    [True, True, True, True, True]
    """
    name = name.replace("\\", "/")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    is_absolute = name.startswith("/") or ":" in "".join(parts[:1])
    return is_absolute or ".." in parts or "\0" in name


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Give a path beside ``path`` to write to, and rename it into place if the block succeeds.

    Args:
        path: Where the finished file shall be.

    Yields:
        Where to write it; removed again if the block fails.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


class StageReportError(CorrLossError):
    """The report that a stage wrote of its work is missing or damaged; the message names it."""


def read_report(path: Path, keys: Iterable[str] = ()) -> dict:
    """Read what a stage wrote with :func:`write_json`.

    Args:
        path: The file.
        keys: What must be in it.

    Raises:
        StageReportError: The file is missing, cut short, or lacks a key.
    """
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        if missing := [key for key in keys if key not in report]:
            raise ValueError(f"no {', '.join(missing)}")
        if not isinstance(report, dict):
            raise ValueError("no object")
    except (OSError, ValueError, TypeError) as error:
        raise StageReportError(
            f"{path}: not readable as a report ({error}); delete it, run snakemake again"
        ) from error
    return report


def write_json(path: Path, content: object) -> None:
    """Write JSON, indented, whole or not at all."""
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")
