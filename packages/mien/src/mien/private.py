"""Files and folders that only the server's user may read, whatever the umask."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

FOLDER, FILE = 0o700, 0o600
_TIGHT = ("", "secrets", "backups")
"""Folders below the data folder whose own files hold state. What else is in it is behind the data folder's own mode."""


def private_folder(path: Path) -> None:
    """Create the folder, unless it exists, and those above it. Raises OSError."""
    path.mkdir(parents=True, exist_ok=True, mode=FOLDER)


def private_file(path: Path) -> None:
    """Create the file, empty, unless it exists. Raises OSError."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE))


def tighten(data_dir: Path) -> tuple[list[str], list[str]]:
    """Take everybody else's permissions from the data folder and the files of state in it.

    Returns what was changed, and what could not be: names relative to the folder, with the mode that they had. A folder
    that others share by design (with the sticky bit, as `/tmp`) is left as it is.
    """
    changed: list[str] = []
    failed: list[str] = []
    for path in _state(data_dir):
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode) or not mode & 0o077:
            continue
        named = f"{path.relative_to(data_dir)} ({stat.S_IMODE(mode):04o})"
        if stat.S_ISDIR(mode) and mode & stat.S_ISVTX:
            failed.append(named)
            continue
        try:
            path.chmod(stat.S_IMODE(mode) & ~0o077)
        except OSError:
            failed.append(named)
        else:
            changed.append(named)
    return changed, failed


def _state(data_dir: Path) -> Iterator[Path]:
    for name in _TIGHT:
        folder = data_dir / name
        if folder.is_dir():
            yield folder
            yield from sorted(path for path in folder.iterdir() if path.is_file())
