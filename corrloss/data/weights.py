"""Published weights, fetched before any job needs them."""

import re
from pathlib import Path

from corrloss.data.download import download

# torchvision's and OpenMMLab's convention, the same as in torch.hub: name-<first digits of the SHA-256>.pth
_CHECKSUM = re.compile(r"-([0-9a-f]{8,64})\.[a-z]+$")


def checksum_of(name: str) -> str | None:
    """The first digits of the SHA-256 of a weights file, which its published name ends in; None without.

    Example:
        >>> checksum_of("resnet50-0676ba61.pth")
        '0676ba61'
        >>> checksum_of("cspnext-s_imagenet_600e.pth")
    """
    found = _CHECKSUM.search(name)
    return found and found[1]


def fetch_weights(url: str, path: Path, *, progress: bool = True) -> bool:
    """Fetch a file of weights, going on where an earlier call stopped, and check it.

    Args:
        url: Its address; the checksum is in the file's name.
        path: Where it shall be; nothing is fetched where it is already, and right.
        progress: Whether to show a progress bar on standard error.

    Returns:
        Whether there was a checksum to check it by.

    Raises:
        DownloadError: See :func:`corrloss.data.download.download`.
    """
    checksum = checksum_of(url.rpartition("/")[2])
    download(url, path, sha256=checksum, progress=progress)
    return checksum is not None
