"""The loss where only torch, and what torch itself needs, can be imported: no mmdet, NumPy or pandas."""

import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# What torch itself imports besides the standard library.
TORCH_AND_ITS_NEEDS = (
    "torch", "torchgen", "functorch", "typing_extensions", "sympy", "mpmath", "networkx", "jinja2",
    "markupsafe", "filelock", "fsspec",
)  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Runs code in a Python whose only packages are torch's and this one."""
    site, here = tmp_path_factory.mktemp("site"), Path(sysconfig.get_paths()["purelib"])
    for name in TORCH_AND_ITS_NEEDS:
        for path in (here / name, here / f"{name}.py"):
            if path.exists():
                (site / path.name).symlink_to(path)
    (site / "corrloss").symlink_to(ROOT / "corrloss")

    def run(code: str) -> subprocess.CompletedProcess:
        start = f"import sys; sys.path.insert(0, {str(site)!r})\n"
        command = [sys.executable, "-I", "-S", "-W", "ignore", "-c", start + code]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    return run


@pytest.mark.parametrize(
    "name", ["mmdet", "mmengine", "mmcv", "numpy", "scipy", "pandas", "snakemake", "yaml"]
)
def test_there_is_nothing_but_torch(run, name):
    done = run(f"import {name}")
    assert done.returncode == 1
    assert f"No module named '{name}'" in done.stderr


def test_the_example_trains_with_torch_alone_and_the_loss_raises_the_correlation(run):
    example = ROOT / "docs" / "examples" / "plain_pytorch.py"
    done = run(
        f"""
import runpy
import torch
torch.set_num_threads(1)
example = runpy.run_path({str(example)!r})
results = [example["evaluate"](example["train"](weight, 150)) for weight in (0.0, 1.0)]
print(*[value for result in results for value in result])
"""
    )
    assert done.returncode == 0, done.stderr
    without, iou_without, with_loss, iou_with = map(float, done.stdout.split())
    assert with_loss > without + 0.03
    assert iou_with > iou_without - 0.03 > 0.3


def test_all_that_is_exported_works_with_torch_alone(run):
    done = run(
        """
import corrloss, torch
scores, ious = torch.rand(2, 20).double().requires_grad_().unbind()
for name in ("pearson", "concordance", "spearman", "spearman_exact"):
    loss = corrloss.CorrelationLoss(name, weight=0.5)(scores, ious)
    assert 0 <= loss <= 1 and loss.requires_grad
    getattr(corrloss, name)(scores, ious)
for scope in ("level", "image"):
    ids = {scope: torch.arange(20) % 3}
    corrloss.CorrelationLoss(scope=scope)(scores, ious, **ids).backward(retain_graph=True)
corrloss.soft_rank(scores, 0.1)
"""
    )
    assert done.returncode == 0, done.stderr
