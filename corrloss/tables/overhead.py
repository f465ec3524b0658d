"""The table of what the loss costs in training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import pandas as pd

from corrloss.plan.runs import Run
from corrloss.tables.render import literal

#: Published seconds per iteration, by detector: their names in the reference file.
PUBLISHED = {"sparse_rcnn": "Sparse R-CNN"}
PUBLISHED_METRIC = "sec_per_iter_V100"
RESAMPLES = 2000

NOTE = """\
Training steps (forward, losses, backward, optimiser) of models with and without the loss, taken in turns on
the same batches in one process. `seconds_without`, `seconds_with`: medians. `ratio`: median of with / without
step by step, with its 95% interval over the steps. Row `none`: a second model without the loss against the
first, so its ratio is noise. `share_percent`: what finding the positives, the loss and its gradient take by
themselves, measured directly, in percent of a step without the loss. Clock: {clock}.
"""


class Timed(Protocol):
    """Seconds of each timed step, and of positives, loss and gradient by themselves in each."""

    steps: Sequence[float]
    own: Sequence[float]


def overhead_rows(runs: Sequence[Run], timings: Sequence[Timed], reference: pd.DataFrame) -> list[dict]:
    """What each variant of one detector costs.

    Args:
        runs: The baseline and its variants.
        timings: Of two models of the baseline, whose difference is noise, and of one of each variant: from
            `corrloss.engine.step_timing.measure`.
        reference: From `corrloss.tables.reference.load_reference`.
    """
    first, *others = timings
    return [_row(run, first, timed, reference) for run, timed in zip(runs, others, strict=True)]


def _row(run: Run, first: Timed, timed: Timed, reference: pd.DataFrame) -> dict:
    ratios = np.asarray(timed.steps) / np.asarray(first.steps)
    without = np.median(first.steps)
    low, high = _interval_of_median(ratios)
    row = {
        "detector": run.detector,
        "coefficient": run.coefficient,
        "weight": None if run.is_baseline else run.weight,
        **dict(run.options),
        "steps": len(ratios),
        "seconds_without": without,
        "seconds_with": np.median(timed.steps),
        "ratio": np.median(ratios),
        "ratio_low": low,
        "ratio_high": high,
        "share_percent": 100 * np.median(timed.own) / without if len(timed.own) else None,
    }
    return row | ({} if run.is_baseline else _published(run.detector, reference))


def _interval_of_median(values: np.ndarray) -> tuple[float, float]:
    """Percentile bootstrap, 95%."""
    picks = np.random.default_rng(0).integers(len(values), size=(RESAMPLES, len(values)))
    low, high = np.percentile(np.median(values[picks], axis=1), [2.5, 97.5])
    return float(low), float(high)


def _published(detector: str, reference: pd.DataFrame) -> dict:
    found = reference[
        (reference["detector"] == PUBLISHED.get(detector)) & (reference["metric"] == PUBLISHED_METRIC)
    ]
    if len(found) != 2:
        return {}
    without, with_loss = found.sort_values("variant", key=lambda names: names != "baseline").itertuples()
    return {
        "paper_seconds_without": float(without.value),
        "paper_seconds_with": float(with_loss.value),
        "paper_source": f"{with_loss.source} ({with_loss.source_kind}; V100)",
    }


def to_markdown(frame: pd.DataFrame, title: str, clock: str) -> str:
    """The table with heading and what its columns are.

    Args:
        frame: From `overhead_rows`, a row each.
        title: Heading.
        clock: What was timed on which device.
    """
    digits = {"seconds": ".4f", "ratio": ".3f", "share": ".2f", "paper_seconds": ".2f"}
    shown = frame.copy()
    for name in shown.select_dtypes("number"):
        form = next((form for start, form in digits.items() if name.startswith(start)), "g")
        shown[name] = ["" if pd.isna(value) else format(value, form) for value in shown[name]]
    shown = shown.astype(object).fillna("").astype(str).map(literal)
    body = shown.to_markdown(index=False, disable_numparse=True)
    return f"# {literal(title)}\n\n{NOTE.format(clock=clock)}\n{body}\n"
