"""Images by path, from below one folder and nowhere else."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath, PureWindowsPath

from mien.errors import ImageTooLarge, SourceFailed, SourceNotFound, SourceRefused

# O_NONBLOCK: opening a named pipe must not wait for its writer. Windows has none of these.
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)
_DIRECTORY = getattr(os, "O_DIRECTORY", 0)
_CAN_WALK = os.open in os.supports_dir_fd and bool(_NOFOLLOW)


def read_under(root: Path | None, path: str, max_bytes: int) -> bytes:
    """The file's bytes; `path` is relative to `root`. Symbolic links may point anywhere inside the root.

    Raises SourceRefused if paths are off (`root` is None), for paths that lead out of the root and for anything but
    regular files, SourceNotFound, ImageTooLarge over `max_bytes`, and SourceFailed for files that cannot be read.
    Errors name the path as it was given, never the root.
    """
    if root is None:
        raise SourceRefused("reading images by path is off: the server's MIEN_IMAGES_ROOT is not set")
    parts = _checked_parts(path)
    shown = path if len(path) <= 120 else path[:117] + "…"
    try:
        return _read(root, parts, shown, max_bytes)
    except (FileNotFoundError, NotADirectoryError):
        raise SourceNotFound(f"there is no file {shown!r} under the server's images root") from None
    except (OSError, RuntimeError) as error:
        reason = error.strerror if isinstance(error, OSError) else None
        raise SourceFailed(f"the file {shown!r} cannot be read: {reason or 'its links go in circles'}") from None


def _checked_parts(path: str) -> tuple[str, ...]:
    pure = PurePosixPath(path)
    if "\0" in path or "\\" in path:
        raise SourceRefused("a path holds '/' between its parts, and neither backslashes nor NUL")
    if pure.is_absolute() or PureWindowsPath(path).drive or path.startswith("~"):
        raise SourceRefused("a path is relative to the server's images root: it starts with neither '/' nor a drive")
    if ".." in pure.parts:
        raise SourceRefused("a path must not hold '..'")
    if not pure.parts:
        raise SourceRefused("the path is empty")
    return pure.parts


def _read(root: Path, parts: tuple[str, ...], shown: str, max_bytes: int) -> bytes:
    top = root.resolve(strict=True)
    real = top.joinpath(*parts).resolve(strict=True)
    if not real.is_relative_to(top):
        raise SourceRefused(f"the path {shown!r} leads out of the server's images root")
    with _opened(top, real.relative_to(top).parts) as file:
        found = os.fstat(file)
        if not stat.S_ISREG(found.st_mode):
            raise SourceRefused(f"{shown!r} is not a regular file")
        if found.st_size > max_bytes:
            raise ImageTooLarge(f"{shown!r} has {found.st_size} bytes; this server reads at most {max_bytes}")
        with os.fdopen(os.dup(file), "rb") as reader:
            data = reader.read(max_bytes + 1)  # the file may have grown since
    if len(data) > max_bytes:
        raise ImageTooLarge(f"{shown!r} has more than {max_bytes} bytes, the most that this server reads")
    return data


@contextmanager
def _opened(top: Path, parts: tuple[str, ...]) -> Iterator[int]:
    """A descriptor of the file. The resolved path has no links, and none is followed: a link that somebody puts there
    between the check and the open is an error, not a way out.
    """
    file = _walk(top, parts) if _CAN_WALK else os.open(top.joinpath(*parts), _FLAGS)
    try:
        yield file
    finally:
        os.close(file)


def _walk(top: Path, parts: tuple[str, ...]) -> int:
    here = os.open(top, _FLAGS | _DIRECTORY)
    for index, part in enumerate(parts):
        kind = _DIRECTORY if index < len(parts) - 1 else 0
        try:
            there = os.open(part, _FLAGS | _NOFOLLOW | kind, dir_fd=here)
        finally:
            os.close(here)
        here = there
    return here
