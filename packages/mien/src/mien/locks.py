"""File locks (flock), which the kernel frees when the last descriptor is closed, however a process ends.

A process can hand its descriptor to the processes that it starts: the lock is free once all of them have ended.
"""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path


def open_lock(path: Path) -> int:
    """A descriptor of the lock file, made if need be; closing the last copy of it frees the lock."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def try_lock(descriptor: int) -> bool:
    """Take the lock for this descriptor and its copies alone, unless somebody else has it."""
    return _try(descriptor, fcntl.LOCK_EX)


def try_share_lock(descriptor: int) -> bool:
    """Take the lock together with others who share it, unless somebody has it alone."""
    return _try(descriptor, fcntl.LOCK_SH)


def share_lock(descriptor: int) -> None:
    """Take the lock together with others who share it; waits for one who has it alone."""
    fcntl.flock(descriptor, fcntl.LOCK_SH)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds the lock file at `path` alone; waits for others, threads of this process included. Not reentrant."""
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
