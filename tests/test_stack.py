"""Versions of mmdet's stack under the names of either maker."""

from importlib.metadata import PackageNotFoundError

import pytest

from corrloss import stack


def installed(versions):
    def version(name):
        if name not in versions:
            raise PackageNotFoundError(name)
        return versions[name]

    return version


@pytest.mark.parametrize(
    ("versions", "found"),
    [({"mmdet": "3.3.0"}, "3.3.0"), ({"onedl-mmdetection": "3.5.1"}, "3.5.1 (onedl)")],
)
def test_the_version_is_found_under_the_import_name(versions, found, monkeypatch):
    monkeypatch.setattr(stack, "version", installed(versions))
    assert stack.version_of("mmdet") == found


@pytest.mark.parametrize("package", ["mmdet", "torch"])
def test_what_is_not_installed_is_an_error(package, monkeypatch):
    monkeypatch.setattr(stack, "version", installed({}))
    with pytest.raises(PackageNotFoundError):
        stack.version_of(package)
