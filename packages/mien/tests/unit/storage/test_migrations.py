"""Data folders of earlier versions open."""

import asyncio
import signal
import sqlite3
import subprocess
import sys
import tarfile
import textwrap
from contextlib import closing
from pathlib import Path

import pytest

from mien.errors import DatabaseMissing, Unavailable
from mien.keys import FileKeyStore
from mien.storage.backup import KEPT, backup, backups
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


async def test_before_a_migration_the_database_is_backed_up(tmp_path: Path) -> None:
    folder = unpacked(BEFORE_OWNERS[-1], tmp_path)
    owners = "SELECT id, owner, idempotency_key FROM tasks ORDER BY seq"
    execute(folder, "UPDATE tasks SET owner = 'key1'")
    before = rows(folder, owners)
    await (await Database.open(folder / "mien.db")).close()
    (made,) = (folder / "backups").iterdir()
    assert made.name.startswith("mien-0002-")
    assert made.stat().st_mode & 0o777 == 0o600
    assert rows(folder, owners) != before
    made.replace(folder / "mien.db")  # the way back
    assert rows(folder, owners) == before
    await (await Database.open(folder / "mien.db")).close()
    await (await Database.open(folder / "mien.db")).close()
    assert len(list((folder / "backups").iterdir())) == 1, "without a migration there is none"


def test_only_the_newest_backups_are_kept(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "mien.db")) as connection:
        connection.execute("CREATE TABLE x (y)")
    made = [backup(tmp_path / "mien.db", revision) for revision in ("0009", "0001", "0005", "0002", "0003")]
    assert backups(tmp_path / "mien.db") == [*reversed(made)][:KEPT]
    assert {path.name for path in (tmp_path / "backups").iterdir()} == {path.name for path in made[-KEPT:]}


KILLED = """
    import asyncio, os, signal, sys
    from pathlib import Path
    import sqlalchemy as sa
    from alembic import op
    from mien.storage import backup, migrate
    from mien.storage.database import Database

    def die(*args, **kwargs):
        os.kill(os.getpid(), signal.SIGKILL)

    if sys.argv[2] == "in the backup":
        backup.sync = die
    else:
        op.create_table = die
    asyncio.run(Database.open(Path(sys.argv[1])))
"""


@pytest.mark.parametrize("step", ["in the backup", "in the migration"])
async def test_a_kill_in_the_middle_loses_nothing(tmp_path: Path, step: str) -> None:
    folder = unpacked(BEFORE_OWNERS[-1], tmp_path)
    everything = "SELECT id, status, owner, events FROM tasks"
    execute(folder, "UPDATE tasks SET owner = 'key1'")
    before = rows(folder, everything)
    command = [sys.executable, "-c", textwrap.dedent(KILLED), str(folder / "mien.db"), step]
    killed = await asyncio.to_thread(subprocess.run, command, capture_output=True, timeout=60, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert rows(folder, everything) == before
    await (await Database.open(folder / "mien.db")).close()
    assert {row[2] for row in rows(folder, everything)} == {"default"}
    assert [path for path in (folder / "backups").iterdir() if path.suffix != ".db"] == []


FULL = """
    import asyncio, resource, signal, sys
    from pathlib import Path
    from mien.errors import StorageFull
    from mien.storage.database import Database

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, resource.RLIM_INFINITY))
    try:
        asyncio.run(Database.open(Path(sys.argv[1])))
    except StorageFull as error:
        print(error.message)
"""


def test_without_room_for_a_backup_nothing_is_changed(tmp_path: Path) -> None:
    folder = unpacked(BEFORE_OWNERS[-1], tmp_path)
    assert (folder / "mien.db").stat().st_size > 40_000
    command = [sys.executable, "-c", textwrap.dedent(FULL), str(folder / "mien.db")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert "no room for a backup" in done.stdout, done.stderr
    assert rows(folder, "SELECT version_num FROM alembic_version") == [("0002",)]
    assert list((folder / "backups").iterdir()) == []


async def test_a_newer_database_is_left_as_it_is(tmp_path: Path) -> None:
    folder = unpacked(BEFORE_OWNERS[-1], tmp_path)
    execute(folder, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(Unavailable, match=r"written by a newer version of Mien .*start that version, or restore"):
        await Database.open(folder / "mien.db")
    assert not (folder / "backups").exists()


@pytest.mark.parametrize("lost", ["missing", "empty", "zero tables"])
async def test_a_used_folder_without_its_database_is_said(tmp_path: Path, lost: str) -> None:
    folder = unpacked(BEFORE_OWNERS[-1], tmp_path)
    (folder / "mien.db").unlink()
    for left in folder.glob("mien.db-*"):
        left.unlink()
    if lost == "empty":
        (folder / "mien.db").touch()
    if lost == "zero tables":
        execute(folder, "VACUUM")
    for _ in range(2):
        with pytest.raises(DatabaseMissing, match=r"mien\.db in MIEN_DATA_DIR is missing or empty.*begin-anew"):
            await Database.open(folder / "mien.db")
    (folder / "begin-anew").touch()
    await (await Database.open(folder / "mien.db")).close()
    assert not (folder / "begin-anew").exists()
    await (await Database.open(folder / "mien.db")).close()
