"""The tables of a scale in a terminal: which are made, and where all of them are."""

from __future__ import annotations

from pathlib import Path
from textwrap import fill

import pandas as pd

from corrloss.errors import CorrLossError
from corrloss.plan.experiments import Experiments
from corrloss.plan.table_files import Table, load_table
from corrloss.tables.csv_file import read_csv
from corrloss.tables.reading import reading
from corrloss.tables.records import read_runs
from corrloss.tables.render import NOT_EVIDENCE
from corrloss.tables.terminal import WIDTH, to_text


class NoTableError(CorrLossError):
    """A table to show is missing or damaged; the message names the file."""


def show(experiments: Experiments, scale: str, results: Path, width: int = WIDTH) -> str:
    """The main tables of a scale as text, and where all its tables and ``runs.csv`` are.

    Args:
        experiments: Where the tables' own files are; they say which are main.
        scale: Name of the scale.
        results: Folder of all results.
        width: Characters of a line.

    Raises:
        NoTableError: No table of this scale is there yet, or one is damaged.
        RecordError: ``runs.csv`` is damaged.
        ExperimentError: A table's own file is broken, or the scale does not exist.
    """
    plans = [load_table(experiments, name, scale) for name in experiments.tables]
    paths = {plan.name: results / scale / "tables" / f"{plan.name}.csv" for plan in plans if plan.runs}
    made = {name: path for name, path in paths.items() if path.exists()}
    if not made:
        raise NoTableError(
            f"{results / scale / 'tables'}: no table yet; make them with `snakemake --config scale={scale}`"
        )
    main = [plan for plan in plans if plan.main and plan.name in made]
    parts = [to_text(read_table(made[plan.name]), plan, width) for plan in main]
    parts += [
        fill(text, width) for text in (_reading(main, results / scale), NOT_EVIDENCE.get(scale)) if text
    ]
    return "\n\n".join([*parts, _places(results / scale / "runs.csv", paths)])


def _reading(main: list[Table], folder: Path) -> str:
    """What the main tables say, and where the pictures are; empty without ``runs.csv``."""
    if not (folder / "runs.csv").exists():
        return ""
    made = {plan.name: read_table(folder / "tables" / f"{plan.name}.csv") for plan in main}
    text = reading(main, read_runs(folder / "runs.csv"), made)
    return f"{text} Pictures: `snakemake report`." if text else ""


def read_table(path: Path) -> pd.DataFrame:
    """Read a table that the bench has made; numbers as numbers.

    Raises:
        NoTableError: It is damaged.
    """
    frame = read_csv(path, NoTableError, ("detector", "coefficient", "weight"))
    if not path.read_bytes().endswith(b"\n"):  # cut where the fields of its last line are complete
        raise NoTableError(f"{path}: the last line is incomplete; delete the file and make the table again")
    for name in frame:
        numbers = pd.to_numeric(frame[name], errors="coerce")
        if (numbers.notna() | (frame[name] == "")).all():
            frame[name] = numbers
    return frame.reset_index(drop=True)


def _places(runs: Path, paths: dict[str, Path]) -> str:
    lines = [f"runs:   {runs}" if runs.exists() else f"runs:   {runs} (not made yet)"]
    for name, path in paths.items():
        lines.append(
            f"table:  {path}, .md" if path.exists() else f"table:  {name} (`snakemake {name}` makes it)"
        )
    return "\n".join(lines)
