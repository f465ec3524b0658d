"""Fetch COCO 2017 and Cityscapes: resumable, checked, and unpacked so that no file is seen half-written."""

import hashlib
import http.client
import json
import shutil
import stat
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from corrloss.errors import CorrLossError
from corrloss.files import atomic_write, escapes_root, write_json

_CHUNK = 1 << 20
_TIMEOUT = 60  # seconds without a byte


class DownloadError(CorrLossError):
    """A file cannot be fetched, or is not the one that was published; the message says what to do."""


@dataclass(frozen=True)
class Archive:
    """A published zip archive.

    Attributes:
        path: path on the host.
        md5: published MD5 checksum, in hexadecimal; None where none is known: then the sizes and the
            CRC-32 of each file in the archive must do.
        size: in bytes; None where it is not known.
    """

    path: str
    md5: str | None = None
    size: int | None = None

    @property
    def name(self) -> str:
        """The file name."""
        return PurePosixPath(self.path).name


COCO_HOST = "http://images.cocodataset.org"
"""COCO's own host. It has no certificate of that name, hence http: the checksums are what is relied on."""

# COCO publishes no list of checksums. These are the ones that independent download scripts agree on, among
# them PaddleDetection's and MLPerf's.
COCO_2017 = {
    "train2017": Archive("zips/train2017.zip", "cced6f7f71b7629ddf16f17bbcfab6b2", 19_336_861_798),
    "val2017": Archive("zips/val2017.zip", "442b8da7639aecaf257c1dceb8ba8c80", 815_585_330),
    "test2017": Archive("zips/test2017.zip", "77ad2c53ac5d0aea611d422c0938fb35", 6_646_970_404),
    "annotations": Archive(
        "annotations/annotations_trainval2017.zip", "f4bbac642086de4f52a3fdda2de5fa2c", 252_907_541
    ),
    "image_info_test": Archive("annotations/image_info_test2017.zip", "85da7065e5e600ebfee8af1edb634eb5"),
}
"""The parts of COCO 2017 by name; those of test-dev are test2017 and image_info_test."""

PARTS = {"coco": ("train2017", "val2017", "annotations"), "coco_test_dev": ("test2017", "image_info_test")}
"""What of COCO 2017 the data sets of `experiments/datasets` need."""

CITYSCAPES_PACKAGES = ("gtFine_trainvaltest.zip", "leftImg8bit_trainvaltest.zip")
"""What training and evaluation need of Cityscapes, as its download page names it."""


def download_coco(
    root: Path,
    parts: Iterable[str] = PARTS["coco"],
    *,
    host: str = COCO_HOST,
    keep_archives: bool = False,
    progress: bool = True,
) -> None:
    """Fetch parts of COCO 2017 and unpack them in `root`, as `root/train2017/*.jpg` and so on.

    It may be interrupted at any time and goes on where it stopped; a part that is there is left alone.

    Args:
        root: folder of the data set. Archives lie in `root/.downloads` until they are unpacked.
        parts: keys of `COCO_2017`.
        host: where to fetch from, for those who have a mirror. The checksums stay the same.
        keep_archives: whether to keep the archives (26 GB for everything).
        progress: whether to show progress bars on standard error.

    Raises:
        ValueError: an unknown part.
        DownloadError: see `download` and `unpack`.
    """
    parts = tuple(parts)
    if unknown := sorted(set(parts) - COCO_2017.keys()):
        raise ValueError(f"COCO 2017 has no part {', '.join(unknown)}; choose of {', '.join(COCO_2017)}")
    root = Path(root)
    for archive in map(COCO_2017.get, parts):
        if _is_unpacked(root, archive.name):
            continue
        path = root / ".downloads" / archive.name
        download(f"{host}/{archive.path}", path, md5=archive.md5, size=archive.size, progress=progress)
        _unpack_once(root, path, keep_archives, progress)


def download_cityscapes(
    root: Path,
    packages: Iterable[str] = CITYSCAPES_PACKAGES,
    *,
    keep_archives: bool = False,
    progress: bool = True,
) -> None:
    """Fetch packages of Cityscapes by the user's own login and unpack them in `root`.

    Login, download, resumption and MD5 check are those of the official `csDownload` of
    cityscapesscripts, which asks for the account's name and password once (register at
    https://www.cityscapes-dataset.com). This module never sees or stores them.

    Args:
        root: folder of the data set.
        packages: names as on the download page.
        keep_archives: whether to keep the archives (12 GB).
        progress: whether to show a progress bar for unpacking (that of the download is always shown).

    Raises:
        DownloadError: the checksum is wrong (the archive is removed), or see `unpack`.
        Exception: what cityscapesscripts raises: bad credentials, no access to a package, no network.
    """
    from cityscapesscripts.download import downloader  # asks for a login: only here

    root = Path(root)
    folder = root / ".downloads"
    folder.mkdir(parents=True, exist_ok=True)
    wanted = [name for name in packages if not _is_unpacked(root, name)]
    session = downloader.login() if wanted else None
    for name in wanted:
        try:
            downloader.download_packages(
                session=session, package_names=[name], destination_path=str(folder), resume=True
            )
        except Exception as problem:
            if "MD5" not in str(problem):
                raise
            (folder / name).unlink()  # csDownload would append to it for ever
            raise DownloadError(f"{name}: {problem} It is removed; fetch it again.") from problem
        _unpack_once(root, folder / name, keep_archives, progress)


# One file ---------------------------------------------------------------------------------------


def download(
    url: str,
    path: Path,
    *,
    md5: str | None = None,
    sha256: str | None = None,
    size: int | None = None,
    progress: bool = True,
    patience: int = 5,
    wait: float = 2.0,
) -> None:
    """Fetch one file, going on where an earlier call stopped, and check it.

    What is there so far lies in `<path>.part`; `path` itself appears only when it is whole and right.
    If it is there and right already, nothing is fetched.

    Args:
        url: http or https.
        path: where the file shall be.
        md5: checksum in hexadecimal, if one is published. Without any the size must do.
        sha256: the same, or as many first digits of it as are published.
        size: in bytes, if published.
        progress: whether to show a progress bar on standard error.
        patience: how many times in a row the connection may fail without one byte of progress.
        wait: seconds before the second try, doubled for each further one.

    Raises:
        DownloadError: it is another kind of URL, the host refuses or does not answer, there is no room on
            the disk, or the file is not the published one (what was fetched is then removed, so that the next
            call starts anew).
    """
    if not url.startswith(("http://", "https://")) or "//[" in url:  # urllib fails on an unclosed bracket
        raise DownloadError(f"expected an http or https address, got {url!r}")
    path = Path(path)
    if path.exists():
        _verify(path, url, {"md5": md5, "sha256": sha256}, size)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    with tqdm(desc=path.name, total=size, unit="B", unit_scale=True, disable=not progress) as bar:
        _fetch(url, part, size, bar, patience, wait)
    _verify(part, url, {"md5": md5, "sha256": sha256}, size)
    part.replace(path)


def _fetch(url: str, part: Path, size: int | None, bar: tqdm, patience: int, wait: float) -> None:
    """Append to `part` until it is whole, over as many connections as that takes."""
    failures = 0
    while True:
        before = _size(part)
        try:
            if _fetch_some(url, part, size, bar):
                return
            problem: Exception = ConnectionError("the connection was closed early")
        except urllib.error.HTTPError as error:
            if error.code < 500 and error.code not in (408, 429):
                raise DownloadError(f"{url}: the host answers {error.code} {error.reason}") from error
            problem = error
        except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
            problem = error
        failures = failures + 1 if _size(part) <= before else 1
        if failures > patience:
            raise DownloadError(
                f"{url}: {problem}, {failures} times without progress. Check the network (and the proxy);"
                f" {_size(part):,} bytes are kept in {part} and the next call goes on from there."
            ) from problem
        time.sleep(min(60, wait * 2 ** (failures - 1)))


def _fetch_some(url: str, part: Path, size: int | None, bar: tqdm) -> bool:
    """One connection: append what comes to `part`; whether it is whole now."""
    have = _size(part)
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        answer = urllib.request.urlopen(request, timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # nothing after what we have: it is whole, or of no use
            if size is not None and have != size:
                part.unlink()
            return size is None or have == size
        raise
    with answer:
        if answer.status != 206:  # the host cannot resume, or there is nothing to resume
            have = 0
        length = answer.headers.get("Content-Length")
        total = None if length is None else have + int(length)
        if None not in (size, total) and size != total:
            raise DownloadError(f"{url}: the host has {total:,} bytes, published are {size:,}: another file")
        _ask_for_room(part, (total or size or 0) - have)
        bar.reset(total or size)
        bar.update(have)
        with open(part, "ab" if have else "wb") as file:
            while chunk := answer.read(_CHUNK):
                file.write(chunk)
                bar.update(len(chunk))
                if size is not None and file.tell() > size:
                    part.unlink()
                    raise DownloadError(
                        f"{url}: the host sends more than the published {size:,} bytes: another file"
                    )
    whole = total or size
    return whole is None or _size(part) == whole


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _ask_for_room(path: Path, needed: int) -> None:
    free = shutil.disk_usage(path.parent).free
    if needed > free:
        raise DownloadError(
            f"no room for {path.name}: {needed / 2**30:.1f} GiB needed, {free / 2**30:.1f} GiB free in"
            f" {path.parent}"
        )


def _verify(path: Path, url: str, checksums: dict[str, str | None], size: int | None) -> None:
    """Remove a file that is not the published one, and say so."""
    problem = _problem(path, checksums, size)
    if problem:
        path.unlink()
        raise DownloadError(
            f"{path.name} from {url} is damaged, or not the published file: {problem}. It is removed; call"
            " again."
        )


def _problem(path: Path, checksums: dict[str, str | None], size: int | None) -> str | None:
    found = _size(path)
    if size is not None and found != size:
        return f"{found:,} bytes, published are {size:,}"
    for kind, published in checksums.items():
        if published is not None and not (digest := _digest(path, kind)).startswith(published):
            return f"{kind.upper()} {digest}, published is {published}"
    return None


def _digest(path: Path, kind: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, kind).hexdigest()


# Unpacking --------------------------------------------------------------------------------------


def unpack(archive: Path, root: Path, *, progress: bool = True) -> list[str]:
    """Unpack a zip archive in `root`, each file whole or not at all, and return the names of its files.

    A file that is there with the right size is left alone, so that an interrupted call is continued.
    The CRC-32 of every file that is written is checked.

    Raises:
        DownloadError: it is no zip archive, it is damaged, a name in it points out of `root`, or there
            is no room on the disk. Names are looked at before anything is written.
    """
    archive, root = Path(archive), Path(root)
    try:
        with zipfile.ZipFile(archive) as opened:
            members = [member for member in opened.infolist() if not member.is_dir()]
            for member in members:
                _refuse_unsafe(member, archive)
            todo = [m for m in members if _size(root / m.filename) != m.file_size]
            root.mkdir(parents=True, exist_ok=True)
            _ask_for_room(root / archive.name, sum(member.file_size for member in todo))
            for member in tqdm(todo, f"unpacking {archive.name}", unit="file", disable=not progress):
                with atomic_write(root / member.filename) as temporary, open(temporary, "wb") as file:
                    shutil.copyfileobj(opened.open(member), file, _CHUNK)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as problem:
        raise DownloadError(f"{archive} is damaged: {problem}. Remove it and fetch it again.") from problem
    return [member.filename for member in members]


def _refuse_unsafe(member: zipfile.ZipInfo, archive: Path) -> None:
    if stat.S_ISLNK(member.external_attr >> 16) or escapes_root(member.filename):
        raise DownloadError(f"{archive} holds {member.filename!r}, which points out of its folder: refused")


def _marker(root: Path, archive_name: str) -> Path:
    return root / ".downloads" / f"{archive_name}.unpacked.json"


def _is_unpacked(root: Path, archive_name: str) -> bool:
    """Whether an earlier call unpacked it, and its folders are still there."""
    try:
        folders = json.loads(_marker(root, archive_name).read_bytes())["folders"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return all((root / folder).is_dir() for folder in folders)


def _unpack_once(root: Path, archive: Path, keep_archives: bool, progress: bool) -> None:
    names = unpack(archive, root, progress=progress)
    folders = sorted({name.split("/")[0] for name in names if "/" in name})
    write_json(_marker(root, archive.name), {"files": len(names), "folders": folders})
    if not keep_archives:
        archive.unlink()
