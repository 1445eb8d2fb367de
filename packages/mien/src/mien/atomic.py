"""Atomic and durable writes: neither readers nor the next start ever see half a file."""

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path


def replace_file(path: Path, content: bytes, *, mode: int = 0o600) -> None:
    """Replace the file at `path`, or create it. On return the content is durable.

    Raises OSError; the old content stays then.
    """
    with _draft(path, content, mode) as draft:
        draft.replace(path)
    sync(path.parent)


def create_file(path: Path, content: bytes, *, mode: int = 0o600) -> bool:
    """Create the file with its whole content, if there is none; returns whether it was created here."""
    with _draft(path, content, mode) as draft:
        try:
            path.hardlink_to(draft)  # a rename would replace that of another process
        except FileExistsError:
            return False
    sync(path.parent)
    return True


def sync(path: Path) -> None:
    """Flush a file's content, or a folder's list of names, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _draft(path: Path, content: bytes, mode: int) -> Iterator[Path]:
    # In the same folder, since a rename is atomic within one file system only; synced before it gets its name, since
    # after a power cut the new name must not lead to content that never arrived.
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        yield draft
    finally:
        draft.unlink(missing_ok=True)
