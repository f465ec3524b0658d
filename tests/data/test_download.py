"""Downloads from a server of our own on the loopback interface: cut off, damaged, refused, resumed."""

import hashlib
import io
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from cityscapesscripts.download import downloader
from typer.testing import CliRunner

from corrloss.cli import app
from corrloss.data import download as module
from corrloss.data.download import (
    COCO_2017,
    Archive,
    DownloadError,
    download,
    download_cityscapes,
    download_coco,
    missing_parts,
    unpack,
)

ROOT = Path(__file__).parents[2]
CONTENT = bytes(range(256)) * 4096  # 1 MiB
MD5 = hashlib.md5(CONTENT).hexdigest()
SIZE = len(CONTENT)


class Host(ThreadingHTTPServer):
    """Serves `files`; `moods` is what it does to the next requests, one each, then it behaves.

    A mood is a status code to answer with, "ignore range", "no length", or ("cut", n): close after n bytes.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files, self.moods, self.ranges = {"/a.zip": CONTENT}, [], []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        mood = self.server.moods.pop(0) if self.server.moods else None
        wanted = self.headers.get("Range")
        self.server.ranges.append(wanted)
        if isinstance(mood, int) or self.path not in self.server.files:
            self.send_error(mood if isinstance(mood, int) else 404)
            return
        content, start = self.server.files[self.path], 0
        if wanted and mood != "ignore range":
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(content):
                self.send_error(416)
                return
        self.send_response(206 if start else 200)
        if start:  # which HTTP demands of a 206
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        if mood != "no length":
            self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        end = start + mood[1] if isinstance(mood, tuple) else None
        self.wfile.write(content[start:end])

    def log_message(self, *args):
        pass


@pytest.fixture
def host(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = Host()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def fetch(host, tmp_path):
    """Fetch /a.zip, without waiting between tries."""

    def fetch(**options):
        options = {"md5": MD5, "size": SIZE, "progress": False, "wait": 0} | options
        download(f"{host.url}/a.zip", tmp_path / "a.zip", **options)
        return (tmp_path / "a.zip").read_bytes()

    return fetch


def test_a_file_is_fetched_whole(fetch, tmp_path):
    assert fetch() == CONTENT
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]


def test_a_file_that_is_there_is_not_fetched_again(fetch, host):
    fetch()
    fetch()
    assert host.ranges == [None]


@pytest.mark.parametrize("known", [{}, {"size": None}, {"md5": None}])
def test_a_cut_connection_is_resumed_where_it_was_cut(fetch, host, known):
    host.moods = [("cut", 300_000), ("cut", 500_000)]
    assert fetch(**known) == CONTENT
    assert host.ranges == [None, "bytes=300000-", "bytes=800000-"]


def test_a_later_call_goes_on_where_an_earlier_one_gave_up(fetch, host, tmp_path):
    host.moods = [("cut", 300_000), 503, 503]
    with pytest.raises(DownloadError, match=r"300,000 bytes are kept in .*a\.zip\.part"):
        fetch(patience=1)
    assert not (tmp_path / "a.zip").exists()
    assert fetch() == CONTENT
    assert host.ranges[-1] == "bytes=300000-"


def test_a_host_that_cannot_resume_is_asked_for_the_whole(fetch, host, tmp_path):
    (tmp_path / "a.zip.part").write_bytes(b"x" * 1000)
    host.moods = ["ignore range"]
    assert fetch() == CONTENT


def test_a_part_that_is_whole_already_is_only_checked(fetch, host, tmp_path):
    (tmp_path / "a.zip.part").write_bytes(CONTENT)
    assert fetch() == CONTENT
    assert host.ranges == []


def test_a_part_that_is_too_long_is_fetched_anew(fetch, host, tmp_path):
    (tmp_path / "a.zip.part").write_bytes(CONTENT + b"more")
    assert fetch() == CONTENT


def test_a_damaged_file_is_refused_removed_and_can_be_fetched_again(fetch, host, tmp_path):
    host.files["/a.zip"] = CONTENT[:-1] + b"!"
    with pytest.raises(DownloadError, match=rf"MD5 \w+, published is {MD5}"):
        fetch()
    assert list(tmp_path.iterdir()) == []
    host.files["/a.zip"] = CONTENT
    assert fetch() == CONTENT


def test_a_part_that_was_damaged_on_the_disk_is_refused(fetch, tmp_path):
    (tmp_path / "a.zip.part").write_bytes(b"x" * 1000)
    with pytest.raises(DownloadError, match="MD5"):
        fetch()
    assert fetch() == CONTENT


def test_a_finished_file_that_was_damaged_later_is_refused(fetch, tmp_path):
    (tmp_path / "a.zip").write_bytes(CONTENT[:100])
    with pytest.raises(DownloadError, match="100 bytes, published are 1,048,576"):
        fetch()


def test_another_file_is_refused_before_it_is_fetched(fetch, host, tmp_path):
    host.files["/a.zip"] = CONTENT * 2
    with pytest.raises(DownloadError, match="more than the published 1,048,576 bytes"):
        fetch()
    assert list(tmp_path.iterdir()) == []


def test_a_host_that_sends_more_than_it_announces_is_cut_off_at_the_published_size(fetch, host, tmp_path):
    host.files["/a.zip"] = CONTENT * 20
    host.moods = ["no length"]
    with pytest.raises(DownloadError, match="more than the published 1,048,576 bytes"):
        fetch()
    assert list(tmp_path.iterdir()) == []


def test_a_part_of_a_larger_file_is_not_filled_beyond_the_published_size(fetch, host, tmp_path):
    host.files["/a.zip"] = CONTENT * 2
    (tmp_path / "a.zip.part").write_bytes((CONTENT * 2)[: SIZE - 1000])
    with pytest.raises(DownloadError, match="more than the published 1,048,576 bytes"):
        fetch()


def test_coco_is_downloaded_by_https():
    assert module.COCO_HOST.startswith("https://")


@pytest.mark.parametrize("status", [403, 404])
def test_a_refusal_is_final_and_names_the_address(fetch, host, status):
    host.moods = [status]
    with pytest.raises(DownloadError, match=rf"a\.zip: the host answers {status}"):
        fetch()
    assert len(host.ranges) == 1


def test_a_busy_host_is_asked_again(fetch, host):
    host.moods = [503, 500, 429]
    assert fetch() == CONTENT


def test_no_host_at_all(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with pytest.raises(DownloadError, match=r"2 times without progress\. Check the network"):
        download("http://127.0.0.1:9/a.zip", tmp_path / "a.zip", patience=1, wait=0, progress=False)


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://host/a", "a.zip"])
def test_only_http_is_fetched(tmp_path, url):
    with pytest.raises(ValueError, match="http or https"):
        download(url, tmp_path / "a")


def test_without_curl_one_sentence_says_so(fetch, monkeypatch):
    monkeypatch.setattr(module.shutil, "which", lambda name: None)
    with pytest.raises(DownloadError, match="need the program curl"):
        fetch()


def test_a_whole_part_of_unknown_size_is_verified(fetch, tmp_path):
    (tmp_path / "a.zip.part").write_bytes(CONTENT)
    assert fetch(size=None) == CONTENT


def test_a_full_disk_is_seen_beforehand(fetch, monkeypatch):
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 1000}))
    with pytest.raises(DownloadError, match=r"no room for a\.zip\.part: 0\.0 GiB needed"):
        fetch()


# Unpacking --------------------------------------------------------------------------------------


def _zip(files, compression=zipfile.ZIP_STORED):
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return memory.getvalue()


@pytest.fixture
def archive(tmp_path):
    path = tmp_path / "val2017.zip"
    path.write_bytes(_zip({"val2017/1.jpg": b"one" * 1000, "val2017/2.jpg": b"two" * 1000}))
    return path


def test_unpacking_goes_on_where_it_stopped(archive, tmp_path):
    root = tmp_path / "coco"
    assert unpack(archive, root, progress=False) == ["val2017/1.jpg", "val2017/2.jpg"]
    (root / "val2017" / "2.jpg").write_bytes(b"half")
    kept = (root / "val2017" / "1.jpg").stat().st_mtime_ns
    unpack(archive, root, progress=False)
    assert (root / "val2017" / "2.jpg").read_bytes() == b"two" * 1000
    assert (root / "val2017" / "1.jpg").stat().st_mtime_ns == kept
    assert sorted(path.name for path in root.rglob("*")) == ["1.jpg", "2.jpg", "val2017"]


def test_a_damaged_archive_leaves_no_damaged_file(archive, tmp_path):
    content = bytearray(archive.read_bytes())
    content[content.index(b"two") + 50] ^= 1
    archive.write_bytes(content)
    with pytest.raises(DownloadError, match=r"val2017\.zip is damaged: Bad CRC-32"):
        unpack(archive, tmp_path / "coco", progress=False)
    assert [path.name for path in (tmp_path / "coco" / "val2017").iterdir()] == ["1.jpg"]


@pytest.mark.parametrize("cut", [0, 20, 3000, -10])
def test_an_archive_cut_off_is_refused(archive, tmp_path, cut):
    archive.write_bytes(archive.read_bytes()[:cut])
    with pytest.raises(DownloadError, match="is damaged"):
        unpack(archive, tmp_path / "coco", progress=False)


@pytest.mark.parametrize(
    "name", ["../evil.txt", "/tmp/evil.txt", "a/../../evil.txt", r"..\evil.txt", "C:/e.txt"]
)
def test_names_that_point_out_of_the_folder_are_refused(tmp_path, name):
    (tmp_path / "a.zip").write_bytes(_zip({"good.txt": b"1", name: b"2"}))
    with pytest.raises(DownloadError, match="points out of its folder"):
        unpack(tmp_path / "a.zip", tmp_path / "coco", progress=False)
    assert [path.name for path in tmp_path.rglob("*")] == ["a.zip"]


def test_links_are_refused(tmp_path):
    link = zipfile.ZipInfo("val2017")
    link.external_attr = 0o120777 << 16
    (tmp_path / "a.zip").write_bytes(_zip({link: b"/etc"}))
    with pytest.raises(DownloadError, match="points out of its folder"):
        unpack(tmp_path / "a.zip", tmp_path / "coco", progress=False)


# COCO and Cityscapes ----------------------------------------------------------------------------


@pytest.fixture
def little_coco(host, monkeypatch):
    files = {
        "val2017": ("zips/val2017.zip", _zip({"val2017/1.jpg": b"one"})),
        "annotations": ("annotations/annotations.zip", _zip({"annotations/instances_val2017.json": b"{}"})),
    }
    parts = {}
    for name, (path, content) in files.items():
        host.files[f"/{path}"] = content
        parts[name] = Archive(path, hashlib.md5(content).hexdigest(), len(content))
    monkeypatch.setattr(module, "COCO_2017", parts)
    return host


def test_coco_is_fetched_unpacked_and_then_left_alone(little_coco, tmp_path):
    for _ in range(2):
        download_coco(tmp_path, ("val2017", "annotations"), host=little_coco.url, progress=False)
    assert (tmp_path / "val2017" / "1.jpg").read_bytes() == b"one"
    assert (tmp_path / "annotations" / "instances_val2017.json").exists()
    assert not list(tmp_path.rglob("*.zip")) and not list(tmp_path.rglob("*.part"))
    assert len(little_coco.ranges) == 2


def test_a_copy_of_the_users_own_is_left_alone_and_an_interrupted_download_is_not(tmp_path):
    def missing():
        return missing_parts(tmp_path, ("val2017", "annotations"))

    assert missing() == ["val2017", "annotations"]
    for folder in ("val2017", "annotations", ".downloads"):
        (tmp_path / folder).mkdir()
    assert missing() == ["annotations"]  # an empty folder of images is for the check to judge
    for part in ("train", "val"):
        assert missing() == ["annotations"]
        (tmp_path / "annotations" / f"instances_{part}2017.json").write_text("{}")
    assert missing() == []
    for name in ("val2017.zip", "val2017.zip.part"):
        (tmp_path / ".downloads" / name).write_bytes(b"")
        assert missing() == ["val2017"]
        (tmp_path / ".downloads" / name).unlink()


def test_the_command_fetches_what_a_data_set_needs(little_coco, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "PARTS", {"coco": tuple(module.COCO_2017)})
    command = [
        "download",
        "coco",
        f"data_root={tmp_path}",
        f"results={tmp_path}",
        f"--host={little_coco.url}",
        f"--root={ROOT}",
    ]
    for _ in range(2):
        result = CliRunner().invoke(app, command)
        assert result.exit_code == 0, result.output
    assert (tmp_path / "coco" / "val2017" / "1.jpg").exists()
    assert len(little_coco.ranges) == 2


def test_a_folder_that_was_removed_is_fetched_again(little_coco, tmp_path):
    download_coco(tmp_path, ["val2017"], host=little_coco.url, progress=False, keep_archives=True)
    (tmp_path / "val2017" / "1.jpg").unlink()
    (tmp_path / "val2017").rmdir()
    download_coco(tmp_path, ["val2017"], host=little_coco.url, progress=False, keep_archives=True)
    assert (tmp_path / "val2017" / "1.jpg").exists()
    assert len(little_coco.ranges) == 1  # the archive was kept


def test_an_unknown_part_is_refused_with_the_choices(tmp_path):
    with pytest.raises(ValueError, match=r"no part val2014; choose of train2017, val2017"):
        download_coco(tmp_path, ["val2014"])


def test_the_published_parts_are_well_formed():
    for part in COCO_2017.values():
        assert len(part.md5) == 32 and set(part.md5) <= set("0123456789abcdef")
        assert part.path.endswith(part.name) and part.name.endswith(".zip")
    assert len({part.md5 for part in COCO_2017.values()}) == len(COCO_2017)
    assert set().union(*module.PARTS.values()) == COCO_2017.keys()


class CsDownload:
    """Stands in for the official downloader, which needs an account."""

    def __init__(self, monkeypatch):
        self.logins, self.wanted, self.error = 0, [], None
        monkeypatch.setattr(downloader, "login", self.login)
        monkeypatch.setattr(downloader, "download_packages", self.download_packages)

    def login(self):
        self.logins += 1
        return "session"

    def download_packages(self, *, session, package_names, destination_path, resume):
        assert session == "session" and resume
        self.wanted += package_names
        for name in package_names:
            with open(f"{destination_path}/{name}", "wb") as file:
                file.write(_zip({f"{name[:6]}/train/aachen/a.png": b"x"}))
        if self.error:
            raise self.error


def test_cityscapes_is_fetched_by_the_official_downloader_once(tmp_path, monkeypatch):
    official = CsDownload(monkeypatch)
    for _ in range(2):
        download_cityscapes(tmp_path, progress=False)
    assert official.logins == 1
    assert official.wanted == ["gtFine_trainvaltest.zip", "leftImg8bit_trainvaltest.zip"]
    assert (tmp_path / "gtFine" / "train" / "aachen" / "a.png").exists()


def test_a_package_with_a_wrong_checksum_is_removed(tmp_path, monkeypatch):
    official = CsDownload(monkeypatch)
    official.error = Exception("MD5 sum of downloaded file does not match.")
    with pytest.raises(DownloadError, match="It is removed; fetch it again"):
        download_cityscapes(tmp_path, ["gtFine_trainvaltest.zip"], progress=False)
    assert not list(tmp_path.rglob("*.zip"))


def test_other_troubles_of_the_official_downloader_are_passed_on_and_keep_the_part(tmp_path, monkeypatch):
    official = CsDownload(monkeypatch)
    official.error = ConnectionError("reset")
    with pytest.raises(ConnectionError):
        download_cityscapes(tmp_path, ["gtFine_trainvaltest.zip"], progress=False)
    assert len(list(tmp_path.rglob("*.zip"))) == 1


def test_a_download_stops_at_the_published_size(host, tmp_path):
    host.moods = ["no length"]
    with pytest.raises(DownloadError, match=f"more than the published {SIZE // 2:,} bytes"):
        download(f"{host.url}/a.zip", tmp_path / "a.zip", size=SIZE // 2, progress=False)
    assert list(tmp_path.iterdir()) == []
