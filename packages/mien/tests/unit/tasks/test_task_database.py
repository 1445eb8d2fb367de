"""The database: group commit, migrations, the lock, and errors of the machine as sentences."""

import asyncio
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from mien.errors import Conflict, DatabaseInUse, InternalError, Unavailable
from mien.storage.database import Database
from mien.storage.dialect import writer_engine
from mien.storage.migrate import HEAD
from mien.storage.schema import files, metadata
from mien.storage.upgrade import configuration


def insert(name: str) -> sa.Insert:
    return sa.insert(files).values(
        id=name, created_at=0, updated_at=0, owner="", filename="", content_type="", public=False
    )


def tables(engine: sa.Engine) -> set[str]:
    with engine.connect() as connection:
        return set(connection.exec_driver_sql("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL").scalars())


async def test_a_new_database_has_the_schema_that_migrations_lead_to(tmp_path: Path) -> None:
    migrated, config = writer_engine(tmp_path / "migrated.db"), configuration()
    with migrated.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
    with migrated.connect() as connection:
        context = MigrationContext.configure(connection)
        assert compare_metadata(context, metadata) == []
        assert context.get_current_revision() == HEAD
    database = await Database.open(tmp_path / "t.db")
    assert tables(database._writing) == tables(migrated)
    migrated.dispose()
    await database.close()


async def test_a_commit_is_on_the_disk(tmp_path: Path) -> None:
    database = await Database.open(tmp_path / "t.db")
    with database._reading.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
    with database._writing.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
    await database.close()


async def test_a_failing_write_takes_nobody_with_it(tmp_path: Path) -> None:
    database = await Database.open(tmp_path / "t.db")
    told: list[str] = []

    def good(connection: sa.Connection, name: str) -> str:
        connection.execute(insert(name))
        return name

    def bad(connection: sa.Connection) -> str:
        connection.execute(insert("bad"))
        raise Conflict("no")

    writes = [database.write(lambda c, n=n: good(c, f"{n:02}"), told.append) for n in range(20)]  # type: ignore[misc]
    writes.insert(7, database.write(bad, told.append))
    results = await asyncio.gather(*writes, return_exceptions=True)
    assert sum(isinstance(result, Conflict) for result in results) == 1
    names = await database.read(lambda c: c.execute(sa.select(files.c.id).order_by(files.c.id)).scalars().all())
    assert list(names) == told == [f"{n:02}" for n in range(20)]
    await database.close()
    with pytest.raises(Unavailable):
        await database.write(bad)
    with pytest.raises(Unavailable):
        await database.read(bad)


async def test_a_listener_that_fails_stops_nobody(tmp_path: Path) -> None:
    database = await Database.open(tmp_path / "t.db")
    caught: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: caught.append(context["exception"]))

    def failing(_: object) -> None:
        raise RuntimeError

    assert await database.write(lambda c: 1, failing) == 1
    assert await database.write(lambda c: 2) == 2
    assert len(caught) == 1
    await database.close()


async def test_only_one_process_has_it_open(tmp_path: Path) -> None:
    database = await Database.open(tmp_path / "t.db")
    script = """
        import asyncio, sys
        from pathlib import Path
        from mien.storage.database import Database
        asyncio.run(Database.open(Path(sys.argv[1])))
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(tmp_path / "t.db")]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=60, check=False)
    assert "DatabaseInUse: another server uses this data directory" in done.stderr
    with pytest.raises(DatabaseInUse):
        await Database.open(tmp_path / "t.db")
    await database.close()
    await (await Database.open(tmp_path / "t.db")).close()


async def test_corrupt_and_newer_databases_are_rejected_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "bad.db").write_bytes(b"this is no database" * 1000)
    with pytest.raises(InternalError, match="corrupt"):
        await Database.open(tmp_path / "bad.db")
    database = await Database.open(tmp_path / "t.db")
    await database.write(lambda c: c.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'") and None)
    await database.close()
    with pytest.raises(Unavailable, match="newer version"):
        await Database.open(tmp_path / "t.db")
    with pytest.raises(Unavailable):
        await Database.open(Path("/proc/nowhere/t.db"))


FULL_DISK = """
    import asyncio, resource, signal, sys
    from pathlib import Path
    from mien.encoded import Encoded
    from mien.storage.database import Database
    from mien.errors import StorageFull
    from mien.tasks.records import Submission
    from mien.tasks.sql.store import SqlTaskStore
    from mien.tasks.store import Filter

    async def main(path):
        database = await Database.open(path)
        store = SqlTaskStore(database)
        accepted, refused = [], 0
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, resource.RLIM_INFINITY))
        for number in range(40):
            try:
                accepted.append((await store.submit(Submission(app="a/b", input=Encoded.of("x" * 50_000))))[0].id)
            except StorageFull as error:
                refused += 1
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        accepted.append((await store.submit(Submission(app="a/b", input=Encoded.of("x" * 50_000))))[0].id)
        found = {task.id for task in (await store.find(Filter(), limit=100)).tasks}
        print(refused > 0, found == set(accepted))
        await database.close()

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    asyncio.run(main(Path(sys.argv[1])))
"""


def test_on_a_full_disk_nothing_is_accepted_that_is_not_stored(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(FULL_DISK), str(tmp_path / "t.db")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == "True True\n", done.stdout + done.stderr
