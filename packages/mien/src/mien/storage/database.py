"""The open database: one writer thread with group commit, and a few reader threads.

SQLAlchemy is driven from threads instead of its asyncio layer, which switches threads for every statement and makes it
10× as expensive (measured: 25 µs → 240 µs). Here a whole group of writes costs one switch.
"""

import asyncio
import os
import sqlite3
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self, TypeVar

import sqlalchemy as sa

from mien.errors import DatabaseInUse, InternalError, MienError, StorageFull, Unavailable
from mien.locks import open_lock, try_lock
from mien.private import private_file, private_folder
from mien.storage.dialect import reader_engine, writer_engine
from mien.storage.disk import is_full
from mien.storage.migrate import migrate

T = TypeVar("T")
Work = Callable[[sa.Connection], T]
"""A unit of statements. It may run twice (rolled back the first time), so it must not change anything but the database.
"""

MAX_GROUP = 256
"""Maximum number of writes in one transaction: bounds how long the first of them waits for the last."""
_READERS = 2


class Database:
    """The database of one server, for use from one event loop.

    When `write` returns, its transaction is durable: committed with a full sync. Writes are executed one at a time, in
    the order of the calls.
    """

    def __init__(self, path: Path, lock: int) -> None:
        self._path = path
        self._lock = lock
        self._writing = writer_engine(path)
        self._reading = reader_engine(path)
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="mien-db-writer")
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="mien-db-reader")
        self._pending: deque[tuple[Work[Any], Callable[[Any], None] | None, asyncio.Future[Any]]] = deque()
        self._flushing: asyncio.Task[None] | None = None
        self._closed = False

    @classmethod
    async def open(cls, path: Path) -> Self:
        """Lock, migrate and open the database file, which is created if necessary.

        Raises DatabaseInUse if another process has it open, Unavailable or StorageFull if the file cannot be used,
        InternalError if it is damaged, DatabaseMissing if it is missing or empty in a folder that was used before.
        """
        return await asyncio.to_thread(cls._open, path)

    @classmethod
    def _open(cls, path: Path) -> Self:
        with _readable_errors():
            private_folder(path.parent)
            lock = open_lock(path.with_suffix(".lock"))
        if not try_lock(lock):
            os.close(lock)
            raise DatabaseInUse(
                "another server uses this data directory; stop it, or set another MIEN_DATA_DIR for this one"
            )
        database = None
        try:
            with _readable_errors():
                private_file(path)  # SQLite gives its other files the same mode
            database = cls(path, lock)
            with _readable_errors():
                migrate(database._writing, path)
        except BaseException:
            if database is not None:
                database._dispose()
            os.close(lock)
            raise
        return database

    async def write(self, work: Work[T], then: Callable[[T], None] | None = None) -> T:
        """Commit the statements of `work` and return its result. `then` is called with the result on the event loop, in
        commit order, even if the caller was cancelled meanwhile.

        An exception of `work` rolls back its own statements only, and is raised here. Raises StorageFull, Unavailable.
        """
        if self._closed:
            raise Unavailable("the server is shutting down")
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._pending.append((work, then, future))
        if self._flushing is None:
            self._flushing = asyncio.create_task(self._flush())
        return await future

    async def read(self, work: Work[T]) -> T:
        """Run `work` on one consistent snapshot and return its result. It must not write. Raises Unavailable."""
        if self._closed:
            raise Unavailable("the server is shutting down")
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._read, work)

    async def close(self) -> None:
        """Commit pending writes, then close and unlock the file."""
        if self._closed:
            return
        self._closed = True
        if self._flushing is not None:
            await self._flushing
        await asyncio.to_thread(self._dispose)
        os.close(self._lock)

    def _dispose(self) -> None:
        self._readers.shutdown()
        self._writer.shutdown()
        self._reading.dispose()
        self._writing.dispose()

    async def _flush(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._pending:
                batch = [self._pending.popleft() for _ in range(min(len(self._pending), MAX_GROUP))]
                outcomes = await loop.run_in_executor(self._writer, self._commit, [work for work, _, _ in batch])
                for (_, then, future), outcome in zip(batch, outcomes, strict=True):
                    _settle(then, future, outcome)
        finally:
            self._flushing = None

    def _commit(self, works: list[Work[Any]]) -> list[Any]:
        """The result, or a `_Failure`, of each. If one fails, all are rolled back and rerun one by one."""
        if len(works) > 1:
            with suppress(Exception), self._writing.begin() as connection:  # the rerun shows whose exception it is
                return [work(connection) for work in works]
        return [self._alone(work) for work in works]

    def _alone(self, work: Work[Any]) -> Any:
        try:
            with _readable_errors(), self._writing.begin() as connection:
                return work(connection)
        except Exception as error:  # noqa: BLE001 - raised in the caller of `write`
            return _Failure(error)

    def _read(self, work: Work[T]) -> T:
        with _readable_errors(), self._reading.connect() as connection:
            return work(connection)


class _Failure:
    def __init__(self, error: Exception) -> None:
        self.error = error


def _settle(then: Callable[[Any], None] | None, future: asyncio.Future[Any], outcome: Any) -> None:
    if isinstance(outcome, _Failure):
        if not future.done():
            future.set_exception(outcome.error)
        return
    if then is not None:
        try:
            then(outcome)
        except Exception as error:  # noqa: BLE001 - already committed; a listener's bug must not stop the writer
            context = {"message": "a listener to the database failed", "exception": error}
            asyncio.get_running_loop().call_exception_handler(context)
    if not future.done():
        future.set_result(outcome)


@contextmanager
def _readable_errors() -> Iterator[None]:
    """Translate errors of the disk and the database file to MienError; other exceptions pass through."""
    try:
        yield
    except MienError:
        raise
    except sa.exc.OperationalError as error:
        if isinstance(error.orig, sqlite3.Error) and is_full(error.orig):
            raise _full() from error
        raise Unavailable(f"the task database cannot be used: {error.orig}", retry_after=1) from error
    except (sa.exc.DatabaseError, sqlite3.DatabaseError) as error:
        if "malformed" in str(error) or "not a database" in str(error):
            raise InternalError(
                "the task database, mien.db in MIEN_DATA_DIR, is corrupt; restore it from a backup or remove it"
            ) from error
        raise
    except OSError as error:
        if is_full(error):
            raise _full() from error
        raise Unavailable(f"the task database cannot be used: {error.strerror}") from error


def _full() -> StorageFull:
    return StorageFull("the server's disk is full or broken; nothing was stored", retry_after=30)
