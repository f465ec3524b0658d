"""The floors of docs/architecture.md: no package imports one above it; each knows only its own libraries."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# From the lowest to the highest. A package imports from lower floors, or from its own.
FLOORS = [
    {"errors", "parent"},
    {"files", "stack"},
    {"ranks", "distributed", "positives", "run"},
    {"coefficients"},
    {"loss", "coco", "plan"},
    {"data", "analysis", "ranking", "integrations"},
    {"heads"},
    {"engine", "tables"},
    {"report"},
    {"cli"},
]
TORCH_ALONE = {"torch", "numpy", "scipy"}  # the CPU's isotonic regression is SciPy's
HOSTS = {"torch", "mmdet", "mmengine", "mmcv"}


def imports(package):
    """Names of everything that the modules of a package import."""
    path = ROOT / "corrloss" / package
    for file in path.rglob("*.py") if path.is_dir() else [path.with_suffix(".py")]:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_every_package_is_on_a_floor():
    package = ROOT / "corrloss"
    found = {path.parent.name for path in package.glob("*/__init__.py")}
    found |= {path.stem for path in package.glob("[!_]*.py")}
    assert found == set().union(*FLOORS)


@pytest.mark.parametrize("floor", range(len(FLOORS)))
def test_no_import_goes_up(floor):
    above = set().union(*FLOORS[floor + 1 :])
    for package in FLOORS[floor]:
        own = {name.split(".")[1] for name in imports(package) if name.startswith("corrloss.")}
        others = FLOORS[floor] - {package}
        assert not own & (above | others), package


@pytest.mark.parametrize("package", ["ranks", "distributed", "coefficients", "loss", "positives"])
def test_the_loss_knows_torch_alone(package):
    outside = {name.split(".")[0] for name in imports(package)} - set(sys.stdlib_module_names)
    assert outside <= TORCH_ALONE | {"corrloss"}


def test_integrations_know_torch_and_their_hosts():
    outside = {name.split(".")[0] for name in imports("integrations")} - set(sys.stdlib_module_names)
    assert outside == {"torch", "corrloss", "torchvision", "transformers", "ultralytics"}


@pytest.mark.parametrize("package", ["coco", "analysis", "tables"])
def test_measures_and_tables_know_neither_torch_nor_mmdet(package):
    assert not HOSTS & {name.split(".")[0] for name in imports(package)}


def test_nothing_knows_snakemake():
    assert not {
        name for floor in FLOORS for package in floor for name in imports(package) if "snakemake" in name
    }
