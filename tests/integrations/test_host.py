"""Hosts that are missing, too old, too new or broken; the same versions in the package's extras."""

import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import torch
from packaging.requirements import Requirement

from corrloss.integrations import host
from corrloss.integrations.host import IntegrationError, aligned_ious, host_imports

ROOT = Path(__file__).parents[2]
every_host = pytest.mark.parametrize("name", host.VERSIONS)


@every_host
def test_a_missing_host_names_the_extra(name, monkeypatch):
    def version(_name):
        raise metadata.PackageNotFoundError

    monkeypatch.setattr(metadata, "version", version)
    with (
        pytest.raises(IntegrationError, match=rf"is not installed; .*pip install 'corrloss\[{name}\]'"),
        host_imports(name),
    ):
        pass


@every_host
def test_only_tested_versions_are_accepted(name, monkeypatch):
    first, end = host.VERSIONS[name]
    for version in (first, f"{first}+cpu", f"{first}.1", f"{end}rc1".replace(end, "0.0.1"), end, "99.0"):
        monkeypatch.setattr(metadata, "version", lambda _name, version=version: version)
        if version.startswith(first):
            with host_imports(name):
                pass
        else:
            with (
                pytest.raises(
                    IntegrationError, match=rf"tested versions\), but {name} {version} is installed"
                ),
                host_imports(name),
            ):
                pass


@every_host
def test_a_host_that_does_not_import_is_an_error_with_its_reason(name, monkeypatch):
    monkeypatch.setattr(metadata, "version", lambda _name: host.VERSIONS[name][0])
    with (
        pytest.raises(IntegrationError, match="does not import: No module named 'nowhere'"),
        host_imports(name),
    ):
        import nowhere  # noqa: F401


@every_host
def test_the_extras_have_the_tested_versions(name):
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    (requirement,) = [each for each in map(Requirement, extras[name]) if each.name == name]
    first, end = host.VERSIONS[name]
    assert {str(part) for part in requirement.specifier} == {f">={first}", f"<{end}"}


@every_host
def test_an_integration_imports_its_host_and_nothing_of_the_bench(name):
    pytest.importorskip(name)
    code = (
        f"import corrloss.integrations.{name}, sys\n"
        "print({'mmdet', 'mmcv', 'mmengine', 'snakemake', 'corrloss.plan', 'corrloss.coco'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.splitlines()[-1] == "set()"


def test_ious_of_pairs_in_any_unit():
    boxes = torch.tensor([[0.0, 0, 2, 2], [0, 0, 1, 1], [0, 0, 0, 0], [5, 5, 6, 6]])
    targets = torch.tensor([[1.0, 0, 3, 2], [0, 0, 1, 1], [0, 0, 0, 0], [0, 0, 1, 1]])
    expected = torch.tensor([1 / 3, 1, 0, 0])
    for unit in (1.0, 1e-5, 1e5):
        torch.testing.assert_close(aligned_ious(boxes * unit, targets * unit), expected)
