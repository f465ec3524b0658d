"""What a reader must know to read a table, in sentences below it."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from corrloss.plan.runs import OPTION_NAMES
from corrloss.tables.build import MANY
from corrloss.tables.intervals import DETECTORS, ONE_PAIR
from corrloss.tables.pooled_rows import CONTROL, POOLED, is_comparison

#: Differences that are counted, with the names of their figures.
RISES = {"delta_AP": "AP", "delta_mask_AP": "mask AP", "delta_rho_img": "ρ_img", "delta_rho_cls": "ρ_cls"}


def table_notes(frame: pd.DataFrame) -> list[str]:
    """Return the sentences that belong below a table.

    Args:
        frame: From `corrloss.tables.build.build_table` or `corrloss.tables.show.read_table`.
    """
    return [*_of_intervals(frame), *_of_means(frame), *_of_columns(frame), *_of_runs(frame)]


def _of_intervals(frame: pd.DataFrame) -> Iterator[str]:
    if ONE_PAIR in _texts(frame, "interval_over"):
        yield (
            "An interval over images of one pair of trainings is a statement about these two models, not "
            "about the method: another seed may give another sign."
        )
    losses = frame[is_comparison(frame)]
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


def _of_means(frame: pd.DataFrame) -> Iterator[str]:
    """How many comparisons rose, and what the rows of means are; nothing without such rows."""
    means = frame[frame["detector"].astype(str).str.startswith(POOLED)]
    losses = frame[is_comparison(frame)]
    for coefficient in dict.fromkeys(means["coefficient"]):
        own = losses[losses["coefficient"] == coefficient]
        deltas = {name: own[name].dropna() for name in own if name in RISES}
        counts = [f"{RISES[name]} in {(d > 0).sum()} of {len(d)}" for name, d in deltas.items() if len(d)]
        yield f"Comparisons with {coefficient} that rose: {', '.join(counts)}."
    if DETECTORS in _texts(means, "interval_over"):
        yield (
            "“mean of” detectors: they count alike. The interval is of a mixed model with images, seeds and "
            "detectors as random effects: it is about detectors like these. Its p-value is not adjusted."
        )
    if any(_texts(frame, "seeds_for_1_AP")):
        yield (
            "seeds_for_1_AP: seeds with which a true gain of 1 gives an interval above 0 in 80% of "
            "experiments, by the spread of the row's seeds; a spread of few seeds is itself uncertain."
        )
    if CONTROL in _texts(frame, "coefficient"):
        yield (
            "isotonic: the baseline's detections after isotonic regression of the IoU on the score in each "
            "class, fitted on held-out images. It changes calibration and leaves the order within a class."
        )


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
