"""Files of this machine that clients name by their path: below the operator's directories, and nowhere else."""

import errno
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote

from infsh._caller import SERVER_FILE
from mien.confined import Avoided, NotRegular, open_in
from mien.errors import MienError, SourceFailed, SourceNotFound, SourceRefused

_SETTING = "MIEN_APP_INPUT_DIRS"


class _Elsewhere(OSError):
    """It is below none of the directories."""


class InputPaths:
    """Opens such files. Errors name the path as the client gave it."""

    def __init__(self, folders: Sequence[Path], closed: Path) -> None:
        """`closed`: the server's data directory, of which nothing is an input, even if it is below one of `folders`."""
        self._folders = folders
        self._closed = closed

    def open(self, url: str) -> BinaryIO:
        """The file behind a `server-file://` URL, for unbuffered reading. Neither it nor a directory on the way may be
        a link. Raises SourceRefused, SourceNotFound, SourceFailed."""
        path = unquote(url.removeprefix(SERVER_FILE))
        try:
            return self._opened(Path(path))
        except (OSError, ValueError) as error:
            raise _failure(path if len(path) <= 120 else path[:117] + "…", error) from None

    def _opened(self, path: Path) -> BinaryIO:
        content = open_in(self._folders, path, self._closed)
        if content is None:
            raise _Elsewhere
        return content


def _failure(shown: str, error: OSError | ValueError) -> MienError:
    match error:
        case FileNotFoundError():
            return SourceNotFound(f"there is no file {shown!r}")
        case Avoided():
            return SourceRefused(f"the file {shown!r} belongs to the server")
        case NotRegular():
            return SourceRefused(f"{shown!r} is not a regular file")
        case _Elsewhere():
            return SourceRefused(f"the file {shown!r} is not below one of the directories in {_SETTING}")
        case OSError(errno=errno.ELOOP | errno.ENOTDIR):
            return SourceRefused(f"the file {shown!r} is a link or behind one, and links are not followed")
    return SourceFailed(f"the file {shown!r} cannot be read")
