"""Whether a data folder was used before: then a database without content has lost what the folder is about."""

from pathlib import Path

from mien.errors import DatabaseMissing
from mien.storage.backup import backups

ACCEPT = "begin-anew"
"""A file that the operator puts into the data folder to have a new database made, once."""


def require_unused(database: Path) -> None:
    """For a database that is missing or empty: raise DatabaseMissing if its folder was used, unless ACCEPT is there,
    which is then removed."""
    folder = database.parent
    if not _was_used(folder):
        return
    accepted = folder / ACCEPT
    if accepted.exists():
        accepted.unlink()
        return
    known = backups(database)
    newest = f" (the newest backup is backups/{known[0].name})" if known else ""
    raise DatabaseMissing(
        f"{database.name} in MIEN_DATA_DIR is missing or empty, but the folder was used before: its tasks and records "
        f"of files are lost. Restore it from a backup{newest}, or create the file {ACCEPT} in MIEN_DATA_DIR to begin "
        "with an empty database; the files of before are then removed"
    )


def _was_used(folder: Path) -> bool:
    """The key that signs file URLs is made by the first start, after the database."""
    if (folder / "secrets" / "files.key").exists():
        return True
    blobs = folder / "files" / "blobs"
    return blobs.is_dir() and any(blobs.iterdir())
