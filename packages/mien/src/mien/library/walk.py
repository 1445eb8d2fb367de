"""The images among files and folders that somebody names, one after the other, whatever else lies between them."""

import errno
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from mien.errors import MienError, SourceFailed, SourceNotFound
from mien.vision.image_format import SUFFIXES

_APPLE_DOUBLE = "._"
_JUNK = {
    "@eadir": "thumbnails of a Synology NAS",
    "#recycle": "the recycle bin of a NAS",
    "$recycle.bin": "the recycle bin of Windows",
    "__macosx": "metadata of macOS",
    ".ds_store": "metadata of macOS",
    "thumbs.db": "thumbnails of Windows",
    "ehthumbs.db": "thumbnails of Windows",
}
"""What other programs put beside images, by name in lower case."""
_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


@dataclass(frozen=True, slots=True)
class ImageFile:
    """A regular file that may be an image."""

    path: Path
    bytes: int
    modified_ns: int
    """Nanoseconds since 1970."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """What is no image although it looks like one, or may hold some that are not wanted."""

    path: Path
    reason: str


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A file or folder that is named or looks like an image, and of which nothing can be read."""

    path: Path
    error: MienError


Entry: TypeAlias = ImageFile | Skipped | Unreadable


def walk(paths: Iterable[Path]) -> Iterator[Entry]:
    """The entries at and below `paths`, as they are named, each folder in the order of its names.

    Files are yielded whatever their names; of folders, and folders below them, those whose names say that they are
    images (`SUFFIXES`). Never raises and never blocks on an entry; holds the names of the folders that it is in, not of
    all. Links to files are followed, links to folders only if they are in `paths`.
    """
    for path in paths:
        yield from _named(path)


def _named(path: Path) -> Iterator[Entry]:
    try:
        found = path.stat()
    except (OSError, ValueError) as error:
        yield _without_file(path, error)
        return
    if stat.S_ISDIR(found.st_mode):
        yield from _below(path)
    else:
        yield _of(path, found)


def _below(top: Path) -> Iterator[Entry]:
    """A stack of open folders instead of recursion: paths can be nested deeper than calls."""
    open_folders = [_entries(top)]
    while open_folders:
        entry = next(open_folders[-1], None)
        if entry is None:
            open_folders.pop()
        elif isinstance(entry, Unreadable):
            yield entry
        else:
            yield from _judged(entry)
            if _is_wanted_folder(entry):
                open_folders.append(_entries(Path(entry.path)))


def _entries(folder: Path) -> "Iterator[os.DirEntry[str] | Unreadable]":
    try:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        yield Unreadable(folder, SourceFailed(f"the folder cannot be read: {error.strerror or error}"))
        return
    yield from entries


def _is_wanted_folder(entry: "os.DirEntry[str]") -> bool:
    return _is_folder(entry) and not entry.name.startswith(".") and entry.name.lower() not in _JUNK


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    """Whether it is a folder, and no link to one."""
    try:
        return entry.is_dir(follow_symlinks=False)
    except OSError:  # on file systems whose lists do not say what their entries are
        return False


def _judged(entry: "os.DirEntry[str]") -> Iterator[Entry]:
    """The entry of a folder, if it is anything to speak of."""
    path = Path(entry.path)
    if reason := _JUNK.get(entry.name.lower()):
        yield Skipped(path, reason)
    elif _is_folder(entry) and entry.name.startswith("."):
        yield Skipped(path, "a hidden folder")
    elif entry.is_symlink() and os.path.isdir(path):  # noqa: PTH112 - pathlib's raises for folders that are closed
        yield Skipped(path, "a link to a folder; name it to have it searched")
    elif not entry.name.lower().endswith(SUFFIXES):
        return
    elif entry.name.startswith(_APPLE_DOUBLE):
        yield Skipped(path, "metadata of macOS")
    elif entry.name.startswith("."):
        yield Skipped(path, "a hidden file")
    elif _is_folder(entry):
        yield Skipped(path, "a folder that is called like an image; it is searched")
    else:
        yield _file(path)


def _file(path: Path) -> Entry:
    try:
        return _of(path, path.stat())
    except OSError as error:
        return _without_file(path, error)


def _of(path: Path, found: os.stat_result) -> Entry:
    if stat.S_ISREG(found.st_mode):
        return ImageFile(path, found.st_size, found.st_mtime_ns)
    kind = next((words for is_kind, words in _KINDS if is_kind(found.st_mode)), "no regular file")
    return Skipped(path, kind)


def _without_file(path: Path, error: Exception) -> Entry:
    """Why there is nothing to read at `path`: a link to nothing, or nothing at all."""
    if isinstance(error, OSError) and error.errno == errno.ELOOP:
        return Skipped(path, "a link that leads back to itself")
    if isinstance(error, FileNotFoundError) and os.path.lexists(path):
        return Skipped(path, "a link to a file that does not exist")
    if isinstance(error, FileNotFoundError | NotADirectoryError | ValueError):
        return Unreadable(path, SourceNotFound("no such file or directory"))
    reason = error.strerror if isinstance(error, OSError) else None
    return Unreadable(path, SourceFailed(f"it cannot be read: {reason or error}"))
