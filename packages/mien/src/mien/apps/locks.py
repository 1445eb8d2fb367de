"""File locks that a process can hand to the processes that it starts: free once all of them have ended."""

import fcntl
import os
from pathlib import Path


def open_lock(path: Path) -> int:
    """A descriptor of the lock file, made if need be; closing the last copy of it frees the lock."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def try_lock(descriptor: int) -> bool:
    """Take the lock for this descriptor and its copies alone, unless somebody else has it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def try_share_lock(descriptor: int) -> bool:
    """Take the lock together with others who share it, unless somebody has it alone."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def share_lock(descriptor: int) -> None:
    """Take the lock together with others who share it."""
    fcntl.flock(descriptor, fcntl.LOCK_SH)
