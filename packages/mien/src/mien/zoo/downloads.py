"""Where a pull keeps what it downloads, so that models of one package download it once; empty afterwards."""

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
        """Unfinished transfers: they outlive a pull that was cut short, so that the next one resumes them."""
        self.progress = progress
        self._have: dict[str, Path] = {}

    def once(self, key: str, make: Callable[[Path], Path]) -> Path:
        """What `make(folder)` returned for `key`: called the first time only, with a new empty folder."""
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
    """Downloads below `parent`, removed at the end; also removes what killed processes left there."""
    partial = parent / "partial"
    partial.mkdir(parents=True, exist_ok=True)
    with locked(parent / "lock"):
        _sweep(parent)
        root = Path(tempfile.mkdtemp(prefix="pull-", dir=parent))
        lock = open_lock(_lock_of(root))
        try_lock(lock)  # it is new: nobody else has it
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
