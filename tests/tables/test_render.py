import pandas as pd
import pytest

from corrloss.tables.render import NOT_EVIDENCE, as_text, to_latex, to_markdown

FRAME = pd.DataFrame(
    {
        "detector": ["atss", "atss"],
        "coefficient": ["none", "spearman"],
        "weight": [0.0, 0.2],
        "gradient_to": [None, "both"],
        "AP": [30.04, 31.96],
        "AP_S": [None, 4.0],
        "delta_AP": [None, 1.92],
        "n_seeds": [1, 2],
        "paper_AP": [None, None],
        "paper_delta": [None, -0.5],
    }
)


def cells(markdown):
    rows = [line.strip("|").split("|") for line in markdown.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows]


def test_cells_are_rounded_signed_or_empty():
    heading, _, first, second = cells(to_markdown(FRAME, "Toys", "paper"))
    assert heading == list(FRAME)
    assert first == ["atss", "none", "0", "", "30.0", "", "", "1", "", ""]
    assert second == ["atss", "spearman", "0.2", "both", "32.0", "4.0", "+1.9", "2", "", "-0.5"]


def test_the_frame_is_left_as_it_was():
    before = FRAME.copy()
    as_text(FRAME)
    pd.testing.assert_frame_equal(FRAME, before)


@pytest.mark.parametrize("scale", ["mini", "smoke"])
def test_below_the_papers_scale_the_first_thing_said_is_that_it_is_no_evidence(scale):
    lines = to_markdown(FRAME, "Toys", scale).splitlines()
    assert lines[0] == "# Toys"
    assert lines[2] == NOT_EVIDENCE[scale] and f"`{scale}`" in lines[2]
    assert "no evidence about the paper" in NOT_EVIDENCE["mini"]


def test_at_the_papers_scale_it_is_not_said():
    assert to_markdown(FRAME, "Toys", "paper").splitlines()[2].startswith("| detector")


def test_where_every_training_of_a_row_failed_its_metrics_say_so():
    frame = FRAME.assign(n_seeds=[1, 0], AP=[30.0, None], delta_AP=None, failed=["", "some/run"])
    shown = as_text(frame)
    assert shown["AP"].tolist() == ["30.0", "failed"] and shown["AP_S"].tolist() == ["", "failed"]
    assert shown.loc[1, ["delta_AP", "paper_delta", "weight"]].tolist() == ["", "-0.5", "0.2"]


def test_where_one_seed_of_a_row_failed_the_mean_of_the_others_stands():
    frame = FRAME.assign(failed=["", "some/run"])
    assert as_text(frame)["AP"].tolist() == ["30.0", "32.0"]


def test_counts_are_whole_and_errors_have_two_digits():
    frame = FRAME.assign(rho_img_left_out=[12.0, 3.0], se_seeds=[None, 0.256])
    assert as_text(frame).loc[1, ["rho_img_left_out", "se_seeds"]].tolist() == ["3", "0.26"]


def test_latex_has_the_same_cells_and_nothing_that_latex_would_read_as_a_command():
    frame = FRAME.assign(paper_source=["", r"table 3 & note_1, 100% #5 {a} $x$ ~ \input{secret}"])
    lines = to_latex(frame, "Toys\n\\input{secret}", "mini").splitlines()
    assert lines[0] == r"% Toys \input{secret}" and lines[1] == f"% {NOT_EVIDENCE['mini']}"
    assert lines[2] == r"\begin{tabular}{llrlrrrrlrl}" and lines[-1] == r"\end{tabular}"
    first, second = (line for line in lines if line.lstrip().startswith("atss"))
    assert [cell.strip("\\ ") for cell in first.split("&")] == [
        "atss", "none", "0", "", "30.0", "", "", "1", "", "", "",
    ]  # fmt: skip
    for escaped in (r"\&", r"note\_1", r"100\%", r"\#5", r"\{a\}", r"\$x\$", r"\textbackslash{}input"):
        assert escaped in second


def test_text_from_files_stays_in_its_cell_and_is_no_element():
    hostile = 'x | y\n<script>alert(1)</script> & "z"'
    markdown = to_markdown(FRAME.assign(paper_source=hostile, **{hostile: 1.0}), hostile, "paper")
    assert "<script" not in markdown and "alert(1)" in markdown
    rows = [line for line in markdown.splitlines() if line.startswith("|")]
    assert len(rows) == 4 and {row.replace("\\|", "").count("|") for row in rows} == {len(FRAME.columns) + 3}
