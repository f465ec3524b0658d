"""Loading the mmdet config files of ``experiments/``, quickly.

mmengine looks an ``mmdet::`` base up by reading a hundred metafiles, half a second a detector. What a
file loads to depends on the config files of ``experiments/`` and on the installed mmdet alone, so it is
kept on disk under a hash of both.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import warnings
from pathlib import Path

from mmengine.config import Config

from corrloss.files import atomic_write
from corrloss.plan.experiments import Experiments
from corrloss.plan.schema import ExperimentError, check
from corrloss.plan.yaml_files import existing
from corrloss.stack import version_of


def read_settings(experiments: Experiments, kind: str, name: str, cache: Path | None = None) -> dict:
    """Settings of ``experiments/<kind>s/<name>.py``, validated; ``kind`` is detector or dataset.

    Args:
        experiments: Where the files are.
        kind: ``"detector"`` or ``"dataset"``.
        name: Name of the file.
        cache: See `load_settings`.

    Raises:
        ExperimentError: The file does not exist, is not a config, or lacks what the bench needs.
    """
    path = existing(experiments.folder / f"{kind}s", name, ".py")
    settings = load_settings(path, cache)
    check(settings, experiments.schema(kind), path)
    return settings


@functools.cache
def load_settings(path: Path, cache: Path | None = None) -> dict:
    """All top-level settings of an mmdet config file, bases included, as a plain dict.

    Callers share the returned dict and must copy what they change.

    Args:
        path: The file, in ``experiments/detectors`` or ``experiments/datasets``.
        cache: Folder for what was loaded before; None loads afresh.

    Raises:
        ExperimentError: It is not a config, or it holds other than plain values.
    """
    if cache is None:
        return _load(path)
    kept = cache / f"{path.parent.name}-{path.stem}-{_fingerprint(path.parent.parent)}.txt"
    try:
        return ast.literal_eval(kept.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError):  # not kept yet, or cut short: load it again
        settings = _load(path)
    with atomic_write(kept) as temporary:
        temporary.write_text(repr(settings), encoding="utf-8")
    return settings


def _load(path: Path) -> dict:
    try:
        with warnings.catch_warnings(action="ignore"):  # mmengine reloads the deprecated pkg_resources
            settings = Config.fromfile(str(path), lazy_import=False).to_dict()
    except Exception as error:  # a config is Python: anything can go wrong in it
        reason = f"{type(error).__name__}: {error}"
        raise ExperimentError(f"{path}: not readable as an mmdet config: {reason}") from error
    for key, value in settings.items():
        if not _is_plain(value):
            raise ExperimentError(
                f"{path}: at {key}: must be plain: finite numbers, text, True, False, None, dict, list, tuple"
            )
    return settings


def _is_plain(value: object) -> bool:
    """Whether a value survives being written down, as a run's config is."""
    try:
        return ast.literal_eval(repr(value)) == value
    except (SyntaxError, ValueError):  # a function, a class, inf, nan ...
        return False


@functools.cache
def _fingerprint(experiments: Path) -> str:
    digest = hashlib.sha256(f"{version_of('mmdet')} {version_of('mmengine')}".encode())
    for path in sorted(experiments.glob("*/*.py")):  # all: a `_base_` may lie in another folder
        digest.update(f"{path.parent.name}/{path.name}".encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]
