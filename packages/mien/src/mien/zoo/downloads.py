"""Where a pull keeps its downloads, so that models from one package download it once; removed afterwards."""

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from mien.locks import locked, open_lock, try_lock
from mien.zoo.progress import Progress


class Downloads:
    """The files of one pull. `root` belongs to this pull alone, `partial` to all pulls on this machine."""

    def __init__(self, root: Path, partial: Path, progress: Progress) -> None:
        self.root = root
        self.partial = partial
        """Unfinished transfers: they outlive an interrupted pull, so that the next one resumes them."""
        self.progress = progress
        self._have: dict[str, Path] = {}

    def once(self, key: str, make: Callable[[Path], Path]) -> Path:
        """What `make(folder)` returns for `key`: called the first time only, with a new empty folder."""
        if key not in self._have:
            folder = self.root / hashlib.sha256(key.encode()).hexdigest()[:16]
            folder.mkdir()
            try:
                self._have[key] = make(folder)
            except BaseException:
                shutil.rmtree(folder, ignore_errors=True)
                raise
        return self._have[key]

    def folder(self) -> Path:
        """A new empty folder."""
        return Path(tempfile.mkdtemp(dir=self.root))


@contextlib.contextmanager
def open_downloads(parent: Path, progress: Progress) -> Iterator[Downloads]:
    """Downloads below `parent`, removed at the end. Also removes what killed processes left there.

    A pull holds a lock of its own for as long as it runs; a folder whose lock is free belongs to no living process.
    """
    partial = parent / "partial"
    partial.mkdir(parents=True, exist_ok=True)
    with locked(parent / "lock"):
        _sweep(parent)
        root = Path(tempfile.mkdtemp(prefix="pull-", dir=parent))
        lock = open_lock(_lock_of(root))
        try_lock(lock)  # succeeds: it is new, and `_sweep` of other pulls waits for the lock above
    try:
        yield Downloads(root, partial, progress)
    finally:
        shutil.rmtree(root, ignore_errors=True)
        os.close(lock)
        _lock_of(root).unlink(missing_ok=True)


def _lock_of(root: Path) -> Path:
    return root.with_name(f"{root.name}.lock")


def _sweep(parent: Path) -> None:
    for root in parent.glob("pull-*/"):
        lock = open_lock(_lock_of(root))
        try:
            if try_lock(lock):
                shutil.rmtree(root, ignore_errors=True)
                _lock_of(root).unlink(missing_ok=True)
        finally:
            os.close(lock)
