"""What a reader must know to read a table, in sentences below it."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from corrloss.plan.runs import BASELINE, OPTION_NAMES
from corrloss.tables.build import MANY, ONE_PAIR


def table_notes(frame: pd.DataFrame) -> list[str]:
    """Return the sentences that belong below a table.

    Args:
        frame: From `corrloss.tables.build.build_table` or `corrloss.tables.show.read_table`.
    """
    return [*_of_intervals(frame), *_of_columns(frame), *_of_runs(frame)]


def _of_intervals(frame: pd.DataFrame) -> Iterator[str]:
    if ONE_PAIR in _texts(frame, "interval_over"):
        yield (
            "An interval over images of one pair of trainings is a statement about these two models, not "
            "about the method: another seed may give another sign."
        )
    losses = frame[frame["coefficient"] != BASELINE]
    if losses.duplicated("detector").any():
        yield "Rows of one detector share its baseline, so their differences are correlated."
    options = [name for name in OPTION_NAMES if name in frame]
    groups = losses.astype(object).fillna("").groupby(["detector", "coefficient", *options])["weight"]
    if (groups.nunique() > 1).any():
        yield (
            "Some rows differ in λ alone: the best of them is too high on average, since it is chosen on the "
            "images it is measured on; neither interval nor p_holm corrects for this choice."
        )
    if any(_texts(frame, "p_holm")):
        yield "p_holm is the p-value adjusted for all comparisons of this table (Holm)."


def _of_columns(frame: pd.DataFrame) -> Iterator[str]:
    if any(name.endswith(MANY) for name in frame):
        yield (
            f"Columns that end in {MANY} count up to 1,000 detections of an image and class, as mmdet does; "
            "all others count up to 100, as COCO does."
        )


def _of_runs(frame: pd.DataFrame) -> Iterator[str]:
    for column, what in (("incomplete", "not finished yet"), ("failed", "whose training failed")):
        if names := sorted({run for runs in _texts(frame, column) for run in runs.split()}):
            yield f"Without these runs, {what}: {' '.join(names)}"
    if mixed := sorted({text for row in _texts(frame, "mixed") for text in row.split("; ") if text}):
        yield f"Runs that are compared differ in more than the loss: {'; '.join(mixed)}"


def _texts(frame: pd.DataFrame, column: str) -> list[str]:
    return frame[column].astype(object).fillna("").astype(str).tolist() if column in frame else []
