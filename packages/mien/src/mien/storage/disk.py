"""Translates disk errors to MienError."""

import errno
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from mien.errors import InternalError, StorageFull

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_WORDS = tuple(os.strerror(number) for number in FULL)


@contextmanager
def disk_errors(failed: str = "the file was not stored") -> Iterator[None]:
    """Translate OSError in the block: to StorageFull, whose message ends with `failed`, if the disk is full; else to
    InternalError."""
    try:
        yield
    except OSError as error:
        if is_full(error):
            raise StorageFull(f"the server's disk is full; {failed}", retry_after=30) from error
        raise InternalError("the server cannot write files; its log has the details") from error


def is_full(error: OSError | sqlite3.Error) -> bool:
    """Whether the disk, or the quota, is full; of SQLite's errors also whether the disk is broken, which it does not
    tell apart."""
    if isinstance(error, sqlite3.Error):
        return any(words in str(error) for words in ("disk is full", "disk I/O error"))
    if isinstance(error, shutil.Error):  # from copytree: it keeps the errors of the files only as text
        return any(words in str(error) for words in _WORDS)
    return error.errno in FULL
