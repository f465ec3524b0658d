"""A table as Markdown and LaTeX, with what a reader must know to read it."""

from __future__ import annotations

import pandas as pd
from tabulate import tabulate

NOT_EVIDENCE = {
    "mini": "Scale `mini`: synthetic images, tiny models, minutes of training. These figures show that the "
    "pipeline works; they are no evidence about the paper.",
    "smoke": "Scale `smoke`: a few iterations, for tests. These figures mean nothing.",
}

# How many digits say something: points of AP one, a p-value two, settings and counts all they have.
DIGITS = {
    "weight": "g", "strength": "g", "n_seeds": "g", "n_images": "g", "p_value": ".2f", "se_images": ".2f",
    "se_seeds": ".2f",
}  # fmt: skip
COUNTS = "_left_out"  # in the name of a metric that is a count
COMPARED = ("delta", "paper_", "ci_", "difference", "tolerance")  # first letters of what is no metric either
FAILED = "failed"


def to_markdown(frame: pd.DataFrame, title: str, scale: str) -> str:
    """The table with heading and, below scale ``paper``, the warning that it is no evidence.

    Args:
        frame: From :func:`corrloss.tables.build.build_table`.
        title: Heading.
        scale: Name of the scale.
    """
    body = (
        as_text(frame).rename(columns=_literal).map(_literal).to_markdown(index=False, disable_numparse=True)
    )
    warning = f"{NOT_EVIDENCE[scale]}\n\n" if scale in NOT_EVIDENCE else ""
    return f"# {_literal(title)}\n\n{warning}{body}\n"


def _literal(text: str) -> str:
    """Text from a file that shall neither end its cell nor become an element of a page."""
    return " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|")


def to_latex(frame: pd.DataFrame, title: str, scale: str) -> str:
    """The table as a LaTeX ``tabular`` for the package booktabs; heading and warning as comments.

    Args:
        frame: From :func:`corrloss.tables.build.build_table`.
        title: Heading.
        scale: Name of the scale.
    """
    numbers = frame.select_dtypes("number").columns
    align = ["right" if name in numbers else "left" for name in frame]
    shown = as_text(frame)
    body = tabulate(
        shown, list(shown), "latex_booktabs", showindex=False, disable_numparse=True, colalign=align
    )
    comments = [title, NOT_EVIDENCE[scale]] if scale in NOT_EVIDENCE else [title]
    return "".join(f"% {' '.join(line.split())}\n" for line in comments) + f"{body}\n"


def as_text(frame: pd.DataFrame) -> pd.DataFrame:
    """All cells as a reader wants them: points with one digit, deltas with their sign, empty if unknown.

    Where every training of a row failed its metrics are ``failed``.
    """
    shown = frame.copy()
    failed = _all_failed(frame)
    for name in shown.select_dtypes("number").columns:
        signed = name.startswith(("delta", "paper_delta", "ci_", "difference"))
        digits = DIGITS.get(name, "g" if COUNTS in name else ".1f")
        cells = [_cell(value, f"{'+' if signed else ''}{digits}") for value in shown[name]]
        is_metric = name not in DIGITS and not name.startswith(COMPARED)
        shown[name] = [FAILED if is_metric and f else cell for f, cell in zip(failed, cells, strict=True)]
    return shown.astype(object).fillna("").astype(str)


def _all_failed(frame: pd.DataFrame) -> list[bool]:
    if FAILED not in frame:
        return [False] * len(frame)
    any_failed = frame[FAILED].fillna("").astype(str) != ""
    return (any_failed & (frame["n_seeds"] == 0)).tolist()


def _cell(value: float, form: str) -> str:
    return "" if pd.isna(value) else format(value, form)
