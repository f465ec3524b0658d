"""Reading a CSV file whose every line is whole."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path

import pandas as pd


def read_csv(path: Path, error: type[ValueError], columns: Iterable[str]) -> pd.DataFrame:
    """Read a CSV file with every cell as text.

    pandas' own reader fills a line that was cut short with empty cells, and takes the first column for an
    index if the first line is too long.

    Args:
        path: The file, with a header.
        error: What to raise.
        columns: Columns that must be there; more may be.

    Returns:
        The cells as text, indexed by the line that each row ends on.

    Raises:
        ValueError: Of the type `error`: the file is missing or no CSV, lacks a column or has one twice, or a
            line has more or fewer fields than the header. The message names file and line.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = next(reader, [])
            lines, rows = [], []
            for fields in reader:
                lines.append(reader.line_num)
                rows.append(fields)
    except (OSError, UnicodeDecodeError, csv.Error) as problem:
        raise error(f"{path}: not readable as CSV: {problem}") from problem
    missing = [name for name in columns if name not in header]
    if missing:
        raise error(f"{path}: line 1: no column {', '.join(missing)}")
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise error(f"{path}: line 1: duplicate column {', '.join(twice)}; keep one")
    for line, fields in zip(lines, rows, strict=True):
        if len(fields) != len(header):
            raise error(f"{path}: line {line}: has {len(fields)} fields, the header {len(header)}")
    return pd.DataFrame(rows, index=lines, columns=header, dtype=str)


def refuse(
    path: Path, frame: pd.DataFrame, wrong: pd.Series, column: str, needed: str, error: type[ValueError]
) -> None:
    """Raise an error about the first row that is wrong.

    Args:
        path: The file, for the message.
        frame: From `read_csv`.
        wrong: Whether a row is wrong, bool, with the index of `frame`.
        column: The column that is wrong.
        needed: What was expected there.
        error: What to raise.

    Raises:
        ValueError: Of the type `error`: a row is wrong. The message names file, line, column and cell.
    """
    if wrong.any():
        line = wrong.idxmax()
        raise error(f"{path}: line {line}, {column}: {frame[column][line]!r}; needs {needed}")
