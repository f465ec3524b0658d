"""Figures of a run that need its baseline's detections, too: which part of a gain is order, which boxes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

import pandas as pd

from corrloss.analysis.ap import Backend
from corrloss.analysis.gain_parts import PARTS, gain_parts
from corrloss.coco import Detections, load_detections, load_ground_truth
from corrloss.plan.identity import evaluation_identity
from corrloss.plan.runs import Run
from corrloss.plan.table_files import Table
from corrloss.run import StageReportError


def with_parts(
    runs: pd.DataFrame, table: Table, results: Path, annotations: Path, backend: Backend = "hotcoco"
) -> pd.DataFrame:
    """Add `PARTS` to the runs of a table that asks for them; other tables get their runs as they are.

    Args:
        runs: ``runs.csv``.
        table: The table.
        results: Folder of all results.
        annotations: Annotation file of the test images of the table's runs.
        backend: Tool that computes AP.

    Returns:
        ``runs.csv`` with columns `PARTS`; empty for runs of other tables, and where a run or its baseline is
        missing or failed. Of a baseline the first two are its AP.

    Raises:
        DataSetError: The annotation file is unusable.
        DetectionsError: A file of detections is unusable.
        StageReportError: Detections are not those that a run was evaluated with.
    """
    if not set(PARTS) & {*table.metrics}:
        return runs
    identities = dict(zip(runs["run"], runs["identity"], strict=True))
    of_pair = parts_of_pairs(results, identities, annotations, backend)
    ended = set(runs["run"][runs["AP"].notna()])
    pairs = {run.name: run for run in table.runs if {run.name, run.baseline.name} <= ended}
    parts = [of_pair(pairs[name]) if name in pairs else {} for name in runs["run"]]
    return runs.assign(**{part: [found.get(part) for found in parts] for part in PARTS})


def parts_of_pairs(
    results: Path, identities: Mapping[str, str], annotations: Path, backend: Backend = "hotcoco"
) -> Callable[[Run], dict[str, float]]:
    """Return a function from a run to the parts of its gain over its baseline.

    Args:
        results: Folder of all results.
        identities: Identity of each run's evaluation; its detections must be those that were evaluated.
        annotations: Annotation file of the test images of the runs.
        backend: Tool that computes AP.
    """
    truth = load_ground_truth(annotations)

    @cache  # consecutive runs share a baseline
    def detections(run: Run) -> Detections:
        folder = run.folder(results)
        predicted = folder.read_prediction()["identity"]
        if evaluation_identity(predicted, backend) != identities[run.name]:
            raise StageReportError(
                f"{folder.prediction}: expected the prediction that {run.name} was evaluated with, found "
                f"identity {predicted}; run snakemake again"
            )
        folder.read_prediction(predicted)  # with the files as it left them
        return load_detections(folder.detections(), truth)

    def parts(run: Run) -> dict[str, float]:
        return gain_parts(truth, detections(run.baseline), detections(run), backend)

    return parts
