"""Images by path: from below one folder and nowhere else, or wherever this program's own user says."""

import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import BinaryIO

from mien.confined import NotRegular, open_below, open_regular, parts_below, read_at_most
from mien.errors import ImageTooLarge, SourceFailed, SourceNotFound, SourceRefused


def read_under(root: Path | None, path: str, max_bytes: int) -> bytes:
    """The file's bytes; `path` is relative to `root`, or absolute and below it, as clients of the original server send
    it. Symbolic links may point anywhere inside the root.

    Raises SourceRefused if paths are off (`root` is None), for paths that lead out of the root and for anything but
    regular files, SourceNotFound, ImageTooLarge over `max_bytes`, and SourceFailed for files that cannot be read.
    Errors name the path as it was given, never the root: an absolute path that names no file is the same error
    wherever it leads, since a guess at the root must not be confirmed.
    """
    if root is None:
        raise SourceRefused("reading images by path is off: the server's MIEN_IMAGES_ROOT is not set")
    shown = path if len(path) <= 120 else path[:117] + "…"
    parts = _checked_parts(root, path, shown)
    try:
        return _read(root, parts, shown, max_bytes)
    except (FileNotFoundError, NotADirectoryError):
        if path.startswith("/"):
            raise _elsewhere(shown) from None
        raise SourceNotFound(f"there is no file {shown!r} under the server's images root") from None
    except (OSError, RuntimeError) as error:
        reason = error.strerror if isinstance(error, OSError) else None
        raise SourceFailed(f"the file {shown!r} cannot be read: {reason or 'its links go in circles'}") from None


def read_anywhere(path: Path, max_bytes: int) -> bytes:
    """The file's bytes, whose path this program's user named; links are followed. Nothing blocks but the disk.

    Raises SourceNotFound, ImageTooLarge over `max_bytes`, and SourceFailed for anything but regular files and for those
    that cannot be read. Errors do not name the path.
    """
    try:
        return _within(open_regular(path), "the image", max_bytes)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        raise SourceNotFound("no such file") from None
    except NotRegular:
        raise SourceFailed("it is not a regular file") from None
    except OSError as error:
        raise SourceFailed(f"it cannot be read: {error.strerror or error}") from None


def _checked_parts(root: Path, path: str, shown: str) -> Sequence[str]:
    """The path's parts below the root. Raises SourceRefused."""
    pure = PurePosixPath(path)
    if "\0" in path or "\\" in path:
        raise SourceRefused("a path holds '/' between its parts, and neither backslashes nor NUL")
    if (PureWindowsPath(path).drive and not pure.is_absolute()) or path.startswith("~"):
        raise SourceRefused("a path is relative to the server's images root: it starts with neither '~' nor a drive")
    if ".." in pure.parts:
        raise SourceRefused("a path must not hold '..'")
    if not pure.parts:
        raise SourceRefused("the path is empty")
    if not pure.is_absolute():
        return pure.parts
    below = parts_below(root, Path("/", *pure.parts[1:]))  # a path may start with '//'
    if below is None:
        raise _elsewhere(shown)
    return below


def _elsewhere(shown: str) -> SourceRefused:
    return SourceRefused(
        f"{shown!r} is no file below the server's images root: a path is relative to it, or absolute and below it"
    )


def _read(root: Path, parts: Sequence[str], shown: str, max_bytes: int) -> bytes:
    top = root.resolve(strict=True)
    real = top.joinpath(*parts).resolve(strict=True)
    if not real.is_relative_to(top):
        raise SourceRefused(f"the path {shown!r} leads out of the server's images root")
    # The resolved path has no links: one that somebody puts there since is an error, not a way out.
    try:
        file = open_below(top, real.relative_to(top).parts)
    except NotRegular:
        raise SourceRefused(f"{shown!r} is not a regular file") from None
    return _within(file, repr(shown), max_bytes)


def _within(file: BinaryIO, shown: str, max_bytes: int) -> bytes:
    """All of the file, which is closed. Raises ImageTooLarge, before anything is read where its size says so."""
    with file:
        size = os.fstat(file.fileno()).st_size
        if size > max_bytes:
            raise ImageTooLarge(f"{shown} has {size} bytes; this server reads at most {max_bytes}")
        data = read_at_most(file, max_bytes)  # the file may have grown since
    if len(data) > max_bytes:
        raise ImageTooLarge(f"{shown} has more than {max_bytes} bytes, the most that this server reads")
    return data
