"""Figures of a run that need its baseline's detections, too: which part of a gain is order, which boxes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

from corrloss.analysis.ap import Backend
from corrloss.analysis.gain_parts import HYBRIDS, PARTS, exchange
from corrloss.analysis.replicates import resampled_ap
from corrloss.coco import Detections, GroundTruth, load_detections, load_ground_truth
from corrloss.plan.identity import evaluation_identity
from corrloss.plan.runs import Run
from corrloss.plan.table_files import Table
from corrloss.run import StageReportError
from corrloss.tables.intervals import Replicated


def with_parts(
    runs: pd.DataFrame, table: Table, results: Path, annotations: Path, backend: Backend = "hotcoco"
) -> tuple[pd.DataFrame, Replicated]:
    """Add `PARTS` to the runs of a table that asks for them; other tables get their runs as they are.

    Args:
        runs: ``runs.csv``.
        table: The table.
        results: Folder of all results.
        annotations: Annotation file of the test images of the table's runs.
        backend: Tool that computes AP.

    Returns:
        ``runs.csv`` with columns `PARTS`; empty for runs of other tables, and where a run or its baseline is
        missing or failed. Of a baseline the first two are its AP. And the first two of the other runs on the
        data and on its resamples.

    Raises:
        DataSetError: The annotation file is unusable.
        DetectionsError: A file of detections is unusable.
        StageReportError: Detections are not those that a run was evaluated with.
    """
    if not set(PARTS) & {*table.metrics}:
        return runs, {}
    truth = load_ground_truth(annotations)
    detections = _reader(results, dict(zip(runs["run"], runs["identity"], strict=True)), truth, backend)
    ended = dict(zip(runs["run"], runs["AP"], strict=True))
    columns, replicated = {part: dict.fromkeys(runs["run"], np.nan) for part in PARTS}, {}
    for run in table.runs:
        if pd.isna([ended.get(run.name), ended.get(run.baseline.name)]).any():
            continue
        if run.is_baseline:
            known = dict.fromkeys(HYBRIDS, ended[run.name]) | {"matched": 100.0}
        else:
            found = exchange(truth, detections(run.baseline), detections(run))
            hybrids = {part: resampled_ap(truth, getattr(found, part)) for part in HYBRIDS}
            replicated |= {(run.name, part): ap for part, ap in hybrids.items()}
            known = {part: ap[0] for part, ap in hybrids.items()} | {"matched": found.matched}
        for part, value in known.items():
            columns[part][run.name] = value
    return runs.assign(**{part: list(values.values()) for part, values in columns.items()}), replicated


def _reader(
    results: Path, identities: Mapping[str, str], truth: GroundTruth, backend: Backend
) -> Callable[[Run], Detections]:
    """Return a function that reads the boxes that a run was evaluated with."""

    @lru_cache(maxsize=4)  # consecutive runs share a baseline
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

    return detections
