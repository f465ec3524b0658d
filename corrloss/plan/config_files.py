"""A run's resolved config as a file."""

from __future__ import annotations

import ast
import pprint
from pathlib import Path

from mmengine.config import Config

from corrloss.plan.schema import ExperimentError


def dump(config: dict) -> str:
    """The config as a Python file; `load` and mmengine's ``Config.fromfile`` read it back unchanged."""
    settings = (
        f"{key} = {pprint.pformat(value, width=110, sort_dicts=False)}" for key, value in config.items()
    )
    return "\n".join(settings) + "\n"


def load(path: Path) -> Config:
    """Read what `dump` wrote of a run's config: plain values, of which nothing is run.

    Raises:
        ExperimentError: The file is missing, cut short, or holds more than plain values.
    """
    try:
        settings = dict(map(_setting, ast.parse(path.read_text(encoding="utf-8")).body))
        if missing := [key for key in ("model", "bench", "randomness") if key not in settings]:
            raise ValueError(f"no {', '.join(missing)}")
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ExperimentError(
            f"{path}: not readable as a run's config ({error}); delete it and run snakemake again"
        ) from error
    return Config(settings)


def _setting(statement: ast.stmt) -> tuple[str, object]:
    match statement:
        case ast.Assign(targets=[ast.Name(id=key)], value=value):
            return key, ast.literal_eval(value)
        case _:
            raise ValueError(f"line {statement.lineno} is no setting")
