"""Published weights, downloaded and verified before a training needs them."""

from pathlib import Path

from corrloss.data.download import download
from corrloss.plan.pretrained import checksum_of


def fetch_weights(url: str, path: Path, *, progress: bool = True) -> bool:
    """Download a file of weights, resuming an interrupted call, and verify it.

    Args:
        url: Its address; the checksum is in the file's name.
        path: The file to make; nothing is downloaded if it exists and is right.
        progress: Whether to show a progress bar on standard error.

    Returns:
        Whether the name has a checksum, so that the file could be verified.

    Raises:
        DownloadError: See `corrloss.data.download.download`.
    """
    checksum = checksum_of(url.rpartition("/")[2])
    download(url, path, sha256=checksum, progress=progress)
    return checksum is not None
