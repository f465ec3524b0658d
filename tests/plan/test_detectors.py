"""Loading config files, and what is kept of them on disk."""

import pytest
from toy_project import ROOT

from corrloss.plan.detectors import load_settings, read_settings
from corrloss.plan.experiments import Experiments
from corrloss.plan.schema import ExperimentError


@pytest.fixture
def toy(project):
    return project / "experiments" / "detectors" / "toy.py"


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


def kept(cache):
    return sorted(cache.iterdir())


def test_what_is_kept_equals_what_was_loaded(toy, cache, forget, monkeypatch):
    fresh = load_settings(toy)
    assert load_settings(toy, cache) == fresh and len(kept(cache)) == 1
    forget()
    monkeypatch.setattr("corrloss.plan.detectors._load", None)  # the disk alone answers
    again = load_settings(toy, cache)
    assert again == fresh
    assert isinstance(again["images"]["pipeline"][0]["scale"], tuple)


@pytest.mark.parametrize("text", ["", "{'model': {'type': 'To", "{'a': 1}}", "\0"])
def test_a_damaged_file_is_loaded_again_and_mended(toy, cache, forget, text):
    fresh = load_settings(toy, cache)
    (path,) = kept(cache)
    whole = path.read_text()
    path.write_text(text)
    forget()
    assert load_settings(toy, cache) == fresh
    assert kept(cache) == [path] and path.read_text() == whole


@pytest.mark.parametrize("name", ["detectors/toy.py", "detectors/other.py", "datasets/shapes.py"])
def test_any_change_of_a_config_file_is_another_key(toy, cache, forget, name):
    load_settings(toy, cache)
    path = toy.parents[1] / name
    path.write_text(path.read_text() + "added = 1\n" if path.exists() else "added = 1\n")
    forget()
    assert load_settings(toy, cache).get("added") == (1 if path == toy else None)
    assert len(kept(cache)) == 2


def test_a_base_in_another_folder_is_not_answered_from_an_old_file(toy, cache, forget):
    toy.write_text('_base_ = "../datasets/shapes.py"\n')
    assert load_settings(toy, cache)["folder"] == "shapes"
    (toy.parents[1] / "datasets" / "shapes.py").write_text('folder = "moved"\n')
    forget()
    assert load_settings(toy, cache)["folder"] == "moved"


def test_files_of_one_name_in_two_folders_are_kept_apart(toy, cache):
    (toy.parents[1] / "datasets" / "toy.py").write_text("width = 1\n")
    assert "model" in load_settings(toy, cache)
    assert load_settings(toy.parents[1] / "datasets" / "toy.py", cache) == {"width": 1}


def test_another_mmdet_is_another_key(toy, cache, forget, monkeypatch):
    load_settings(toy, cache)
    forget()
    monkeypatch.setattr("corrloss.plan.detectors.version_of", lambda name: "9.9")
    load_settings(toy, cache)
    forget()
    assert len(kept(cache)) == 2


def test_a_real_detector_is_kept_whole(cache, forget):
    path = ROOT / "experiments" / "detectors" / "sparse_rcnn.py"
    fresh = load_settings(path, cache)
    forget()
    assert load_settings(path, cache) == fresh
    assert len(fresh["model"]["roi_head"]["bbox_head"]) == 6


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("model = dict(\n", "SyntaxError"),
        ("model = dict(width=wide)\n", "name 'wide' is not defined"),
        ('_base_ = "./nowhere.py"\n', "nowhere.py"),
        ('_base_ = "mmdet::atss/nowhere.py"\n', "nowhere"),
        ("model = dict(scale=float('inf'))\n", "at model: must be plain"),
        ("model = dict(width=float('nan'))\n", "at model: must be plain"),
        ("model = dict(make=lambda: 1)\n", "at model: must be plain"),
        ("model = dict(kind=int)\n", "at model: must be plain"),
    ],
)
def test_what_is_no_config_is_refused_with_its_name(toy, cache, text, said):
    toy.write_text(text)
    for where in (None, cache):
        with pytest.raises(ExperimentError) as caught:
            load_settings(toy, where)
        assert str(caught.value).startswith(f"{toy}: ") and said in str(caught.value)
    assert not cache.exists()


@pytest.mark.parametrize("name", ["tyo", "", "../detectors/toy", "toy.py", "x" * 300, "a\0b"])
def test_a_missing_file_is_refused_with_those_that_there_are(project, name):
    with pytest.raises(ExperimentError, match=r"\.py: no such file; there are toy$"):
        read_settings(Experiments(project), "detector", name)


def test_settings_are_held_against_their_schema(project, toy):
    experiments = Experiments(project)
    assert read_settings(experiments, "dataset", "shapes")["classes"] == ("circle", "square")
    toy.write_text("model = dict(type='Toy')\n")
    with pytest.raises(ExperimentError, match="'correlation' is missing: where Correlation Loss goes"):
        read_settings(experiments, "detector", "toy")
