"""File records in the database."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import sqlalchemy as sa
from msgspec.structs import asdict, replace

from mien.errors import NotFound, RequestError
from mien.storage.database import Database
from mien.storage.file_quota import FileQuota, LimitOf, require_room
from mien.storage.file_records import FilePage, FileRecord
from mien.storage.schema import files

ABANDONED_SECONDS = 86400.0
"""Age at which a record without content is removed."""
_COLUMNS = tuple(files.c[name] for name in FileRecord.__struct_fields__)


class FileTable:
    """The `files` table. Expired files are invisible at once, even before they are removed."""

    def __init__(self, database: Database, clock: Callable[[], float], limit_of: LimitOf = lambda owner: None) -> None:
        """`limit_of`: the quota of an owner in bytes."""
        self._database = database
        self.quota = FileQuota(database, limit_of)
        self._clock = clock
        self._since = clock()

    async def insert(self, record: FileRecord) -> None:
        """Raises QuotaExceeded."""
        limit = self.quota.limit(record.owner)

        def insert(connection: sa.Connection) -> None:
            require_room(connection, record.owner, limit, record.declared_size or 0)
            connection.execute(sa.insert(files), asdict(record))

        await self._database.write(insert)

    async def get(self, file_id: str, owner: str | None = None) -> FileRecord:
        """The record. Raises NotFound, also for files of others than `owner` if it is given."""
        return await self._database.read(lambda connection: self._get(connection, file_id, owner))

    async def fill(self, file_id: str, sha256: str, size: int, content_type: str) -> FileRecord:
        """Add the content to a record; returns the updated record. Raises NotFound, QuotaExceeded."""

        def fill(connection: sa.Connection) -> FileRecord:
            record = self._get(connection, file_id)
            if record.sha256 == sha256:
                return record  # a repeated upload, e.g. because the response was lost
            require_room(connection, record.owner, self.quota.limit(record.owner), size, but=file_id)
            filled = replace(record, sha256=sha256, size=size, content_type=content_type, updated_at=self._clock())
            connection.execute(sa.update(files).where(files.c.id == file_id), asdict(filled))
            return filled

        return await self._database.write(fill)

    async def find(self, *, owner: str | None, task_id: str | None, cursor: str | None, limit: int) -> FilePage:
        """Records newest first. Raises RequestError for an invalid cursor."""
        wanted = [self._alive(), *_of(owner)]
        if task_id is not None:
            wanted.append(files.c.task_id == task_id)
        if cursor is not None:
            wanted.append(_before(cursor))
        newest = (files.c.created_at.desc(), files.c.id.desc())
        statement = sa.select(*_COLUMNS).where(*wanted).order_by(*newest).limit(limit + 1)

        def read(connection: sa.Connection) -> FilePage:
            found = tuple(_record(row) for row in connection.execute(statement))
            more = len(found) > limit
            return FilePage(found[:limit], f"{found[limit - 1].created_at!r}_{found[limit - 1].id}" if more else None)

        return await self._database.read(read)

    async def delete(self, file_id: str, owner: str | None = None) -> tuple[bool, str | None]:
        """Whether the record existed (as a file of `owner` if it is given), and the SHA-256 of its content if no other
        record shares it."""

        def delete(connection: sa.Connection) -> tuple[bool, str | None]:
            gone = sa.delete(files).where(files.c.id == file_id, *_of(owner)).returning(files.c.sha256)
            row = connection.execute(gone).first()
            if row is None or row.sha256 is None:
                return row is not None, None
            others = connection.execute(_of_content(row.sha256)).first()
            return True, row.sha256 if others is None else None

        return await self._database.write(delete)

    async def has_content(self, sha256: str) -> bool:
        """Whether a record has that content."""
        return await self._database.read(partial(_first, statement=_of_content(sha256))) is not None

    async def overdue(self, now: float, limit: int) -> Sequence[str]:
        """Ids of records that have expired, or whose content was never uploaded."""
        empty = files.c.sha256.is_(None)
        late = sa.or_(
            files.c.expires_at <= now,
            sa.and_(empty, files.c.created_at < now - ABANDONED_SECONDS),
            # a task's output that a previous server process was storing: nobody has an upload URL for it
            sa.and_(empty, files.c.task_id.is_not(None), files.c.created_at < self._since),
        )
        statement = sa.select(files.c.id).where(late).limit(limit)
        return await self._database.read(lambda connection: connection.execute(statement).scalars().all())

    def _get(self, connection: sa.Connection, file_id: str, owner: str | None = None) -> FileRecord:
        wanted = sa.select(*_COLUMNS).where(files.c.id == file_id, self._alive(), *_of(owner))
        row = connection.execute(wanted).first()
        if row is None:
            raise unknown(file_id)
        return _record(row)

    def _alive(self) -> sa.ColumnElement[bool]:
        return sa.or_(files.c.expires_at.is_(None), files.c.expires_at > self._clock())


def unknown(file_id: str) -> NotFound:
    """The error for an unknown file id."""
    return NotFound(f"there is no file {file_id[:40]!r}")


def _of(owner: str | None) -> list[sa.ColumnElement[bool]]:
    return [] if owner is None else [files.c.owner == owner]


def _of_content(sha256: str) -> sa.Select[Any]:
    return sa.select(files.c.id).where(files.c.sha256 == sha256).limit(1)


def _first(connection: sa.Connection, statement: sa.Select[Any]) -> Any:
    return connection.execute(statement).first()


def _record(row: Any) -> FileRecord:
    return FileRecord(**row._mapping)


def _before(cursor: str) -> sa.ColumnElement[bool]:
    created, _, file_id = cursor.partition("_")
    try:
        at = float(created)
    except ValueError:
        at = math.nan
    if not math.isfinite(at):
        raise RequestError("invalid cursor: it was not issued by this server")
    return sa.or_(files.c.created_at < at, sa.and_(files.c.created_at == at, files.c.id < file_id))
