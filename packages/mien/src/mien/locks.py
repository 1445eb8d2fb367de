"""File locks (flock), which the kernel releases when the last descriptor is closed, however a process ends.

Child processes can inherit a descriptor: the lock is then released once all of them have ended.
"""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path


def open_lock(path: Path) -> int:
    """A descriptor of the lock file, which is created if necessary; closing its last copy releases the lock."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def try_lock(descriptor: int) -> bool:
    """Try to take the exclusive lock for this descriptor and its copies; whether it succeeded."""
    return _try(descriptor, fcntl.LOCK_EX)


def try_share_lock(descriptor: int) -> bool:
    """Try to take the shared lock; whether it succeeded."""
    return _try(descriptor, fcntl.LOCK_SH)


def share_lock(descriptor: int) -> None:
    """Take the shared lock; waits for an exclusive holder."""
    fcntl.flock(descriptor, fcntl.LOCK_SH)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on the file at `path`; waits for other holders, also in this process. Not reentrant."""
    descriptor = open_lock(path)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _try(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
