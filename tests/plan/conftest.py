import os

import pytest
from hypothesis import settings
from toy_project import ROOT, write_project

from corrloss.plan.detectors import _fingerprint, load_settings
from corrloss.plan.settings import Settings

# A machine under load is no failure.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")


@pytest.fixture
def project(tmp_path):
    """Root of the small project."""
    return write_project(tmp_path / "project")


@pytest.fixture
def forget():
    """Forget the files that were read, as a new process would."""

    def forget_all():
        load_settings.cache_clear()
        _fingerprint.cache_clear()

    return forget_all


@pytest.fixture
def real_settings(configs_cache):
    """Settings of the project itself; config files that were loaded once are loaded for all tests."""
    return lambda *pairs: Settings.load(ROOT, [f"results={configs_cache}", *pairs])


@pytest.fixture(scope="session")
def configs_cache(tmp_path_factory):
    """A results folder for load_matrix; what is loaded once is loaded for all tests of all workers."""
    base = tmp_path_factory.getbasetemp()
    return (base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base) / "configs"
