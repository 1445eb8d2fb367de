"""Errors of the disk as sentences."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from mien.errors import InternalError, StorageFull

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_WORDS = tuple(os.strerror(number) for number in FULL)


@contextmanager
def disk_errors(failed: str = "the file was not stored") -> Iterator[None]:
    """Raises StorageFull that ends with `failed` where there was no room, InternalError for any other OSError."""
    try:
        yield
    except OSError as error:
        if is_full(error):
            raise StorageFull(f"the server's disk is full; {failed}", retry_after=30) from error
        raise InternalError("the server cannot write files; its log has the details") from error


def is_full(error: OSError) -> bool:
    """Whether it says that there is no room."""
    if isinstance(error, shutil.Error):  # of many files: it keeps their errors as texts alone
        return any(words in str(error) for words in _WORDS)
    return error.errno in FULL
