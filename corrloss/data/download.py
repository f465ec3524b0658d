"""Download COCO 2017, Cityscapes and published weights: resumed, verified, and unpacked with atomic writes.

curl does the HTTP: it is on every system, honours proxies and certificates as the user has set them, and its
`--continue-at -` resumes. Its own `--retry` is not used: it starts each try where the first one started.
"""

import hashlib
import json
import resource
import shutil
import signal
import stat
import subprocess
import time
import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from corrloss.errors import CorrLossError
from corrloss.files import atomic_write, escapes_root, write_json
from corrloss.parent import end_with_parent
from corrloss.plan.pretrained import checksum_of

_CHUNK = 1 << 20
_TIMEOUT = 60  # seconds without a byte
# Exit codes of curl: https://curl.se/docs/manpage.html#EXIT
_CURL_CANNOT_WRITE, _CURL_CANNOT_RESUME, _CURL_TOO_LARGE = 23, 33, 63


class DownloadError(CorrLossError):
    """A file cannot be downloaded, or is not the published one."""


@dataclass(frozen=True)
class Archive:
    """A published zip archive.

    Attributes:
        path: path on the host.
        md5: published MD5 checksum, in hexadecimal; None if none is known: then the sizes and the
            CRC-32 of each file in the archive are compared.
        size: in bytes; None if it is not known.
    """

    path: str
    md5: str | None = None
    size: int | None = None

    @property
    def name(self) -> str:
        """The file name."""
        return PurePosixPath(self.path).name


COCO_HOST = "https://s3.amazonaws.com/images.cocodataset.org"
"""COCO's own bucket, by an address with a certificate: images.cocodataset.org has none of its name."""

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

PARTS = {
    "coco": ("train2017", "val2017", "annotations"),
    "coco_small": ("val2017", "annotations"),
    "coco_val": ("val2017", "annotations"),
    "coco_test_dev": ("test2017", "image_info_test"),
}
"""What of COCO 2017 the data sets of `experiments/datasets` need; single images apart."""

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
    """Download parts of COCO 2017 and unpack them in `root`, as `root/train2017/*.jpg` and so on.

    An interrupted call is resumed by the next one; a part that exists is not downloaded again.

    Args:
        root: folder of the data set. Archives are kept in `root/.downloads` until they are unpacked.
        parts: keys of `COCO_2017`.
        host: a mirror to download from. The checksums stay the same.
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


def missing_parts(root: Path, parts: Iterable[str]) -> list[str]:
    """The parts of COCO 2017 of which there is nothing, or whose download was interrupted.

    A folder of images that is there otherwise, whole or not, is a copy of the user's own, which the check of
    the data set judges. Of the annotations both `instances_*2017.json` must be there.
    """
    root = Path(root)
    files = {
        "annotations": [root / "annotations" / f"instances_{part}2017.json" for part in ("train", "val")]
    }

    def is_there(part: str) -> bool:
        kept = root / ".downloads" / COCO_2017[part].name
        interrupted = kept.exists() or kept.with_name(f"{kept.name}.part").exists()
        return all(path.exists() for path in files.get(part, [root / part])) and not interrupted

    return [part for part in parts if not is_there(part)]


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
            (folder / name).unlink()  # csDownload would append to it
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
    """Download one file with curl, resume an interrupted download, and verify it.

    An incomplete file is `<path>.part`; `path` itself appears only when it is complete and verified.
    If it exists and is right, nothing is downloaded.

    Args:
        url: http or https.
        path: the file to make.
        md5: published checksum in hexadecimal, if there is one. Without any the size is compared.
        sha256: the same, or as many first digits of it as are published.
        size: in bytes, if published.
        progress: whether curl shows a progress bar on standard error.
        patience: how many times in a row the connection may fail without one byte of progress.
        wait: seconds before the second try, doubled for each further one.

    Raises:
        DownloadError: it is another kind of URL, curl is missing, the host refuses or does not answer, the
            disk is full, or the file is not the published one (it is removed: the next call starts again).
    """
    if not url.startswith(("http://", "https://")):
        raise DownloadError(f"expected an http or https address, got {url!r}")
    path = Path(path)
    if path.exists():
        _verify(path, url, {"md5": md5, "sha256": sha256}, size)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    failures = 0
    while not _is_complete(part, size):
        before = _size(part)
        problem = _run_curl(url, part, size, progress)
        if problem is None:
            break
        failures = failures + 1 if _size(part) <= before else 1
        if failures > patience:
            raise DownloadError(
                f"{url}: {problem}, {failures} times without progress. Check the network (and the proxy);"
                f" {_size(part):,} bytes are kept in {part}, and the next call continues from there."
            )
        time.sleep(min(60, wait * 2 ** (failures - 1)))
    _verify(part, url, {"md5": md5, "sha256": sha256}, size)
    part.replace(path)


def _is_complete(part: Path, size: int | None) -> bool:
    if size is not None and _size(part) > size:
        part.unlink()
    return size is not None and _size(part) == size


def _run_curl(url: str, part: Path, size: int | None, progress: bool) -> str | None:
    """Append what one connection gives to `part`; None when the file is complete, else why it is not."""
    if size is not None:
        require_space(part, size - _size(part))
    command = [*curl_command(url), "--continue-at", "-"]
    command += ["--max-filesize", str(size)] if size is not None else []
    command += ["--progress-bar"] if progress else ["--silent"]
    command += ["--write-out", "%{http_code}", "--output", str(part), "--url", url]
    start = partial(as_child, size)
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, preexec_fn=start)
    status = int(done.stdout[-3:] or 0)
    if done.returncode == 0:
        return None
    if done.returncode in (_CURL_TOO_LARGE, -signal.SIGXFSZ):
        part.unlink(missing_ok=True)
        raise DownloadError(f"{url}: the host has more than the published {size:,} bytes: another file")
    if done.returncode == _CURL_CANNOT_WRITE:
        raise DownloadError(f"{part}: cannot write: is the disk full, or the folder read-only?")
    if done.returncode == _CURL_CANNOT_RESUME or (status == 416 and size is not None):
        part.unlink(missing_ok=True)  # the host gives the whole file only
        return "the host cannot resume"
    if status == 416:
        return None  # the file is complete; its checksum decides
    if 400 <= status < 500 and status not in (408, 429):
        raise DownloadError(f"{url}: the host answers {status}. Check the address, or try a mirror (--host).")
    return f"curl failed with exit code {done.returncode}" + (f", status {status}" if status else "")


def curl_command(url: str) -> list[str]:
    """The start of a call of curl for an address, or for all addresses that start with it.

    Raises:
        DownloadError: it is another kind of address, or curl is missing.
    """
    if not url.startswith(("http://", "https://")):
        raise DownloadError(f"expected an http or https address, got {url!r}")
    if shutil.which("curl") is None:
        raise DownloadError("Downloads need the program curl, which is not installed: install it, run again.")
    protocols = "=https" if url.startswith("https:") else "=http,https"  # of redirections, too
    command = ["curl", "--location", "--fail", "--globoff", "--proto", protocols]
    return [*command, "--connect-timeout", "30", "--speed-limit", "1", "--speed-time", str(_TIMEOUT)]


def as_child(largest: int | None) -> None:
    """What curl is started with: it ends with this process, and writes no file larger than so many bytes.

    `--max-filesize` compares what the host announces, this limit what it sends.
    """
    end_with_parent()
    if largest is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def require_space(path: Path, needed: int) -> None:
    """Refuse to write so many bytes where the disk has less room.

    Raises:
        DownloadError: there is less.
    """
    free = shutil.disk_usage(path.parent).free
    if needed > free:
        raise DownloadError(
            f"no room for {path.name}: {needed / 2**30:.1f} GiB needed, {free / 2**30:.1f} GiB free in"
            f" {path.parent}"
        )


def _verify(path: Path, url: str, checksums: dict[str, str | None], size: int | None) -> None:
    """Remove a file that is not the published one, and raise an error."""
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


# Weights ----------------------------------------------------------------------------------------


def fetch_weights(url: str, path: Path, *, progress: bool = True) -> bool:
    """Download a file of published weights, and verify it by the checksum in its name.

    Args:
        url: Its address; the checksum is in the file's name.
        path: The file to make; nothing is downloaded if it exists and is right.
        progress: Whether to show a progress bar on standard error.

    Returns:
        Whether the name has a checksum, so that the file could be verified.

    Raises:
        DownloadError: See `download`.
    """
    checksum = checksum_of(url.rpartition("/")[2])
    download(url, path, sha256=checksum, progress=progress)
    return checksum is not None


# Unpacking --------------------------------------------------------------------------------------


def unpack(archive: Path, root: Path, *, progress: bool = True) -> list[str]:
    """Unpack a zip archive in `root`, each file whole or not at all, and return the names of its files.

    A file that exists with the right size is not written again, so an interrupted call is resumed.
    The CRC-32 of every file that is written is checked.

    Raises:
        DownloadError: it is not a zip archive, it is damaged, a name in it points out of `root`, or the
            disk is full. Names are checked before anything is written.
    """
    archive, root = Path(archive), Path(root)
    try:
        with zipfile.ZipFile(archive) as opened:
            members = [member for member in opened.infolist() if not member.is_dir()]
            for member in members:
                _refuse_unsafe(member, archive)
            todo = [m for m in members if _size(root / m.filename) != m.file_size]
            root.mkdir(parents=True, exist_ok=True)
            require_space(root / archive.name, sum(member.file_size for member in todo))
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
