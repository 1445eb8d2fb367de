"""Backups of the database, made before a migration changes it."""

import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from mien.atomic import sync
from mien.errors import StorageFull, Unavailable
from mien.private import private_file, private_folder
from mien.storage.disk import is_full

KEPT = 3
"""Backups of one database. Older ones are removed once a new one is complete."""


def backup(database: Path, revision: str) -> Path:
    """A complete, durable copy of the database, as `backups/NAME-REVISION-TIME.db` beside it.

    Under another name until it is complete, so that neither a crash nor a full disk leaves half a backup. Raises
    StorageFull and Unavailable, with nothing changed.
    """
    folder = database.parent / "backups"
    made = f"{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}"
    target = folder / f"{database.stem}-{revision}-{made}.db"
    partial = target.with_suffix(".partial")
    try:
        private_folder(folder)
        for left in folder.glob("*.partial"):
            left.unlink()
        private_file(partial)
        with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(partial)) as copy:
            source.backup(copy)
            copy.execute("PRAGMA journal_mode=DELETE")  # one file, that can be copied back as it is
        sync(partial)
        partial.rename(target)
        sync(folder)
        for old in backups(database)[KEPT:]:
            old.unlink()
    except (OSError, sqlite3.Error) as error:
        partial.unlink(missing_ok=True)
        if is_full(error):
            raise StorageFull(
                "the disk has no room for a backup of the task database, which this version has to change first; free "
                "as much space as mien.db takes, and start again. Nothing was changed"
            ) from error
        raise Unavailable(f"the task database could not be backed up before it is changed: {error}") from error
    return target


def backups(database: Path) -> list[Path]:
    """The complete backups of the database, the newest first."""
    found = (database.parent / "backups").glob(f"{database.stem}-*.db")
    return sorted(found, key=lambda path: path.stem.rpartition("-")[2], reverse=True)
