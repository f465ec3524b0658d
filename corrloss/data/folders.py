"""Atomic creation of a folder."""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath


@contextmanager
def atomic_folder(root: Path, is_ours: Callable[[PurePosixPath], bool]) -> Iterator[Path]:
    """Give a new folder beside `root` to fill, and rename it to `root` if the block succeeds.

    What was in `root` is removed; if it holds a file that is not ours, nothing is changed.

    Args:
        root: the folder to make; missing parents are made.
        is_ours: whether a path relative to `root` is one that the caller writes.

    Yields:
        An empty folder; removed again if the block fails.

    Raises:
        FileExistsError: `root` is a file, or holds a file that is not ours.
    """
    if root.exists() and not root.is_dir():
        raise FileExistsError(f"{root} is a file; choose a folder")
    for path in root.rglob("*"):
        if not path.is_dir() and not is_ours(PurePosixPath(path.relative_to(root).as_posix())):
            raise FileExistsError(
                f"{root} holds {path.relative_to(root)}, which does not belong to this data set:"
                " move it away or choose another folder"
            )
    root.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{root.name}.", dir=root.parent) as temporary:
        new = Path(temporary) / "new"
        new.mkdir()
        yield new
        if root.exists():
            os.rename(root, Path(temporary) / "old")  # goes with the temporary folder
        os.rename(new, root)
