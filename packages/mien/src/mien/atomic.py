"""Atomic, durable writes: neither a concurrent reader nor the next start ever sees a partial file."""

import contextlib
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path

_TEMPORARY = re.compile(r"\..+\.(\d{1,9})\.[0-9a-f]{8}")


def replace_file(path: Path, content: bytes, *, mode: int = 0o600) -> None:
    """Replace or create the file at `path`. On return the content is durable.

    Raises OSError, with the old content intact.
    """
    with _temporary(path, content, mode) as temporary:
        temporary.replace(path)
    sync(path.parent)


def create_file(path: Path, content: bytes, *, mode: int = 0o600) -> bool:
    """Create the file with its whole content unless it exists; whether this call created it."""
    with _temporary(path, content, mode) as temporary:
        try:
            path.hardlink_to(temporary)  # a rename would replace a file that another process just created
        except FileExistsError:
            return False
    sync(path.parent)
    return True


def remove_leftovers(folder: Path) -> None:
    """Remove what processes that were killed during a write left in this directory, which need not exist."""
    for path in folder.glob(".*"):
        match = _TEMPORARY.fullmatch(path.name)
        if match is not None and not _is_alive(int(match[1])):
            path.unlink(missing_ok=True)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # another user's
    return True


def sync(path: Path) -> None:
    """fsync a file's content, or a directory's entries."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _temporary(path: Path, content: bytes, mode: int) -> Iterator[Path]:
    # In the same directory, since a rename is atomic within one file system only. Synced before the rename: after a
    # power cut the name must not refer to content that never reached the disk.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)
