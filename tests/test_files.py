import csv
import json
import threading

import pandas as pd
import pytest

from corrloss.files import atomic_write, write_csv, write_json


def left(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_whole_at_the_end(tmp_path):
    path = tmp_path / "new" / "folder" / "file.txt"
    with atomic_write(path) as temporary:
        temporary.write_text("half")
        assert not path.exists() and temporary.parent == path.parent  # a rename within one file system
        temporary.write_text("whole")
    assert path.read_text() == "whole"
    assert left(path.parent) == ["file.txt"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_failure_leaves_nothing_new(tmp_path, error):
    path = tmp_path / "file.txt"
    with pytest.raises(error), atomic_write(path) as temporary:
        temporary.write_text("half")
        raise error
    assert left(tmp_path) == []


def test_a_failure_leaves_the_old_file_as_it_was(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(ValueError, match="oh"), atomic_write(path) as temporary:
        temporary.write_text("half of the new")
        raise ValueError("oh")
    assert path.read_text() == "old" and left(tmp_path) == ["file.txt"]


def test_a_file_that_was_not_written_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError), atomic_write(tmp_path / "file.txt"):
        pass
    assert left(tmp_path) == []


def test_what_was_there_is_replaced_and_never_half_there(tmp_path):
    """A reader beside the writer sees one of the whole texts, at every moment."""
    path = tmp_path / "file.txt"
    texts = {letter * 100_000 for letter in "ab"}
    path.write_text("a" * 100_000)
    seen, done = set(), threading.Event()

    def read():
        while not done.is_set():
            seen.add(path.read_text())

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(50):
        for text in sorted(texts):
            with atomic_write(path) as temporary:
                temporary.write_text(text)
    done.set()
    reader.join()
    assert seen <= texts and path.read_text() == "b" * 100_000


def test_json_is_the_same_bytes_whatever_the_order_of_keys(tmp_path):
    write_json(tmp_path / "one.json", {"b": [1, None, 2.5], "a": "λ"})
    write_json(tmp_path / "two.json", {"a": "λ", "b": [1, None, 2.5]})
    text = (tmp_path / "one.json").read_text()
    assert text == (tmp_path / "two.json").read_text() and text.endswith("}\n")
    assert json.loads(text) == {"a": "λ", "b": [1, None, 2.5]}


def test_what_is_no_json_leaves_nothing(tmp_path):
    with pytest.raises(TypeError):
        write_json(tmp_path / "file.json", {"a": object()})
    assert left(tmp_path) == []


def test_two_writers_of_one_file_use_different_temporary_files(tmp_path):
    """Also with equal process ids, as on two hosts or in two containers."""
    with atomic_write(tmp_path / "file.txt") as one, atomic_write(tmp_path / "file.txt") as other:
        assert one != other
        one.write_text("one"), other.write_text("other")
    assert left(tmp_path) == ["file.txt"]


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", '=HYPERLINK("x")'])
def test_no_cell_and_no_heading_of_a_csv_file_is_a_formula(tmp_path, text):
    write_csv(tmp_path / "a.csv", pd.DataFrame({"name": [text, "a=1", None], text: [-1.5, 2.0, None]}))
    with (tmp_path / "a.csv").open(newline="") as file:
        heading, *rows = csv.reader(file)
    assert heading == ["name", f"'{text.strip()}"]
    assert rows == [[f"'{text.strip()}", "-1.5"], ["a=1", "2"], ["", ""]]  # a negative number stays one


def test_text_in_a_csv_file_is_one_line(tmp_path):
    write_csv(tmp_path / "a.csv", pd.DataFrame({"a": ["x\r=1", "y\n=1", "z\u2028=1"]}))
    assert (tmp_path / "a.csv").read_text() == "a\nx =1\ny =1\nz =1\n"
