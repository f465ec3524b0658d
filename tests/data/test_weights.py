"""Weights from a server of our own: whole, damaged, cut off and fetched again."""

import hashlib

import pytest
from test_download import CONTENT, SIZE, host  # noqa: F401 -- a fixture

from corrloss.data.download import DownloadError, fetch_weights
from corrloss.plan.pretrained import checksum_of

NAME = f"toynet50-{hashlib.sha256(CONTENT).hexdigest()[:8]}.pth"


@pytest.fixture
def fetch(host, tmp_path):  # noqa: F811
    host.files[f"/models/{NAME}"] = CONTENT
    host.files["/models/toynet50.pth"] = CONTENT

    def fetch(name=NAME):
        return fetch_weights(f"{host.url}/models/{name}", tmp_path / "weights" / name, progress=False)

    return fetch


def test_weights_are_fetched_once_and_checked(fetch, host, tmp_path):  # noqa: F811
    assert fetch() and fetch()
    assert (tmp_path / "weights" / NAME).read_bytes() == CONTENT
    assert len(host.ranges) == 1


def test_weights_that_do_not_fit_their_name_are_refused_and_removed(fetch, host, tmp_path):  # noqa: F811
    host.files[f"/models/{NAME}"] = CONTENT[:-1] + b"!"
    with pytest.raises(DownloadError, match=rf"SHA256 \w+, published is {checksum_of(NAME)}"):
        fetch()
    assert list((tmp_path / "weights").iterdir()) == []


def test_a_cut_connection_is_resumed(fetch, host, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setattr("time.sleep", lambda _: None)
    host.moods = [("cut", 300_000), 503]
    assert fetch()
    assert host.ranges == [None, "bytes=300000-", "bytes=300000-"]
    assert (tmp_path / "weights" / NAME).stat().st_size == SIZE


def test_weights_that_were_damaged_on_the_disk_are_refused(fetch, tmp_path):
    fetch()
    (tmp_path / "weights" / NAME).write_bytes(CONTENT[:100])
    with pytest.raises(DownloadError, match="It is removed; call again"):
        fetch()
    assert fetch()


def test_a_name_without_a_checksum_is_said_to_be_unchecked(fetch):
    assert fetch("toynet50.pth") is False
