import pandas as pd
import pytest

from corrloss.tables.csv_file import read_csv


class BrokenError(ValueError):
    pass


@pytest.fixture
def read(tmp_path):
    def read_text(text, encoding="utf-8"):
        path = tmp_path / "file.csv"
        path.write_text(text, encoding=encoding, newline="")
        return read_csv(path, BrokenError, ["run", "AP"])

    return read_text


def test_cells_are_the_text_that_stands_there(read):
    frame = read('run,AP,note\na,1.0,none\nb,,"x, ""y"""\nNA,nan,λ\n')
    assert frame.to_dict("list") == {
        "run": ["a", "b", "NA"],
        "AP": ["1.0", "", "nan"],
        "note": ["none", 'x, "y"', "λ"],
    }


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_rows_know_their_lines(read, end):
    frame = read(end.join(["run,AP", '"a', 'b",1', "c,2", ""]))
    assert list(frame.index) == [3, 4]


def test_a_header_alone_is_a_file_without_rows(read):
    frame = read("run,AP\n")
    assert frame.empty and list(frame) == ["run", "AP"]


def test_a_mark_of_a_spreadsheet_is_no_part_of_the_first_column(read):
    assert list(read("run,AP\na,1\n", encoding="utf-8-sig")) == ["run", "AP"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "line 1: no column run, AP"),
        ("run\na\n", "line 1: no column AP"),
        ("run,AP,AP\na,1,2\n", "line 1: duplicate column AP; keep one"),
        ("run,AP\na,1\nb\n", "line 3: has 1 fields, the header 2"),
        ("run,AP\na,1,2\nb,1,2\n", "line 2: has 3 fields, the header 2"),
        ("run,AP\n\na,1\n", "line 2: has 0 fields"),
        ('run,AP\na,"1\n', "not readable as CSV"),
        ('run,AP\na,"1"2\n', "not readable as CSV"),
    ],
)
def test_a_broken_file_is_refused_with_its_line(read, tmp_path, text, said):
    with pytest.raises(BrokenError) as caught:
        read(text)
    assert str(caught.value).startswith(f"{tmp_path / 'file.csv'}: ") and said in str(caught.value)


def test_pandas_alone_would_have_shifted_or_filled_cells(read, tmp_path):
    with pytest.raises(BrokenError):
        read("run,AP\na,1,2\n")
    assert pd.read_csv(tmp_path / "file.csv")["run"].tolist() == [1]  # a's own value


def test_what_cannot_be_read_is_refused(tmp_path):
    (tmp_path / "latin.csv").write_bytes("run,AP\nä,1\n".encode("latin-1"))
    for path in (tmp_path / "latin.csv", tmp_path / "missing.csv", tmp_path):
        with pytest.raises(BrokenError, match=f"^{path}: not readable as CSV"):
            read_csv(path, BrokenError, [])
