import pytest

from corrloss.plan.schema import ExperimentError, check
from corrloss.plan.yaml_files import names, read_yaml

SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "required": ["size"],
    "anyOf": [{"required": ["box"]}, {"required": ["masks"]}],
    "properties": {
        "size": {"type": "integer", "minimum": 1, "description": "pixels of a side"},
        "box": {"enum": ["none", "tight"]},
        "masks": {"type": ["boolean", "null"]},
        "parts": {"type": "array", "items": {"type": "string"}},
        "deep": {"type": "object"},
    },
}
GOOD = "size: 2\nbox: tight\n"


@pytest.fixture
def written(tmp_path):
    def write(text, name="file"):
        path = tmp_path / f"{name}.yaml"
        path.write_text(text)
        return path

    return write


def refusal(path):
    with pytest.raises(ExperimentError) as caught:
        read_yaml(path, SCHEMA)
    return str(caught.value)


def test_what_fits_is_returned(written):
    assert read_yaml(written(GOOD + "parts: [a, b]\n"), SCHEMA) == {
        "size": 2,
        "box": "tight",
        "parts": ["a", "b"],
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("size: 2\nbxo: tight\n", ": unknown key 'bxo'; valid keys: box, deep, masks, parts, size"),
        (GOOD + "colour: red\n", "unknown key 'colour'; valid keys: box, deep, masks, parts, size"),
        ("box: tight\n", "'size' is missing: pixels of a side"),
        ("size: 2\n", "expected one of the keys box, masks"),
        ("size: 2\nbox: loose\n", "at box: expected one of none, tight, got 'loose'"),
        ("size: two\nbox: none\n", "at size: expected a whole number, got 'two'"),
        ("size: true\nbox: none\n", "at size: expected a whole number, got True"),
        ("size: 0\nbox: none\n", "at size: 0 is less than the minimum of 1"),
        ("size: 2\nmasks: 1\n", "at masks: expected true or false or nothing, got 1"),
        (GOOD + "parts: [a, 1]\n", "at parts[1]: expected text, got 1"),
        (GOOD + f"parts: {'x' * 500}\n", "…"),
        ("- 1\n", "expected a mapping, got [1]"),
        ("", "expected a mapping, got nothing"),
        ("size: 1\nsize: 2\nbox: none\n", "duplicate key 'size'"),
        (GOOD + "deep: {a: {b: 1, b: 2}}\n", "duplicate key 'b'"),
        (GOOD + "deep: {a: .inf}\n", "expected a finite number, got .inf"),
        (GOOD + "deep: {? [1] : 2}\n", "unhashable"),
        (GOOD + "deep:\n\tsize: 1\n", "line 4"),
        ("size: [1\n", "line 2"),
        (GOOD + "extends: other\n", "at extends: expected one of , got 'other'"),
        (GOOD + "extends: [file]\n", "at extends: expected one of , got ['file']"),
    ],
)
def test_a_refusal_names_file_and_place(written, text, said):
    path = written(text)
    message = refusal(path)
    assert message.startswith(f"{path}: ") and said in message
    assert len(message) < 400


def test_all_breaches_are_listed(written):
    message = refusal(written("size: 0\nbox: loose\ncolour: red\n"))
    assert len(message.splitlines()) == 3


def test_a_missing_file_is_refused_with_those_that_there_are(written, tmp_path):
    written(GOOD, "one"), written(GOOD, "two")
    assert refusal(tmp_path / "three.yaml") == f"{tmp_path}/three.yaml: no such file; there are one, two"


def test_a_folder_and_other_bytes_are_refused(tmp_path):
    path = tmp_path / "folder.yaml"
    path.mkdir()
    assert str(path) in refusal(path)
    path = tmp_path / "latin.yaml"
    path.write_bytes("box: ä".encode("latin-1"))
    assert str(path) in refusal(path)


def test_anchors_and_merge_keys_are_not_keys_that_stand_twice(written):
    text = "size: 1\nbox: none\ndeep:\n  a: &a {x: 1, y: 2}\n  b: {<<: *a, y: 3}\n  c: {<<: *a}\n"
    deep = read_yaml(written(text), SCHEMA)["deep"]
    assert deep == {"a": {"x": 1, "y": 2}, "b": {"x": 1, "y": 3}, "c": {"x": 1, "y": 2}}


def test_extends_merges_mappings_and_replaces_the_rest(written):
    written("size: 1\nbox: none\nparts: [a, b]\ndeep: {a: {x: 1, y: 2}, b: 3}\n", "lowest")
    written("extends: lowest\nsize: 2\n", "middle")
    path = written("extends: middle\nparts: [c]\ndeep: {a: {x: 9}, b: {z: 4}}\n", "top")
    assert read_yaml(path, SCHEMA) == {
        "size": 2,
        "box": "none",
        "parts": ["c"],
        "deep": {"a": {"x": 9, "y": 2}, "b": {"z": 4}},
    }


def test_a_fault_in_what_is_extended_is_found_by_its_name(written):
    written("size: 0\nbox: none\n", "base")
    path = written("extends: base\nbox: tight\n", "top")
    assert refusal(path) == f"{path} (extends base): at size: 0 is less than the minimum of 1"
    broken = written("- 1\n", "base")
    assert refusal(path) == f"{path}: at extends: expected a mapping in {broken}, got [1]"
    written("extends: nowhere\n", "base")
    assert "base.yaml: at extends: expected one of top, got 'nowhere'" in refusal(path)


def test_a_circle_of_extends_is_refused(written):
    written("extends: two\n", "one"), written("extends: three\n", "two")
    path = written("extends: one\n", "three")
    assert refusal(path).endswith("extend each other: three -> one -> two -> three; remove one `extends`")


def test_tuples_pass_for_lists_and_a_forbidden_key_is_in_the_place():
    schema = {"properties": {"a": {"type": "array", "items": {"properties": {"b": False}}}}}
    check({"a": ({}, {})}, schema, "here")
    with pytest.raises(ExperimentError, match=r"^here: at a\[1\]\.b: not allowed together with"):
        check({"a": ({}, {"b": 1})}, schema, "here")


def test_names_are_sorted_and_of_one_kind(tmp_path):
    for name in ("b.yaml", "a.yaml", "c.py"):
        (tmp_path / name).touch()
    assert names(tmp_path, ".yaml") == ["a", "b"]


@pytest.mark.parametrize("name", ["a b.yaml", "a;touch x.yaml", "$(touch x).yaml", "a-b.yaml", "{b}.yaml"])
def test_a_name_that_a_shell_might_take_apart_is_refused(tmp_path, name):
    (tmp_path / name).touch()
    with pytest.raises(ExperimentError) as caught:
        names(tmp_path, ".yaml")
    assert str(caught.value).startswith(
        f"{tmp_path / name}: expected a name of letters, digits and underscores, got "
    )


def test_hidden_files_are_left_alone(tmp_path):
    (tmp_path / ".#table.yaml").touch()
    assert names(tmp_path, ".yaml") == []
