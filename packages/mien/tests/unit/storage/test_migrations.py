"""Data folders of earlier versions open."""

import sqlite3
import tarfile
from contextlib import closing
from pathlib import Path

import pytest

from mien.keys import FileKeyStore
from mien.storage.database import Database

ARCHIVES = sorted((Path(__file__).parents[2] / "replay").glob("data-*.tar.gz"))
"""Written by `replay/old_data.py`: one of a release, then one of each schema that was in use since."""
BEFORE_OWNERS = [archive for archive in ARCHIVES if archive.name in ("data-0.1.0.tar.gz", "data-schema-0002.tar.gz")]


def unpacked(archive: Path, folder: Path) -> Path:
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")
    return folder / "data"


def rows(folder: Path, statement: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(folder / "mien.db")) as connection:
        return connection.execute(statement).fetchall()


def execute(folder: Path, statement: str) -> None:
    with closing(sqlite3.connect(folder / "mien.db")) as connection:
        connection.execute(statement)
        connection.commit()


def test_there_is_an_archive_of_every_earlier_schema() -> None:
    assert len(BEFORE_OWNERS) == 2


@pytest.mark.parametrize("archive", ARCHIVES, ids=lambda archive: str(archive.name))
async def test_a_folder_of_an_earlier_version_opens_with_all_that_it_has(archive: Path, tmp_path: Path) -> None:
    folder = unpacked(archive, tmp_path)
    everything = "SELECT id, status, events, metadata FROM tasks UNION ALL SELECT id, sha256, size, path FROM files"
    before = rows(folder, everything)
    assert len(before) > 10
    await (await Database.open(folder / "mien.db")).close()
    assert rows(folder, everything) == before


@pytest.mark.parametrize("archive", BEFORE_OWNERS, ids=lambda archive: str(archive.name))
async def test_what_was_made_before_there_were_owners_belongs_to_the_default_owner(
    archive: Path, tmp_path: Path
) -> None:
    folder = unpacked(archive, tmp_path)
    execute(folder, "UPDATE tasks SET owner = '0a1b2c3d' WHERE seq % 2")
    await (await Database.open(folder / "mien.db")).close()
    assert rows(folder, "SELECT DISTINCT owner FROM tasks") == [("default",)]
    assert rows(folder, "SELECT DISTINCT owner FROM files") == [("default",)]
    assert {key.owner for key in FileKeyStore(folder).all()} == {"default"}


async def test_an_idempotency_key_that_two_api_keys_used_stays_with_the_newest_task(tmp_path: Path) -> None:
    folder = unpacked(BEFORE_OWNERS[-1], tmp_path)
    execute(folder, "UPDATE tasks SET owner = 'key' || seq, idempotency_key = 'same' WHERE seq IN (2, 4, 6)")
    execute(folder, "UPDATE tasks SET idempotency_key = 'other' WHERE seq = 1")
    await (await Database.open(folder / "mien.db")).close()
    kept = rows(folder, "SELECT seq, idempotency_key FROM tasks WHERE seq IN (1, 2, 4, 6) ORDER BY seq")
    assert kept == [(1, "other"), (2, None), (4, None), (6, "same")]
