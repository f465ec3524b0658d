"""Single images of COCO: those of a sample, linked where the full set is on disk, else downloaded.

curl downloads them, as it does archives (`corrloss.data.download`): proxies and certificates are as the user
has set them, and its `--parallel` keeps 64 transfers in flight over connections that it reuses. An image that
was cut off is downloaded again as a whole. Each is checked as every image is before a training
(`corrloss.coco.images`): it must decode to its last row, in the annotated size.
"""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path, PurePosixPath
from urllib.parse import quote, urlsplit

import msgspec
from tqdm import tqdm

from corrloss.coco import DataSetError
from corrloss.coco.entries import Image, read_utf8
from corrloss.coco.findings import ERRORS
from corrloss.coco.images import image_findings
from corrloss.data.download import COCO_HOST, DownloadError, as_child, curl_command, require_space
from corrloss.files import escapes_root

IN_FLIGHT = 64
_BATCH = 512  # images of one call of curl
_BYTES = 170_000  # of an image of train2017, on average
_LARGEST = 50_000_000  # bytes of an image that are accepted
_FOLDER = ".download-"  # start of the name of a folder for files that are not checked yet


class _Image(Image, gc=False):
    coco_url: str = ""


class _File(msgspec.Struct):
    images: list[_Image]


def fetch_images(
    annotations: Path,
    folder: Path,
    split: str,
    *,
    local: Path | None = None,
    host: str = COCO_HOST,
    progress: bool = True,
    patience: int = 5,
    wait: float = 2.0,
) -> dict[str, int]:
    """Put every image that an annotation file lists in a folder.

    What is there is kept, so an interrupted call is continued by the next one. An image that is in `local` is
    linked; only the others are downloaded.

    Args:
        annotations: annotation file with the published `coco_url` of each image.
        folder: where the images go.
        split: the part of COCO that they are of, such as "train2017".
        local: folder that may hold the full set, or some of it.
        host: a mirror to download from.
        progress: whether to show a progress bar on standard error.
        patience: how many times in a row none of the missing images that are asked for may come.
        wait: seconds before the second time, doubled for each further one.

    Returns:
        Number of images that were there (`present`), were linked (`linked`) and `downloaded`.

    Raises:
        DataSetError: the annotation file is missing or broken, or of another split or year.
        DownloadError: curl is missing, the host refuses or does not answer, the disk is full, or an image is
            not what the annotation file says.
    """
    images = _listed(Path(annotations), split)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for left_over in folder.glob(f"{_FOLDER}*"):  # of a killed process
        shutil.rmtree(left_over, ignore_errors=True)
    missing = [image for image in images if not _is_file(folder / image.file_name)]
    linked = [image for image in missing if local is not None and _link(Path(local), folder, image.file_name)]
    wanted = [image for image in missing if not _is_file(folder / image.file_name)]
    require_space(folder / split, _BYTES * len(wanted))
    with tqdm(total=len(wanted), desc=f"images of {split}", unit="file", disable=not progress) as bar:
        _download_all(wanted, folder, f"{host}/{split}", bar, patience, wait)
    return {
        "present": len(images) - len(missing),
        "linked": len(linked),
        "downloaded": len(wanted),
    }


def _listed(annotations: Path, split: str) -> list[_Image]:
    """The images of an annotation file, each of which the host has under its split and file name."""
    try:
        images = msgspec.json.decode(read_utf8(annotations, DataSetError), type=_File).images
    except (msgspec.DecodeError, RecursionError) as problem:
        raise DataSetError(
            f"{annotations}: expected a COCO annotation file, found another file or a truncated one"
            f" ({problem}). Delete it; the next call of snakemake makes it again."
        ) from problem
    for image in images:
        path = PurePosixPath(urlsplit(image.coco_url).path)
        if path.parts[-2:] != (split, image.file_name) or escapes_root(image.file_name):
            found = repr(image.coco_url) if image.coco_url else "none"
            raise DataSetError(
                f"{annotations}: image {image.id}: expected a 'coco_url' that ends in"
                f" {split}/{image.file_name}, found {found}: the file is of another split or year, or not"
                f" COCO's. Put the published file of {split} there, or the images into the folder yourself."
            )
    return images


def _is_file(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > 0


def _link(local: Path, folder: Path, name: str) -> bool:
    """Link an image of the full set, relative to the folder, so that the data may be moved as a whole."""
    if not _is_file(local / name):
        return False
    (folder / name).unlink(missing_ok=True)  # empty, or a link to what is no more
    (folder / name).symlink_to(os.path.relpath(local / name, folder))
    return True


def _download_all(
    wanted: list[_Image], folder: Path, url: str, bar: tqdm, patience: int, wait: float
) -> None:
    failures = 0
    while wanted:
        left, problem = _ask_for_all(wanted, folder, url, bar)
        failures = failures + 1 if len(left) == len(wanted) else 0
        wanted = left
        if wanted and failures > patience:
            raise DownloadError(
                f"{url}/{problem}; {len(wanted):,} images are missing, and none came {failures} times in a"
                " row. Check the network (and the proxy), or try a mirror (--host); the images that are there"
                " are kept, and the next call continues."
            )
        if wanted:
            time.sleep(min(60, wait * 2 ** max(failures - 1, 0)))


def _ask_for_all(wanted: list[_Image], folder: Path, url: str, bar: tqdm) -> tuple[list[_Image], str]:
    """Ask for images once, batch by batch, until of a whole batch none comes.

    Returns:
        The images that are still missing, and what was wrong with the last one.
    """
    left: list[_Image] = []
    problem = ""
    for first in range(0, len(wanted), _BATCH):
        batch = wanted[first : first + _BATCH]
        problems = _download(batch, folder, url, bar)
        left += [image for image in batch if image.file_name in problems]
        problem = next((f"{name}: {why}" for name, why in problems.items()), problem)
        if len(problems) == len(batch):  # the host is away: no need to wait for each of the others, too
            return left + wanted[first + _BATCH :], problem
    return left, problem


def _download(batch: list[_Image], folder: Path, url: str, bar: tqdm) -> dict[str, str]:
    """Ask for images once, at the same time, and move those that are right into the folder.

    Returns:
        What is wrong with each of the others, by file name.
    """
    problems = {image.file_name: "the host does not answer" for image in batch}
    with (
        tempfile.TemporaryDirectory(prefix=_FOLDER, dir=folder) as temporary,
        ThreadPoolExecutor() as pool,  # Pillow decodes without the interpreter's lock
    ):
        checks = {
            number: pool.submit(_accept, Path(temporary, str(number)), folder, batch[number], status, code)
            for number, status, code in _transfers(batch, Path(temporary), url)
        }
        for number, check in checks.items():
            problems[batch[number].file_name] = check.result()
    problems = {name: problem for name, problem in problems.items() if problem}
    bar.update(len(batch) - len(problems))
    return problems


def _transfers(batch: list[_Image], folder: Path, url: str) -> Iterator[tuple[int, int, int]]:
    """Let curl download images to files that are named by their number, in a folder.

    Yields:
        Of each transfer that ended: the image's number, the status of HTTP (0 if there was none), and curl's
        exit code (0 also from a curl before 7.75, which does not tell).
    """
    options = ["--silent", "--no-progress-meter", "--max-filesize", str(_LARGEST)]
    options += ["--parallel", "--parallel-immediate", "--parallel-max", str(IN_FLIGHT)]
    options += ["--write-out", r"%{filename_effective} %{http_code} %{exitcode}\n", "--config", "-"]
    # Relative outputs, quoted names: nothing of a file name or folder is read as curl's configuration.
    urls = "".join(
        f'url = "{url}/{quote(image.file_name)}"\noutput = "{k}"\n' for k, image in enumerate(batch)
    )
    curl = subprocess.Popen(
        [*curl_command(url), *options],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=folder,
        preexec_fn=partial(as_child, _LARGEST),
    )
    try:
        curl.stdin.write(urls)
        curl.stdin.close()
        for line in curl.stdout:
            number, status, *code = line.split()
            yield int(number), int(status), int(code[0]) if code else 0
        if curl.wait() == 2:
            raise DownloadError("curl: expected version 7.68 or newer, for parallel downloads; update curl.")
    finally:
        curl.kill()
        curl.wait()


def _accept(arrived: Path, folder: Path, image: _Image, status: int, code: int) -> str:
    """Move an image that arrived into the folder if it is right, else return what is wrong with it.

    Raises:
        DownloadError: another try would not mend it.
    """
    if 400 <= status < 500 and status not in (408, 429):
        raise DownloadError(
            f"{image.file_name} (image {image.id}): the host answers {status}. Check the address, or try a"
            " mirror (--host)."
        )
    if status != 200 or code != 0:
        return (
            f"the host answers {status}" if status not in (0, 200) else f"curl failed with exit code {code}"
        )
    if faults := [text for kind, text in image_findings(arrived, image) if kind in ERRORS]:
        return "; ".join(faults)
    (folder / image.file_name).parent.mkdir(parents=True, exist_ok=True)
    arrived.replace(folder / image.file_name)
    return ""
