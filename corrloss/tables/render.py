"""A table for people: its cells as text, in Markdown and LaTeX, with what a reader must know to read it."""

from __future__ import annotations

import pandas as pd
from tabulate import tabulate

from corrloss.analysis.verdict import WITHOUT
from corrloss.plan.table_files import Table
from corrloss.tables.build import REMARKS
from corrloss.tables.notes import table_notes

NOT_EVIDENCE = {
    "mini": "Scale `mini`: synthetic images, tiny models, minutes of training. These figures show that the "
    "pipeline works; they are no evidence about the paper.",
    "small": "Scale `small`: trained on 10,000 images of COCO at half the image size. These figures compare "
    "training with and without the loss there; published ones are of the full set and size.",
    "zoo": "Scale `zoo`: weights that mmdet publishes, on val2017; nothing was trained.",
    "zoo_500": "Scale `zoo_500`: weights that mmdet publishes, on 500 images, a sample of val2017's 5,000; "
    "nothing was trained. AP of a sample is not that of val2017.",
    "smoke": "Scale `smoke`: a few iterations, for tests. These figures mean nothing.",
}

# Digits after the point: one for points of AP, two for errors and p-values; settings and counts have all.
DIGITS = {
    "weight": "g", "strength": "g", "n_seeds": "g", "n_images": "g", "seeds_for_1_AP": "g",
    "p_value": ".2f", "p_holm": ".2f", "se_images": ".2f", "se_seeds": ".2f",
}  # fmt: skip
P_VALUES = ("p_value", "p_holm")
COUNTS = ("_left_out", "_positives", "_failures")  # in the name of a metric that is a count
COMPARED = (
    "delta",
    "paper_",
    "zoo_",
    "ci_",
    "difference",
    "tolerance",
)  # prefixes of numbers that are not metrics
FAILED = "failed"
_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", "[": "&#91;", "\\": "&#92;", "|": "\\|"})
ONE_SEED = (
    "se_images",
    "se_seeds",
    "p_value",
    "p_holm",
    "seeds_for_1_AP",
)  # shown only where a row has several seeds


def to_markdown(frame: pd.DataFrame, plan: Table, scale: str) -> str:
    """The table with its heading, its question and the notes a reader must know.

    Args:
        frame: From `corrloss.tables.build.build_table`.
        plan: The table's own file.
        scale: Name of the scale; of each but ``paper`` a note says what its figures are.
    """
    shown = for_people(frame).rename(columns=literal).map(literal)
    body = shown.to_markdown(index=False, disable_numparse=True)
    notes = "\n".join(f"- {literal(note)}" for note in table_notes(frame))
    parts = [f"# {literal(plan.title)}", literal(plan.question), NOT_EVIDENCE.get(scale, ""), body, notes]
    return "\n\n".join(filter(None, parts)) + "\n"


def literal(text: str) -> str:
    """Escape text from a file, so that it neither ends its cell nor becomes an element, a link or a picture.

    Examples:
        >>> literal("![x](https://example.org/x.png) | <b>")
        '!&#91;x](https://example.org/x.png) \\\\| &lt;b>'
    """
    return " ".join(text.split()).translate(_ESCAPES)


def to_latex(frame: pd.DataFrame, plan: Table, scale: str) -> str:
    """The table as a LaTeX ``tabular`` for the package booktabs; heading, question and notes as comments.

    Args:
        frame: From `corrloss.tables.build.build_table`.
        plan: The table's own file.
        scale: Name of the scale.
    """
    shown = for_people(frame)
    numbers = {*frame.select_dtypes("number"), *(name for name in shown if name not in frame)}
    align = ["right" if name in numbers else "left" for name in shown]
    body = tabulate(
        shown, list(shown), "latex_booktabs", showindex=False, disable_numparse=True, colalign=align
    )
    comments = [plan.title, plan.question, NOT_EVIDENCE.get(scale, ""), *table_notes(frame)]
    return "".join(f"% {' '.join(line.split())}\n" for line in comments if line) + f"{body}\n"


def for_people(frame: pd.DataFrame) -> pd.DataFrame:
    """The cells as text without what a reader does not need; the CSV keeps every column.

    An interval is one cell, in a column that names what it is over. Columns that are empty in all rows are
    left out, and so are errors and p-values where no row has several seeds, and a verdict that no row has.

    Args:
        frame: From `corrloss.tables.build.build_table` or `corrloss.tables.show.read_table`.
    """
    text = as_text(frame)
    over = text["interval_over"] if "interval_over" in text else pd.Series("", index=text.index)
    for kind in sorted({*over} - {""}, reverse=True):
        interval = _interval(text, "ci_low", "ci_high").where(over == kind, "")
        text.insert(text.columns.get_loc("ci_low"), f"95% over {kind}", interval)
    for name in [name.removeprefix("ci_low_") for name in text if name.startswith("ci_low_")]:
        cells = _interval(text, f"ci_low_{name}", f"ci_high_{name}")
        text.insert(text.columns.get_loc(f"ci_low_{name}"), f"95% of delta_{name}", cells)
    if "tolerance_low" in text:
        text["would agree"] = _interval(text, "tolerance_low", "tolerance_high")
    left_out = {"interval_over", "tolerance_low", "tolerance_high", *REMARKS}
    left_out |= {name for name in text if name.startswith(("ci_low", "ci_high"))}
    if "n_seeds" in frame and frame["n_seeds"].max() < 2:
        left_out |= {*ONE_SEED}
    if "verdict" in text and text["verdict"].isin(["", *WITHOUT]).all():
        left_out.add("verdict")
    return text[[name for name in text if name not in left_out and text[name].any()]]


def _interval(text: pd.DataFrame, low: str, high: str) -> pd.Series:
    return (text[low] + " to " + text[high]).where(text[low] != "", "")


def as_text(frame: pd.DataFrame) -> pd.DataFrame:
    """All cells as text: points with one digit, differences with their sign, empty if unknown.

    Where every training of a row failed its metrics are ``failed``. A p-value below 0.01 is ``<0.01``.
    """
    shown = frame.copy()
    failed = _all_failed(frame)
    for name in shown.select_dtypes("number").columns:
        signed = name.startswith(("delta", "paper_delta", "ci_", "difference"))
        form = ("+" if signed else "") + DIGITS.get(name, ".0f" if name.endswith(COUNTS) else ".1f")
        cells = [_cell(value, form, name in P_VALUES) for value in shown[name]]
        is_metric = name not in DIGITS and not name.startswith(COMPARED)
        shown[name] = [FAILED if is_metric and f else cell for f, cell in zip(failed, cells, strict=True)]
    return shown.astype(object).fillna("").astype(str)


def _all_failed(frame: pd.DataFrame) -> list[bool]:
    if FAILED not in frame:
        return [False] * len(frame)
    any_failed = frame[FAILED].fillna("").astype(str) != ""
    return (any_failed & (frame["n_seeds"] == 0)).tolist()


def _cell(value: float, form: str, is_p_value: bool) -> str:
    if pd.isna(value):
        return ""
    return "<0.01" if is_p_value and value < 0.01 else rounded(value, form)


def rounded(value: float, form: str = "+.1f") -> str:
    """A number as text; what rounds to 0 has no sign.

    >>> rounded(-0.04), rounded(0.04), rounded(-0.06)
    ('0.0', '0.0', '-0.1')
    """
    text = format(value, form)
    return text.lstrip("+-") if float(text) == 0 else text
