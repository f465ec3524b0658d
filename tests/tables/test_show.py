import pytest
from made_tables import MAIN, REAL, finished, recorded

from corrloss.plan.schema import ExperimentError
from corrloss.plan.table_files import load_table
from corrloss.tables.records import runs_frame
from corrloss.tables.show import NoTableError, read_table, show, to_text


@pytest.fixture
def results(tmp_path):
    """A results folder in which some tables are made."""

    def make(*names, scale="mini"):
        for name in names:
            path = tmp_path / scale / "tables" / f"{name}.csv"
            path.parent.mkdir(parents=True, exist_ok=True)
            finished(name, scale).to_csv(path, index=False, float_format="%.6g")
        return tmp_path

    return make


def test_a_table_is_read_back_as_it_was_made(results):
    path = results("nms_based") / "mini" / "tables" / "nms_based.csv"
    plan = load_table(REAL, "nms_based", "mini")
    assert to_text(read_table(path), plan) == to_text(finished("nms_based"), plan)


def test_all_tables_the_warning_and_the_places_are_shown(results):
    folder = results(*MAIN)
    plans = [load_table(REAL, name, "mini") for name in MAIN]
    runs_frame(record for plan in plans for record in recorded(plan)).to_csv(
        folder / "mini" / "runs.csv", index=False
    )
    text = show(REAL, "mini", folder)
    for name in MAIN:
        assert load_table(REAL, name, "mini").title in text
        assert str(folder / "mini" / "tables" / f"{name}.csv") in text
    assert f"runs:   {folder / 'mini' / 'runs.csv'}\n" in text
    shown = " ".join(text.split())
    assert "AP of boxes in 16 of 16. Pictures: `snakemake report`." in shown
    assert "no evidence about the" in text


def test_at_the_papers_scale_nothing_is_said_of_evidence(results):
    assert "evidence" not in show(REAL, "paper", results("nms_free", scale="paper"))


def test_tables_that_are_not_made_yet_are_named(results):
    text = show(REAL, "mini", results("nms_free"))
    assert "nms_based (`snakemake nms_based` makes it)" in text
    assert load_table(REAL, "nms_based", "mini").title not in text
    assert "runs.csv (not made yet)" in text


def test_where_nothing_is_made_the_command_that_makes_it_is_said(tmp_path):
    with pytest.raises(NoTableError, match=r"mini/tables: no table yet; .*`snakemake --config scale=mini`"):
        show(REAL, "mini", tmp_path)
    with pytest.raises(ExperimentError, match=r"huge\.yaml: no such file; there are mini, paper"):
        show(REAL, "huge", tmp_path)


def test_a_damaged_table_is_refused_with_its_line(results):
    folder = results("nms_free")
    path = folder / "mini" / "tables" / "nms_free.csv"
    path.write_text(path.read_text().rpartition(",")[0])
    with pytest.raises(NoTableError, match=f"^{path}: line 4: "):
        show(REAL, "mini", folder)
