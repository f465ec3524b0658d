"""Settings that Snakemake itself reads: a wrong one ends the call with one message, and soon."""

import resource

import pytest
from bad_input.experiments import BOMB
from project import Project

BAD_FILES = {
    "aliases that multiply": (BOMB, "at most 50 levels and 100000 nodes"),
    "50,000 brackets": ("[" * 50_000, "expected at most 50 levels"),
    "another byte order": ("scale: smoke\n".encode("utf-16"), "not readable as YAML"),
    "a list": ("- scale: smoke\n", "expected a mapping `key: value`"),
}
BAD_FOLDERS = {
    "results=/dev/null": "Not a directory: '/dev/null/.cache'",
    f"results={'x' * 300}": "File name too long",
    "data_root=": "at data_root: expected the name of a folder",
}


def assert_refused(project, message, *config):
    """The message is the end of the call: no traceback of Python, 20 s of CPU at most."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    done = project.snakemake("-n", config=config)
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before < 20
    assert done.returncode == 1 and "Traceback" not in done.stdout, done.stdout
    assert done.stdout.count("WorkflowError") == 1 and message in done.stdout, done.stdout


@pytest.mark.parametrize("name", BAD_FILES)
def test_the_file_of_settings_is_read_within_bounds(tmp_path, name):
    project = Project(tmp_path)
    content, message = BAD_FILES[name]
    content = content if isinstance(content, bytes) else content.encode()
    (tmp_path / "config/config.yaml").write_bytes(content)
    assert_refused(project, message)


@pytest.mark.parametrize("setting", BAD_FOLDERS)
def test_a_folder_that_cannot_be_made_is_one_message(tmp_path, setting):
    assert_refused(Project(tmp_path), BAD_FOLDERS[setting], setting)
