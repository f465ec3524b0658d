"""Making a folder so that nobody ever sees half of it."""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath


@contextmanager
def atomic_folder(root: Path, is_ours: Callable[[PurePosixPath], bool]) -> Iterator[Path]:
    """Give a new folder beside `root` to fill, and put it in the place of `root` if the block succeeds.

    What was in `root` is removed, unless it holds a file that is not ours: then nothing is touched.

    Args:
        root: the folder to make; its parents are made if need be.
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
