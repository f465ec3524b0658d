"""The digest of the code behind a run: what changes it, and what does not."""

import os
import py_compile
import shutil
import subprocess
import sys

import pytest

from corrloss.plan import code


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A copy of the package to edit; the digests are of the copy."""
    copy = tmp_path / "corrloss"
    shutil.copytree(code.PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(code, "PACKAGE", copy)
    forget()
    yield copy
    forget()


def forget():
    for cached in (code.digest_of, code._homes, code._imported, code._meaning, code._tree):
        cached.cache_clear()


def edited(package, name, old, new):
    path = package / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    forget()


BASELINE = {"bbox_head": {"type": "CorrelationATSSHead", "loss_cls": {"type": "FocalLoss"}}}
WITH_LOSS = {"bbox_head": BASELINE["bbox_head"] | {"loss_corr": {"type": "CorrelationLoss"}}}
RETINANET = {"bbox_head": {"type": "CorrelationRetinaHead"}}


def test_mmdets_own_detector_depends_on_no_code_of_ours():
    assert code.code_of({"type": "ATSS", "bbox_head": {"type": "ATSSHead"}}) == ""


def test_the_loss_and_the_head_are_part_of_it():
    assert len({code.code_of(model) for model in (BASELINE, WITH_LOSS, RETINANET)}) == 3


@pytest.mark.parametrize(
    ("name", "old", "new", "stale"),
    [
        ("loss.py", "self.weight * (1", "2 * self.weight * (1", {"with loss"}),
        ("coefficients.py", "import ", "import math as unused_name\nimport ", {"with loss"}),
        (
            "heads/head_positives.py",
            "MIN_IOU = 1e-6",
            "MIN_IOU = 1e-5",
            {"baseline", "with loss", "retinanet"},
        ),
        ("heads/atss.py", "=None, **kwargs)", "=1, **kwargs)", {"baseline", "with loss"}),
        ("heads/retinanet.py", "reshape(-1, 4)", "reshape(-1, 5)", {"retinanet"}),
        ("heads/paa.py", "square()", "abs()", set()),
        ("coco/annotations.py", "import ", "import math as unused_name\nimport ", set()),
        ("loss.py", "import torch\n", "# a remark\nimport torch\n", set()),
        ("loss.py", "The loss of the positives.", "The loss of the positives, in other words.", set()),
    ],
)  # fmt: skip
def test_an_edit_makes_stale_what_depends_on_it_and_no_more(package, name, old, new, stale):
    models = {"baseline": BASELINE, "with loss": WITH_LOSS, "retinanet": RETINANET}
    before = {kind: code.code_of(model) for kind, model in models.items()}
    edited(package, name, old, new)
    after = {kind: code.code_of(model) for kind, model in models.items()}
    assert {kind for kind in models if before[kind] != after[kind]} == stale


def test_what_a_package_re_exports_counts_where_it_is_imported(package):
    analysis = (code.PACKAGE / "analysis" / "ap.py",)
    before = code.digest_of(analysis)
    edited(package, "coco/annotations.py", "import ", "import math as unused_name\nimport ")
    assert code.digest_of(analysis) != before
    before = code.digest_of(analysis)
    edited(package, "coco/submission.py", "import ", "import math as unused_name\nimport ")
    assert code.digest_of(analysis) == before


def test_an_edit_of_the_same_size_and_time_is_what_runs(package):
    path = package / "errors.py"
    path.write_text("VALUE = 1\n")
    py_compile.compile(str(path))
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns
    path.write_text("VALUE = 2\n")
    os.utime(path, ns=times)

    def imported():
        command = [sys.executable, "-c", "from corrloss.errors import VALUE; print(VALUE)"]
        return subprocess.run(command, cwd=package.parent, capture_output=True, text=True, check=True).stdout

    assert imported() == "1\n"  # Python's own check is fooled
    code.digest_of((path,))
    assert imported() == "2\n"


def test_the_digest_does_not_depend_on_the_version_of_python(package):
    """`ast.dump` of Python 3.12 and of 3.13 write other texts; results would go stale with a new Python."""
    path = package / "errors.py"
    path.write_text("def f(): pass\nclass C: pass\n")
    forget()
    function = (
        "FunctionDef(name='f', args=arguments(posonlyargs=[], args=[], kwonlyargs=[], kw_defaults=[], "
        "defaults=[]), body=[Pass()], decorator_list=[])"
    )
    of_class = "ClassDef(name='C', bases=[], keywords=[], body=[Pass()], decorator_list=[])"
    assert code._meaning(path) == f"Module(body=[{function}, {of_class}], type_ignores=[])"
