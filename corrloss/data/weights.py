"""Published weights, downloaded and verified before a training needs them."""

import re
from pathlib import Path

from corrloss.data.download import download

# torchvision's and OpenMMLab's convention, the same as in torch.hub: name-<first digits of the SHA-256>.pth
_CHECKSUM = re.compile(r"-([0-9a-f]{8,64})\.[a-z]+$")


def checksum_of(name: str) -> str | None:
    """The first digits of a weights file's SHA-256, at the end of its published name; None if absent.

    Examples:
        >>> checksum_of("resnet50-0676ba61.pth")
        '0676ba61'
        >>> checksum_of("cspnext-s_imagenet_600e.pth")
    """
    found = _CHECKSUM.search(name)
    return found and found[1]


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
