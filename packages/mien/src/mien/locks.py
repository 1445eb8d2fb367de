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
    """Take the lock exclusively, for this descriptor and its copies; whether it was free."""
    return _try(descriptor, fcntl.LOCK_EX)


def try_share_lock(descriptor: int) -> bool:
    """Take the lock shared; whether nobody held it exclusively."""
    return _try(descriptor, fcntl.LOCK_SH)


def share_lock(descriptor: int) -> None:
    """Take the lock shared; waits for an exclusive holder."""
    fcntl.flock(descriptor, fcntl.LOCK_SH)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file at `path` exclusively; waits for others, threads of this process included. Not reentrant."""
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
