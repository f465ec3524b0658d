import pandas as pd
import pytest

from corrloss.plan.table_files import Table
from corrloss.tables.render import NOT_EVIDENCE, as_text, for_people, to_latex, to_markdown


def plan(title, question=""):
    return Table("toys", title, "coco", ("AP",), ("AP",), True, (), {}, question=question)


TOYS = plan("Toys")

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
    heading, _, first, second = cells(to_markdown(FRAME, TOYS, "paper"))
    assert heading == [name for name in FRAME if name != "paper_AP"]  # empty in all rows
    assert first == ["atss", "none", "0", "", "30.0", "", "", "1", ""]
    assert second == ["atss", "spearman", "0.2", "both", "32.0", "4.0", "+1.9", "2", "-0.5"]


ONE, SEVERAL = "images, this pair only", "images and seeds"


def with_intervals(over, n_seeds, verdicts=("", "no reference")):
    errors = {"se_images": [None, 0.3], "se_seeds": [None, 0.2]}
    if over == SEVERAL:
        errors |= {"p_value": [None, 0.004], "p_holm": [None, 0.04]}
    intervals = {"ci_low": [None, 0.96], "ci_high": [None, 2.88], "interval_over": ["", over]}
    tolerance = {"verdict": verdicts, "tolerance_low": [None, 1.0], "tolerance_high": [None, 2.5]}
    return FRAME.assign(**intervals, **errors, **tolerance, n_seeds=n_seeds)


def test_an_interval_is_one_cell_that_says_what_it_is_over():
    shown = for_people(with_intervals(SEVERAL, [3, 3]))
    assert shown["95% over images and seeds"].tolist() == ["", "+1.0 to +2.9"]
    assert shown["would agree"].tolist() == ["", "1.0 to 2.5"]
    errors = ["se_images", "se_seeds", "p_value", "p_holm"]
    assert shown.loc[1, errors].tolist() == ["0.30", "0.20", "<0.01", "0.04"]
    assert not {"ci_low", "ci_high", "interval_over", "tolerance_low"} & {*shown}


def test_one_seed_has_an_interval_of_this_pair_and_no_p_value():
    markdown = to_markdown(with_intervals(ONE, [1, 1]), TOYS, "paper")
    assert "95% over images, this pair only" in markdown and "+1.0 to +2.9" in markdown
    assert "not about the method" in markdown
    assert not [name for name in ("p_value", "p_holm", "se_seeds", "se_images") if name in markdown]


def test_both_kinds_of_interval_have_a_column_each():
    frame = with_intervals(SEVERAL, [1, 3]).assign(ci_low=0.5, ci_high=1.5, interval_over=[ONE, SEVERAL])
    shown = for_people(frame)
    assert shown[f"95% over {ONE}"].tolist() == ["+0.5 to +1.5", ""]
    assert shown[f"95% over {SEVERAL}"].tolist() == ["", "+0.5 to +1.5"]


def test_a_verdict_is_shown_where_there_is_one():
    assert "verdict" not in for_people(with_intervals(SEVERAL, 3, ["not comparable"] * 2))
    assert "verdict" in for_people(with_intervals(SEVERAL, 3, ["no reference", "reproduced (second-hand)"]))


def test_the_question_is_below_the_heading():
    lines = to_markdown(FRAME, plan("Toys", "Does it <help>?"), "mini").splitlines()
    assert lines[:5] == ["# Toys", "", "Does it &lt;help>?", "", NOT_EVIDENCE["mini"]]
    assert "% Does it <help>?" in to_latex(FRAME, plan("Toys", "Does it <help>?"), "mini").splitlines()


def test_missing_and_failed_runs_are_notes_below_the_table():
    frame = FRAME.assign(incomplete=["a/b/none/seed0", ""], failed=["", "a/b/x/seed1"])
    assert to_markdown(frame, TOYS, "paper").splitlines()[-2:] == [
        "- Without these runs, not finished yet: a/b/none/seed0",
        "- Without these runs, whose training failed: a/b/x/seed1",
    ]


def test_several_weights_and_a_shared_baseline_are_said():
    row = FRAME.iloc[[1]].assign(weight=0.4)
    markdown = to_markdown(pd.concat([FRAME, row]), TOYS, "paper")
    assert "Rows of one detector share its baseline" in markdown and "differ in λ alone" in markdown
    assert "share its baseline" not in to_markdown(FRAME, TOYS, "paper")


def test_the_frame_is_left_as_it_was():
    before = FRAME.copy()
    as_text(FRAME)
    pd.testing.assert_frame_equal(FRAME, before)


@pytest.mark.parametrize("scale", ["mini", "small", "smoke"])
def test_below_the_papers_scale_the_first_thing_said_is_that_it_is_no_evidence(scale):
    lines = to_markdown(FRAME, TOYS, scale).splitlines()
    assert lines[0] == "# Toys"
    assert lines[2] == NOT_EVIDENCE[scale] and f"`{scale}`" in lines[2]
    assert "no evidence about the paper" in NOT_EVIDENCE["mini"]


def test_at_the_papers_scale_it_is_not_said():
    assert to_markdown(FRAME, TOYS, "paper").splitlines()[2].startswith("| detector")


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
    lines = to_latex(frame, plan("Toys\n\\input{secret}"), "mini").splitlines()
    assert lines[0] == r"% Toys \input{secret}" and lines[1] == f"% {NOT_EVIDENCE['mini']}"
    assert lines[2] == r"\begin{tabular}{llrlrrrrrl}" and lines[-1] == r"\end{tabular}"
    first, second = (line for line in lines if line.lstrip().startswith("atss"))
    assert [cell.strip("\\ ") for cell in first.split("&")] == [
        "atss", "none", "0", "", "30.0", "", "", "1", "", "",
    ]  # fmt: skip
    for escaped in (r"\&", r"note\_1", r"100\%", r"\#5", r"\{a\}", r"\$x\$", r"\textbackslash{}input"):
        assert escaped in second


def test_text_from_files_stays_in_its_cell_and_is_no_element():
    hostile = 'x | y\n<script>alert(1)</script> & "z" \\[a](javascript:b) ![c](http://example.org/d)'
    markdown = to_markdown(FRAME.assign(paper_source=hostile, **{hostile: 1.0}), plan(hostile), "paper")
    assert "<script" not in markdown and "alert(1)" in markdown
    assert "[" not in markdown  # neither a link nor a picture
    rows = [line for line in markdown.splitlines() if line.startswith("|")]
    assert len(rows) == 4 and {row.replace("\\|", "").count("|") for row in rows} == {len(FRAME.columns) + 2}
