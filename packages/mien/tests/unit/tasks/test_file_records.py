"""The files of tasks end with them: the task store and the file store on one database."""

import asyncio
import signal
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from mien.encoded import Encoded
from mien.errors import InvalidField, NotFound
from mien.storage.database import Database
from mien.storage.dialect import writer_engine
from mien.storage.file_records import FileRecord, NewFile
from mien.storage.file_store import FileStore
from mien.storage.file_table import FileTable
from mien.storage.local_blobs import LocalBlobs
from mien.storage.migrate import migrate
from mien.storage.schema import files as file_table
from mien.tasks.machine import Outcome
from mien.tasks.records import Submission
from mien.tasks.sql.store import SqlTaskStore
from mien.tasks.status import Status
from mien.tasks.store import Filter

HOUR = 3600.0


class House:
    """Both stores, as a server has them."""

    def __init__(self, folder: Path, database: Database, clock: Any) -> None:
        self.folder, self.clock = folder, clock
        self.tasks = SqlTaskStore(database, clock=clock)
        self.files = FileStore(FileTable(database, clock), LocalBlobs(folder / "files"), clock=clock)

    async def task(self, *given: FileRecord, setup: Any = None) -> str:
        """A queued task with those files as its input."""
        names = [f"mien-file://{record.id}/{record.filename}" for record in given]
        task, _ = await self.tasks.submit(Submission(app="test/app", input=Encoded.of({"given": names}), setup=setup))
        return task.id

    async def file(self, content: bytes, **fields: Any) -> FileRecord:
        async def chunks() -> AsyncIterator[bytes]:
            yield content

        record = await self.files.create(NewFile(filename="a b.bin", **fields))
        return await self.files.write(record.id, chunks())

    async def end(self, task_id: str) -> None:
        attempt = await self.tasks.claim(task_id, "server", self.clock() + 30)
        assert attempt is not None
        await self.tasks.finish(attempt, Outcome(status=Status.COMPLETED, output={}))

    async def ended(self, *given: FileRecord, made: tuple[bytes, ...] = (), setup: Any = None) -> tuple[str, Any]:
        """An ended task and the files that it made."""
        task_id = await self.task(*given, setup=setup)
        records = [await self.file(content, task_id=task_id) for content in made]
        await self.end(task_id)
        return task_id, records

    async def there(self, record: FileRecord | str) -> bool:
        try:
            await self.files.get(record if isinstance(record, str) else record.id)
        except NotFound:
            return False
        return True

    def contents(self) -> list[bytes]:
        found = (self.folder / "files" / "blobs").rglob("*")
        return sorted(path.read_bytes() for path in found if path.is_file())


@pytest.fixture
async def house(tmp_path: Path, clock: Any) -> AsyncIterator[House]:
    database = await Database.open(tmp_path / "mien.db")
    house = House(tmp_path, database, clock)
    await house.files.start()
    yield house
    await database.close()


async def test_what_a_task_made_is_gone_with_it_at_once_and_its_bytes_after_it(house: House) -> None:
    task_id, (one, other) = await house.ended(made=(b"one", b"other"))
    await house.tasks.delete(task_id)
    assert not await house.there(one)
    assert not await house.there(other)
    assert (await house.files.find()).files == ()
    assert await house.files.expire(house.clock()) == 2
    assert house.contents() == []


async def test_retention_takes_the_files_of_the_tasks_that_it_takes(house: House) -> None:
    _, (old,) = await house.ended(made=(b"old",))
    house.clock.now += 100
    _, (young,) = await house.ended(made=(b"young",))
    assert await house.tasks.purge(house.clock()) == 1
    assert [await house.there(record) for record in (old, young)] == [False, True]
    await house.files.purge(house.clock())
    assert house.contents() == [b"young"]


async def test_a_file_that_another_task_was_given_stays_as_long_as_that(house: House) -> None:
    maker, (made,) = await house.ended(made=(b"made",))
    queued = await house.task(made)
    in_setup, _ = await house.ended(setup={"deep": [{"model": f"mien-file://{made.id}/x"}]})
    await house.tasks.delete(maker)
    await house.tasks.delete(in_setup)
    await house.files.purge(house.clock())
    assert await house.there(made)
    await house.end(queued)
    await house.tasks.delete(queued)
    await house.files.purge(house.clock())
    assert house.contents() == []


async def test_a_file_stays_with_its_maker_when_who_was_given_it_goes(house: House) -> None:
    _, (made,) = await house.ended(made=(b"made",))
    user, _ = await house.ended(made)
    await house.tasks.delete(user)
    await house.files.purge(house.clock())
    assert await house.there(made)


async def test_tasks_that_were_given_each_others_files_go_together(house: House) -> None:
    first, records = await house.ended(made=(b"0",))
    for number in range(1, 10):
        _, records = await house.ended(*records, made=(str(number).encode(),))
    house.clock.now += 1
    assert await house.tasks.purge(house.clock(), limit=4) == 4
    await house.files.purge(house.clock())
    assert house.contents() == [b"3", b"4", b"5", b"6", b"7", b"8", b"9"]  # the fifth task still has the fourth's
    assert await house.tasks.purge(house.clock()) == 6
    await house.files.purge(house.clock())
    assert house.contents() == []
    with pytest.raises(NotFound):
        await house.tasks.get(first)


async def test_a_task_is_not_accepted_for_a_file_that_went_before_it(house: House) -> None:
    maker, (made,) = await house.ended(made=(b"made",))
    _, late = await asyncio.gather(house.tasks.delete(maker), house.task(made), return_exceptions=True)
    assert isinstance(late, InvalidField)
    assert made.id in late.message
    assert (await house.tasks.find(Filter())).tasks == ()
    maker, (made,) = await house.ended(made=(b"made",))
    early, _ = await asyncio.gather(house.task(made), house.tasks.delete(maker))
    assert await house.there(made)
    assert [task.id for task in (await house.tasks.find(Filter())).tasks] == [early]


async def test_a_task_may_be_given_any_number_of_files(house: House) -> None:
    many = [f"mien-file://{number:026d}/x" for number in range(40_000)]
    task, _ = await house.tasks.submit(Submission(app="test/app", input=Encoded.of(many)))
    await house.end(task.id)
    await house.tasks.delete(task.id)


async def test_uploads_are_their_owners(house: House) -> None:
    """Public or not, given to a task or not, and also where a task made the same content."""
    uploads = [await house.file(content, public=public) for content, public in ((b"same", False), (b"mine", True))]
    task_id, (made,) = await house.ended(*uploads, made=(b"same",))
    await house.tasks.delete(task_id)
    await house.files.purge(house.clock())
    assert [await house.there(record) for record in (*uploads, made)] == [True, True, False]
    assert house.contents() == [b"mine", b"same"]


async def test_an_upload_that_never_came_is_no_tasks_business(house: House) -> None:
    record = await house.files.create(NewFile(filename="later"))
    task_id, _ = await house.ended(record)
    await house.tasks.delete(task_id)
    assert await house.there(record)


KILLED = """
    import asyncio, os, signal, sys
    from pathlib import Path
    from mien.storage.database import Database
    from mien.storage.file_store import FileStore
    from mien.storage.file_table import FileTable
    from mien.storage.local_blobs import LocalBlobs
    from mien.tasks.sql.store import SqlTaskStore

    class DyingTable(FileTable):
        async def delete(self, file_id, owner=None):
            if sys.argv[3] == "before the record goes":
                os.kill(os.getpid(), signal.SIGKILL)
            return await super().delete(file_id, owner)

    class DyingBlobs(LocalBlobs):
        async def remove(self, sha256):
            os.kill(os.getpid(), signal.SIGKILL)  # its record is gone, its content is about to go

    async def main(folder, task_id):
        database = await Database.open(folder / "mien.db")
        await SqlTaskStore(database).delete(task_id)
        table, blobs = DyingTable(database, lambda: 2e9), DyingBlobs(folder / "files")
        await FileStore(table, blobs, clock=lambda: 2e9).purge(2e9)

    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
"""


@pytest.mark.parametrize("step", ["before the record goes", "before the content goes"])
async def test_a_kill_between_task_and_file_leaves_nothing_for_good(tmp_path: Path, clock: Any, step: str) -> None:
    database = await Database.open(tmp_path / "mien.db")
    house = House(tmp_path, database, clock)
    await house.files.start()
    task_id, (made,) = await house.ended(made=(b"made",))
    await database.close()

    command = [sys.executable, "-c", textwrap.dedent(KILLED), str(tmp_path), task_id, step]
    killed = await asyncio.to_thread(subprocess.run, command, capture_output=True, timeout=60, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr

    clock.now = 2e9
    database = await Database.open(tmp_path / "mien.db")
    house = House(tmp_path, database, clock)
    assert house.contents() == [b"made"]
    with pytest.raises(NotFound):
        await house.tasks.get(task_id)
    assert not await house.there(made)
    await house.files.purge(clock())
    rows = await database.read(lambda connection: connection.execute(sa.select(file_table.c.id)).all())
    assert rows == []
    await house.files.purge(clock() + 2 * HOUR)
    assert house.contents() == []
    await database.close()


async def test_a_database_from_before_learns_which_task_has_which_file(tmp_path: Path, clock: Any) -> None:
    names = {name: name[0] * 26 for name in ("given", "made", "left")}
    database = await Database.open(tmp_path / "mien.db")
    house = House(tmp_path, database, clock)
    await house.files.start()
    task_id = await house.task()
    await database.close()

    engine = writer_engine(tmp_path / "mien.db")
    with engine.begin() as connection:
        newer = ("ix_tasks_owner", "ix_tasks_owner_status", "ix_files_owner", "ix_files_owner_size")
        for statement in (*(f"DROP INDEX {name}" for name in newer), "DROP TABLE meta", "DROP TABLE task_inputs"):
            connection.exec_driver_sql(statement)
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0001'")
        given = f'{{"image":"mien-file://{names["given"]}/a.png"}}'
        connection.exec_driver_sql("UPDATE tasks SET input = ?", (given,))
        for name, maker in (("given", "gone"), ("made", task_id), ("left", "gone")):
            row = {"id": names[name], "created_at": 0, "updated_at": 0, "owner": "", "filename": "a", "task_id": maker}
            connection.execute(sa.insert(file_table).values(**row, content_type="x/y", public=False))
    migrate(engine, tmp_path / "mien.db")
    engine.dispose()

    database = await Database.open(tmp_path / "mien.db")
    clock.now = 4e9
    house = House(tmp_path, database, clock)
    assert {name: await house.there(names[name]) for name in names} == {
        "given": True, "made": True, "left": False,
    }  # fmt: skip
    await house.end(task_id)
    await house.tasks.delete(task_id)
    assert not await house.there(names["given"])
    await database.close()


async def test_naming_a_file_of_another_owner_neither_keeps_it_nor_tells_of_it(tmp_path: Path, clock: Any) -> None:
    database = await Database.open(tmp_path / "mien.db")
    house = House(tmp_path, database, clock)
    await house.files.start()
    task_id, (made,) = await house.ended(made=(b"made",))
    text = Encoded.of({"text": f"see mien-file://{made.id}/a"})
    await house.tasks.submit(Submission(app="test/app", input=text, owner="other"))
    await house.tasks.delete(task_id)
    assert not await house.there(made)
    await house.tasks.submit(Submission(app="test/app", input=text, owner="other"))
    await database.close()


async def test_files_of_other_owners_are_as_files_that_do_not_exist(tmp_path: Path, clock: Any) -> None:
    database = await Database.open(tmp_path / "mien.db")
    house = House(tmp_path, database, clock)
    await house.files.start()
    theirs, mine = await house.file(b"a", owner="a"), await house.file(b"b", owner="b")
    for call in (house.files.get, house.files.delete):
        with pytest.raises(NotFound) as other:
            await call(theirs.id, "b")
        with pytest.raises(NotFound) as missing:
            await call("nothing", "b")
        assert other.value.message.replace(theirs.id, "nothing") == missing.value.message
    assert [record.id for record in (await house.files.find(owner="b")).files] == [mine.id]
    assert await house.files.get(theirs.id, "a") == theirs
    assert await house.files.get(theirs.id) == theirs
    await house.files.delete(theirs.id, "a")
    await database.close()
