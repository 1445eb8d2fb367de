"""Opening files that others may have put there.

Below a directory, links are not followed: whoever can write there must not lead a reader out of it.
"""

import asyncio
import os
import stat
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

# O_NONBLOCK: opening a named pipe must not wait for its writer. Windows has none of these.
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)
_DIRECTORY = getattr(os, "O_DIRECTORY", 0)
_CAN_WALK = os.open in os.supports_dir_fd and bool(_NOFOLLOW)


class Identity(NamedTuple):
    """What tells one file or directory from all others, whatever its names."""

    device: int
    inode: int


class Avoided(OSError):
    """The way leads through a directory that is to be avoided."""


class NotRegular(OSError):
    """It is a directory, a pipe, a socket or a device."""


def identity(path: Path | int) -> Identity:
    """Of a path, whose links are followed, or of a descriptor. Raises OSError."""
    found = os.stat(path)  # noqa: PTH116  descriptors
    return Identity(found.st_dev, found.st_ino)


def parts_below(top: Path, path: Path) -> Sequence[str] | None:
    """The path's parts below `top`, by either name of that; None if it is elsewhere."""
    plain = Path(os.path.normpath(path))
    for name in (top, top.resolve()):
        if plain.is_relative_to(name) and plain != name:
            return plain.relative_to(name).parts
    return None


async def in_thread(open_file: Callable[[], BinaryIO]) -> BinaryIO:
    """The file that `open_file` opens, in a thread: disks stall. It is closed if nobody waits for it any more."""
    opening = asyncio.ensure_future(asyncio.to_thread(open_file))
    try:
        return await asyncio.shield(opening)
    except asyncio.CancelledError:
        opening.add_done_callback(_close_result)
        raise


def _close_result(opening: "asyncio.Future[BinaryIO]") -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()


def open_in(folders: Iterable[Path], path: Path, closed: Path) -> BinaryIO | None:
    """The file at `path`, as `open_below` opens it, in the first of the folders that it is below; None if in none.

    Nothing in the directory `closed` is opened, whether that is below a folder or around it. Raises as `open_below`.
    """
    for folder in folders:
        if (parts := parts_below(folder, path)) is not None:
            if folder.resolve().is_relative_to(closed.resolve()):
                raise Avoided("this directory is closed")
            return open_below(folder, parts, avoid=identity(closed) if closed.exists() else None)
    return None


def open_below(top: Path, parts: Sequence[str], *, avoid: Identity | None = None) -> BinaryIO:
    """The regular file `parts` below `top`, opened for unbuffered reading. `top` itself may be a link.

    Neither a directory on the way nor the file may be a link, also if one is put there meanwhile: that is an OSError.
    Raises OSError, NotRegular, and Avoided if the way leads through the directory `avoid`.
    """
    return _regular(_descriptor(top, parts, avoid))


def open_regular(path: Path) -> BinaryIO:
    """The regular file at `path`, whose links are followed, opened for unbuffered reading.

    Opening anything else can block or do something (a tape rewinds): it is looked at first, and again once it is open.
    Raises OSError, NotRegular.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise NotRegular("not a regular file")
    return _regular(os.open(path, _FLAGS))


def read_at_most(file: BinaryIO, most: int) -> bytes:
    """The content of an unbuffered file; one byte more than `most` if there is more. Raises OSError."""
    with os.fdopen(os.dup(file.fileno()), "rb") as reader:  # buffered: reads all that is asked for
        return reader.read(most + 1)


def _regular(descriptor: int) -> BinaryIO:
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise NotRegular("not a regular file")
    return os.fdopen(descriptor, "rb", buffering=0)


def _descriptor(top: Path, parts: Sequence[str], avoid: Identity | None) -> int:
    if not _CAN_WALK:
        return os.open(top.joinpath(*parts), _FLAGS)
    here = os.open(top, _FLAGS | _DIRECTORY)
    for index, part in enumerate(parts):
        kind = _DIRECTORY if index < len(parts) - 1 else 0
        try:
            if avoid is not None and identity(here) == avoid:
                raise Avoided("this directory is closed")
            there = os.open(part, _FLAGS | _NOFOLLOW | kind, dir_fd=here)
        finally:
            os.close(here)
        here = there
    return here
