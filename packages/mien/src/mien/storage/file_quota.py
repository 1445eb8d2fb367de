"""The quota of bytes of files: what an owner has stored, and what is arriving."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import sqlalchemy as sa

from mien.quotas import exceeded
from mien.storage.database import Database
from mien.storage.schema import files

LimitOf = Callable[[str], int | None]
"""An owner's quota in bytes; None: no limit."""
Count = Callable[[int], None]
"""Counts bytes that have arrived. Raises QuotaExceeded."""
NAME = "bytes of files"


class Arrival:
    """Bytes of one file on its way to this disk."""

    def __init__(self, count: Count, reserved: int = 0) -> None:
        """`reserved`: how many of the bytes count as stored already."""
        self._count = count
        self._reserved = reserved
        self._size = 0
        self.copy: Path | None = None
        """A file outside of the store in which the bytes stay: they count until it is removed."""

    def __call__(self, size: int) -> None:
        """Count bytes before they are written. Raises QuotaExceeded."""
        self._count(self._beyond(self._size + size) - self.counted)
        self._size += size

    @property
    def counted(self) -> int:
        """Bytes counted so far, without the reserved ones."""
        return self._beyond(self._size)

    def _beyond(self, size: int) -> int:
        return max(0, size - self._reserved)


class FileQuota:
    """One per server. Stored bytes are counted by the database; those that arrive, and those of copies, here."""

    def __init__(self, database: Database, limit_of: LimitOf) -> None:
        self._database = database
        self._limit_of = limit_of
        self._arriving = Counter[str]()
        """Bytes of copies included."""
        self._copies: dict[Path, tuple[str, int]] = {}

    def limit(self, owner: str) -> int | None:
        """The owner's quota in bytes; None: no limit."""
        return self._limit_of(owner)

    @asynccontextmanager
    async def arriving(self, owner: str, *, reserved: int = 0) -> AsyncIterator[Arrival]:
        """Counts bytes of the owner that take up disk space until the block ends, besides those that are stored; those
        of an `Arrival.copy`, until that is removed.

        For everything that puts an owner's bytes on this disk: uploads and outputs on their way to a record, and files
        that are fetched for a run. `reserved`: so many of the bytes count as stored already, since their record has a
        size. Raises QuotaExceeded at once if the quota is used up already.
        """
        limit = self._limit_of(owner)
        if limit is None:
            yield Arrival(lambda size: None)
            return
        await self._forget_copies(owner)
        stored = await self._database.read(lambda connection: stored_bytes(connection, owner))

        def count(size: int) -> None:
            used = stored + self._arriving[owner]
            if size and used + size > limit:
                raise exceeded(NAME, owner, limit, used)
            self._arriving[owner] += size

        used = stored + self._arriving[owner]
        if used > limit or (used == limit and not reserved):
            raise exceeded(NAME, owner, limit, used)
        arrival = Arrival(count, reserved)
        try:
            yield arrival
        except BaseException:
            self._subtract(owner, arrival.counted)
            raise
        if arrival.copy is None:
            self._subtract(owner, arrival.counted)
        else:
            self._copies[arrival.copy] = (owner, arrival.counted)

    async def _forget_copies(self, owner: str) -> None:
        """Stop counting copies that have been removed, with their run or by it."""
        known = [copy for copy, (its, _) in self._copies.items() if its == owner]
        if not known:
            return
        gone = await asyncio.to_thread(lambda: [copy for copy in known if not copy.exists()])
        for copy in gone:
            if (found := self._copies.pop(copy, None)) is not None:  # unless another arrival was faster
                self._subtract(*found)

    def _subtract(self, owner: str, size: int) -> None:
        self._arriving[owner] -= size
        if not self._arriving[owner]:
            del self._arriving[owner]


def stored_bytes(connection: sa.Connection, owner: str, but: str | None = None) -> int:
    """Bytes of the owner's files; of files that are still to be uploaded, those that were declared.

    Expired files count until they are removed, as they take up space until then.
    """
    size = sa.func.coalesce(files.c.size, files.c.declared_size, 0)
    wanted = sa.select(sa.func.coalesce(sa.func.sum(size), 0)).where(files.c.owner == owner)
    if but is not None:
        own = sa.select(size).where(files.c.id == but, files.c.owner == owner).scalar_subquery()
        wanted = sa.select(wanted.scalar_subquery() - sa.func.coalesce(own, 0))
    return int(connection.execute(wanted).scalar_one())


def require_room(
    connection: sa.Connection, owner: str, limit: int | None, size: int, *, but: str | None = None
) -> None:
    """In the transaction that adds `size` bytes to the owner's files: raise QuotaExceeded if that is too many."""
    if limit is None:
        return
    used = stored_bytes(connection, owner, but)
    if used + size > limit:
        raise exceeded(NAME, owner, limit, used, more=size)
