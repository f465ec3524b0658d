"""Images of COCO one by one, from a server of our own on the loopback interface that fails and cuts off."""

import io
import itertools
import json
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from PIL import Image

from corrloss.coco import DataSetError
from corrloss.coco.check import check_coco
from corrloss.data.download import DownloadError
from corrloss.data.images import fetch_images

SIZE = 64, 48
WITHIN = 20  # seconds that a request waits for others at most


def jpeg(number, size=SIZE):
    pixels = np.random.default_rng(number).integers(0, 256, (size[1], size[0], 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG")
    return buffer.getvalue()


class Host(ThreadingHTTPServer):
    """Serves images by their number; `mood` says of each request, by its number, what is done to it.

    A mood is a status code, ("cut", n): close after n bytes, ("send", content), or None. No request is
    answered before `together` of them were in flight at one time.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.mood, self.requests, self.seconds = lambda request: None, itertools.count(), 0.0
        self.paths, self.now, self.most, self.lock = [], 0, 0, threading.Lock()
        self.together, self.are_there = 1, threading.Event()
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # connections are reused

    def do_GET(self):
        host = self.server
        with host.lock:
            mood = host.mood(next(host.requests))
            host.paths.append(self.path)
            host.now += 1
            host.most = max(host.most, host.now)
            if host.now == host.together:
                host.are_there.set()
        try:
            host.are_there.wait(WITHIN)
            time.sleep(host.seconds)
            self.answer(mood)
        finally:
            with host.lock:
                host.now -= 1

    def answer(self, mood):
        if isinstance(mood, int):
            self.send_error(mood)
            return
        content = jpeg(int(self.path.rpartition("/")[2].removesuffix(".jpg")))
        cut = None
        if mood is not None:
            content, cut = (content, mood[1]) if mood[0] == "cut" else (mood[1], None)
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[:cut])
        self.close_connection |= cut is not None

    def log_message(self, *args):
        pass


@pytest.fixture
def host(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = Host()
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def write_annotations(path, count, size=SIZE, **change):
    images = []
    for number in range(count):
        name = f"{number:012d}.jpg"
        address = f"http://images.cocodataset.org/train2017/{name}"
        entry = {"id": number, "file_name": name, "width": size[0], "height": size[1], "coco_url": address}
        images.append(entry | change)
    objects = [{"id": 1, "image_id": 0, "category_id": 1, "bbox": [1, 1, 9, 9], "area": 81, "iscrowd": 0}]
    document = {"images": images, "annotations": objects, "categories": [{"id": 1, "name": "person"}]}
    path.write_text(json.dumps(document))
    return path


def fetch(host, folder, count, **options):
    annotations = write_annotations(folder / "small.json", count)
    options = {"host": host.url, "progress": False, "wait": 0} | options
    return fetch_images(annotations, folder / "images", "train2017", **options)


def assert_whole(folder, count):
    """Every image is there, and right, and nothing else is."""
    report = check_coco(folder, "small.json", "images")
    assert report.ok and not report.warnings, report.text()
    assert report.counts["images_decoded"] == count
    assert len(list((folder / "images").iterdir())) == count


def test_64_are_in_flight_one_in_ten_fails_and_some_are_cut_off(host, tmp_path):
    moods = [503, ("cut", 200), 429, ("cut", 0), ("send", b"<html>busy</html>"), ("cut", 1000)]
    host.mood = lambda request: moods[request // 10 % len(moods)] if request % 10 == 7 else None
    host.seconds, host.together = 0.05, 64
    assert fetch(host, tmp_path, 600) == {"present": 0, "linked": 0, "downloaded": 600}
    assert_whole(tmp_path, 600)
    assert host.most == 64
    assert 660 <= len(host.paths) <= 700  # only what failed is asked for again


def test_a_call_that_was_killed_twice_is_continued(host, tmp_path):
    annotations = write_annotations(tmp_path / "small.json", 2500)
    host.seconds = 0.02
    call = f"fetch_images({str(annotations)!r}, {str(tmp_path / 'images')!r}, 'train2017', host={host.url!r})"
    code = f"from corrloss.data.images import fetch_images\n{call}"
    for _ in range(2):
        before = len(host.paths)
        killed = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
        while len(host.paths) < before + 300 and killed.poll() is None:
            time.sleep(0.01)
        killed.send_signal(signal.SIGKILL)
        assert killed.wait() == -signal.SIGKILL
    there = len(list((tmp_path / "images").glob("*.jpg")))
    done = fetch(host, tmp_path, 2500)
    assert done == {"present": there, "linked": 0, "downloaded": 2500 - there}
    assert_whole(tmp_path, 2500)


def test_every_length_at_which_an_image_may_be_cut_is_noticed(host, tmp_path):
    """Also where the host announces the shorter length, so that the transfer itself is complete."""
    whole = jpeg(0)
    for length in [0, 1, 100, *range(len(whole) - 40, len(whole) - 1)]:
        host.mood = lambda request, length=length: ("send", whole[:length])
        with pytest.raises(DownloadError, match="000000000000"):
            fetch(host, tmp_path, 1, patience=0)
        assert list((tmp_path / "images").iterdir()) == []


def test_nothing_is_fetched_where_the_full_set_is(host, tmp_path):
    local = tmp_path / "train2017"
    local.mkdir()
    for number in range(30):
        (local / f"{number:012d}.jpg").write_bytes(jpeg(number))
    assert fetch(host, tmp_path, 30, local=local) == {"present": 0, "linked": 30, "downloaded": 0}
    assert host.paths == []
    assert_whole(tmp_path, 30)
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for name in ("train2017", "images", "small.json"):
        (tmp_path / name).rename(moved / name)
    assert_whole(moved, 30)


def test_what_is_missing_or_empty_in_the_full_set_is_fetched(host, tmp_path):
    local = tmp_path / "train2017"
    local.mkdir()
    for number in range(20):
        (local / f"{number:012d}.jpg").write_bytes(jpeg(number) if number else b"")
    assert fetch(host, tmp_path, 30, local=local) == {"present": 0, "linked": 19, "downloaded": 11}
    assert_whole(tmp_path, 30)
    (local / f"{5:012d}.jpg").unlink()  # its link leads nowhere now
    assert fetch(host, tmp_path, 30, local=local) == {"present": 29, "linked": 0, "downloaded": 1}
    assert_whole(tmp_path, 30)


@pytest.mark.parametrize(
    ("mood", "message"),
    [
        (404, r"000000000000\.jpg \(image 0\): the host answers 404"),
        (
            503,
            r"000000000000\.jpg: the host answers 503; 1 images are missing, and none came 2 times in a row",
        ),
        (("send", jpeg(0, (48, 64))), "expected 64 x 48 as annotated, found 48 x 64"),
        (("send", b"not an image"), "expected an image, UnidentifiedImageError"),
    ],
)
def test_what_does_not_come_is_said(host, tmp_path, mood, message):
    host.mood = lambda request: mood
    with pytest.raises(DownloadError, match=message):
        fetch(host, tmp_path, 1, patience=1)
    assert list((tmp_path / "images").iterdir()) == []


def test_a_host_that_does_not_answer_is_said(tmp_path):
    annotations = write_annotations(tmp_path / "small.json", 3)
    with pytest.raises(DownloadError, match="curl failed with exit code 7; 3 images are missing"):
        fetch_images(
            annotations,
            tmp_path / "images",
            "train2017",
            host="http://127.0.0.1:9",
            patience=0,
            progress=False,
        )


def test_of_a_host_that_is_away_not_every_image_is_asked_for(host, tmp_path):
    host.mood = lambda request: 503 if request >= 600 else None
    with pytest.raises(DownloadError, match="none came 2 times in a row"):
        fetch(host, tmp_path, 3000, patience=1)
    assert len(list((tmp_path / "images").iterdir())) == 600
    # 600, the rest of the second batch, the third; then the first batch of what is missing, twice
    assert len(host.paths) == 3 * 512 + 2 * 512


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"coco_url": "http://host/train2014/x.jpg"},
            r"expected a 'coco_url' that ends in train2017/0+\.jpg",
        ),
        ({"coco_url": ""}, "found none: the file is of another split or year"),
        ({"file_name": "../x.jpg", "coco_url": "http://host/train2017/../x.jpg"}, "expected a 'coco_url'"),
        ({"width": "wide"}, "found another file or a truncated one"),
    ],
)
def test_a_file_of_another_year_is_refused_before_anything_is_fetched(host, tmp_path, change, message):
    annotations = write_annotations(tmp_path / "small.json", 1, **change)
    with pytest.raises(DataSetError, match=message):
        fetch_images(annotations, tmp_path / "images", "train2017", host=host.url)
    assert host.paths == []
    with pytest.raises(DataSetError, match="cannot read"):
        fetch_images(tmp_path / "none.json", tmp_path / "images", "train2017", host=host.url)
