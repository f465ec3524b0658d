"""What rehearsals of a scale's runs measured, as a table."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from corrloss.plan.runs import Run

if TYPE_CHECKING:  # mmengine's Config takes a second to load
    from corrloss.plan.matrix import Matrix

WORKS, FAILS = "works", "fails"
SLOW_LOADING = 0.2  # of the time of an update
#: What to do about a cause, by a part of its text; other messages say it themselves.
WAYS = {
    "out of memory": "precision=bf16, or a GPU with more memory; fewer images_per_process with "
    "accumulate=auto take less, but the coefficient is then over fewer images",
    "as if killed": "fewer runs at a time (--cores), or more memory for a job",
    "not finite": "set precision=fp32 if it is not; otherwise check rehearsal.log and the data",
    "No such file": "complete the data set (docs/data.md)",
}


def read_rehearsals(matrix: Matrix, results: Path, runs: Iterable[Run]) -> dict[Run, dict]:
    """Reports of the rehearsals of runs; those of another config, code or data set are left out."""
    reports = {}
    for run in dict.fromkeys(run.rehearsed for run in runs):
        if run.name not in matrix.planned:
            continue
        try:
            report = json.loads(run.rehearsal_folder(results).rehearsal.read_text(encoding="utf-8"))
            current = report["identity"] == matrix.planned[run.name].identity["training"]
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            continue
        if current:
            reports[run] = report
    return reports


def rehearsal_table(reports: dict[Run, dict], gpu_hours: dict[Run, float]) -> pd.DataFrame:
    """One row a rehearsed run.

    Args:
        reports: From `read_rehearsals`.
        gpu_hours: GPU hours of a whole training, of the runs that worked.

    Returns:
        ``run, result`` (``works`` or ``fails``), ``peak_memory_mb`` of one process, ``seconds_per_update``,
        ``loading_share`` (0 to 1: of an update, the wait for images), ``predict_seconds`` of one image,
        ``gpu_hours, cause, way_out``. Empty where a failed rehearsal measured nothing.
    """
    measured = ("peak_memory_mb", "seconds_per_update", "loading_share", "predict_seconds")
    rows = [
        {
            "run": run.name,
            "result": FAILS if "failed" in report else WORKS,
            **{name: report.get(name) for name in measured},
            "gpu_hours": gpu_hours.get(run),
            "cause": report.get("failed", "").replace("\n", " "),
            "way_out": _way_out(report),
        }
        for run, report in reports.items()
    ]
    return pd.DataFrame(rows)


def _way_out(report: dict) -> str:
    if "failed" in report:
        return next((way for text, way in WAYS.items() if text in report["failed"]), "")
    if report["loading_share"] > SLOW_LOADING:
        return "images load slowly: more num_workers in the scale's file, or a faster disk"
    return ""


def to_text(frame: pd.DataFrame) -> str:
    """The table for a terminal, in Markdown, and a sentence on it."""
    shown = frame.drop(columns=[name for name in frame if frame[name].isin([None, ""]).all()])
    works = int((frame["result"] == WORKS).sum())
    hours = f"{frame['gpu_hours'].sum():,.1f} GPU hours for one seed of each that works"
    numbers = {"floatfmt": ".3g", "index": False, "missingval": ""}
    return f"{shown.to_markdown(**numbers)}\n\n{works} of {len(frame)} rehearsed runs work; {hours}."
