"""Files in a directory of this machine: content by its SHA-256, records in the database."""

import asyncio
import hashlib
import mimetypes
import os
import secrets
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import sqlalchemy as sa
import structlog
from msgspec.structs import asdict, replace

from mien.atomic import sync
from mien.errors import BodyTooLarge, Conflict, InternalError, NotFound, RequestError, UnsupportedMediaType
from mien.storage.database import Database
from mien.storage.disk import disk_errors
from mien.storage.file_records import FileRecord, NewFile, safe_name
from mien.storage.file_store import FilePage
from mien.storage.media_types import DEFAULT, SNIFF_BYTES, contradicts, sniff
from mien.storage.schema import files

log = structlog.get_logger()

_BLOCK = 1024 * 1024
_ABANDONED = 86400.0
"""Seconds after which a record without content goes."""
_ORPHANED = 3600.0
"""Seconds after which content without a record goes: long enough for any upload to be recorded."""
_COLUMNS = tuple(files.c[name] for name in FileRecord.__struct_fields__)


class LocalFileStore:
    """`mien.storage.file_store.FileStore` in a directory.

    ```
    blobs/ab/cd/abcd…   content under its SHA-256, never changed, shared by all records that have it
    uploads/…           what is being received; emptied at start
    ```
    """

    def __init__(
        self,
        folder: Path,
        database: Database,
        *,
        clock: Callable[[], float],
        max_bytes: int = 1024 * 1024 * 1024,
        keep_seconds: float | None = None,
    ) -> None:
        self._blobs = folder / "blobs"
        self._uploads = folder / "uploads"
        self._database = database
        self._clock = clock
        self._max_bytes = max_bytes
        self._keep_seconds = keep_seconds
        self._since = clock()
        self._naming = asyncio.Lock()  # a blob gets its record, or loses its last one: never both at once

    async def start(self) -> None:
        """Make the directories and remove what interrupted uploads left."""
        await asyncio.to_thread(self._prepare)

    def _prepare(self) -> None:
        with disk_errors():
            for folder in (self._blobs, self._uploads):
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            for left in self._uploads.iterdir():
                left.unlink()

    # --- writing

    async def create(self, new: NewFile) -> FileRecord:
        if new.size is not None and new.size > self._max_bytes:
            raise self._too_large()
        now = self._clock()
        keep = min((seconds for seconds in (new.keep_seconds, self._keep_seconds) if seconds is not None), default=None)
        record = FileRecord(
            id=_new_id(),
            created_at=now,
            updated_at=now,
            owner=new.owner,
            filename=safe_name(new.filename),
            path=None if new.path is None else new.path[:1000].encode("utf-8", "replace").decode().replace("\0", ""),
            content_type=_media_type(new.content_type) or DEFAULT,
            declared_type=_media_type(new.content_type),
            declared_size=new.size,
            size=None,
            sha256=None,
            public=new.public,
            task_id=new.task_id,
            expires_at=None if keep is None else now + keep,
        )
        await self._database.write(lambda connection: connection.execute(sa.insert(files), asdict(record)) and None)
        return record

    async def write(self, file_id: str, chunks: AsyncIterable[bytes], content_type: str | None = None) -> FileRecord:
        record = await self.get(file_id)
        upload = _Upload(self._uploads / secrets.token_hex(16), self._limit(record))
        try:
            await upload.receive(chunks)
            if upload.size > self._max_bytes:
                raise self._too_large()
            if record.declared_size not in (None, upload.size):
                more = "more than" if upload.size > (record.declared_size or 0) else f"{upload.size} of"
                raise RequestError(f"the upload has {more} the {record.declared_size} bytes that were announced")
            kind = self._type_of(record, content_type, upload.start)
            await upload.sync()
            naming = asyncio.create_task(self._name(record.id, upload, kind))
            try:
                return await asyncio.shield(naming)
            except asyncio.CancelledError:
                await asyncio.wait([naming])
                raise
        finally:
            await asyncio.shield(asyncio.to_thread(upload.discard))

    def _limit(self, record: FileRecord) -> int:
        """One byte past what is allowed is enough to know."""
        return self._max_bytes if record.declared_size is None else min(self._max_bytes, record.declared_size)

    def _type_of(self, record: FileRecord, header: str | None, start: bytes) -> str:
        """The declared type, unless the content says otherwise; undeclared: by the content, then by the name."""
        found = sniff(start)
        declared = next(
            (kind for kind in (_media_type(header), record.declared_type) if kind not in (None, DEFAULT)), None
        )
        if declared is None:
            return found or mimetypes.guess_type(record.filename)[0] or DEFAULT
        if contradicts(declared, found):
            raise UnsupportedMediaType(f"the file was declared {declared}, but its content is {found}")
        return declared

    async def _name(self, file_id: str, upload: "_Upload", kind: str) -> FileRecord:
        """Give the received bytes their place and their record."""
        async with self._naming:
            sha256, size = upload.digest(), upload.size
            if (await self.get(file_id)).sha256 not in (None, sha256):
                raise Conflict("the file has other content already; make a new file for new content")
            await asyncio.to_thread(self._place, upload, sha256)

            def fill(connection: sa.Connection) -> FileRecord:
                record = self._get(connection, file_id)
                if record.sha256 == sha256:
                    return record  # the same upload again: its answer was lost
                filled = replace(record, sha256=sha256, size=size, content_type=kind, updated_at=self._clock())
                connection.execute(sa.update(files).where(files.c.id == file_id), asdict(filled))
                return filled

            return await self._database.write(fill)

    def _place(self, upload: "_Upload", sha256: str) -> None:
        place = self._blob(sha256)
        with disk_errors():
            place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            if place.exists():
                os.utime(place)  # young again, so that no sweep takes it before it has its record
                return
            upload.path.rename(place)
            for folder in (place.parent, place.parent.parent, self._blobs):
                sync(folder)

    async def add_path(self, new: NewFile, path: Path) -> FileRecord:
        try:
            size = path.stat().st_size
        except OSError as error:
            raise NotFound(f"the file {path.name!r} cannot be read: {error.strerror}") from None
        record = await self.create(replace(new, filename=new.filename or path.name, size=size))
        try:
            return await self.write(record.id, _file_chunks(path))
        except BaseException:
            await asyncio.shield(self._forget(record.id))
            raise

    # --- reading

    async def get(self, file_id: str) -> FileRecord:
        return await self._database.read(lambda connection: self._get(connection, file_id))

    def _get(self, connection: sa.Connection, file_id: str) -> FileRecord:
        wanted = sa.select(*_COLUMNS).where(files.c.id == file_id, self._there())
        row = connection.execute(wanted).first()
        if row is None:
            raise _unknown(file_id)
        return _record(row)

    def _there(self) -> sa.ColumnElement[bool]:
        """What has expired is gone for everybody, whenever its bytes go."""
        return sa.or_(files.c.expires_at.is_(None), files.c.expires_at > self._clock())

    async def open(self, file_id: str, start: int = 0, stop: int | None = None) -> "LocalContent":
        record = await self.get(file_id)
        if record.sha256 is None or record.size is None:
            raise NotFound(f"the file {file_id[:40]!r} was not uploaded yet")
        try:
            file = await asyncio.to_thread(self._blob(record.sha256).open, "rb", buffering=0)
        except FileNotFoundError:
            raise NotFound(f"the content of the file {file_id[:40]!r} is gone") from None
        stop = record.size if stop is None else min(stop, record.size)
        return LocalContent(record, file, min(start, stop), stop)

    async def local_path(self, file_id: str) -> Path | None:
        record = await self.get(file_id)
        return None if record.sha256 is None else self._blob(record.sha256)

    async def find(
        self, *, owner: str | None = None, task_id: str | None = None, cursor: str | None = None, limit: int = 50
    ) -> FilePage:
        wanted = [self._there()]
        if owner is not None:
            wanted.append(files.c.owner == owner)
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

    # --- removing

    async def delete(self, file_id: str) -> None:
        if not await self._forget(file_id):
            raise _unknown(file_id)

    async def _forget(self, file_id: str) -> bool:
        """Remove a record, then its content if that was the last record of it."""
        async with self._naming:

            def forget(connection: sa.Connection) -> tuple[bool, str | None]:
                gone = sa.delete(files).where(files.c.id == file_id).returning(files.c.sha256)
                row = connection.execute(gone).first()
                if row is None or row.sha256 is None:
                    return row is not None, None
                others = connection.execute(sa.select(files.c.id).where(files.c.sha256 == row.sha256).limit(1)).first()
                return True, row.sha256 if others is None else None

            found, orphan = await self._database.write(forget)
            if orphan is not None:
                await asyncio.to_thread(self._blob(orphan).unlink, missing_ok=True)
            return found

    async def expire(self, now: float, limit: int = 500) -> int:
        empty = files.c.sha256.is_(None)
        late = sa.or_(
            files.c.expires_at <= now,
            sa.and_(empty, files.c.created_at < now - _ABANDONED),
            # a task's file that a dead server was storing: nobody has its upload URL
            sa.and_(empty, files.c.task_id.is_not(None), files.c.created_at < self._since),
        )
        statement = sa.select(files.c.id).where(late).limit(limit)
        ids = await self._database.read(lambda connection: connection.execute(statement).scalars().all())
        return sum([await self._forget(file_id) for file_id in ids])

    async def purge(self, now: float) -> int:
        count = 0
        while gone := await self.expire(now):
            count += gone
        await self._sweep(now)
        return count

    async def _sweep(self, now: float) -> None:
        """Remove content that a crash left without a record."""
        old = await asyncio.to_thread(lambda: [path for path in self._walk() if path.stat().st_mtime < now - _ORPHANED])
        for path in old:
            async with self._naming:
                statement = sa.select(files.c.id).where(files.c.sha256 == path.name).limit(1)
                if await self._database.read(partial(_first, statement=statement)) is None:
                    log.info("content without a record is removed", sha256=path.name)
                    await asyncio.to_thread(path.unlink, missing_ok=True)

    def _walk(self) -> Iterator[Path]:
        return self._blobs.glob("*/*/*")

    def _blob(self, sha256: str) -> Path:
        return self._blobs / sha256[:2] / sha256[2:4] / sha256

    def _too_large(self) -> BodyTooLarge:
        return BodyTooLarge(f"a file may have {self._max_bytes} bytes (MIEN_FILE_MAX_BYTES)")


class _Upload:
    """Bytes on their way in: hashed and counted as they come, in a file without a name that means anything."""

    def __init__(self, path: Path, limit: int) -> None:
        self.path = path
        self.size = 0
        self.start = b""
        self._limit = limit
        self._hash = hashlib.sha256()
        self._file: BinaryIO | None = None
        self._block = bytearray()

    async def receive(self, chunks: AsyncIterable[bytes]) -> None:
        """Read until the end, or until there is one byte too many."""
        async for chunk in chunks:
            self.size += len(chunk)
            self._block += chunk
            if len(self.start) < SNIFF_BYTES:
                self.start += bytes(chunk[: SNIFF_BYTES - len(self.start)])
            if self.size > self._limit:
                return
            if len(self._block) >= _BLOCK:
                await asyncio.to_thread(self._write)

    async def sync(self) -> None:
        """To the disk, for good."""
        await asyncio.to_thread(self._write, last=True)

    def digest(self) -> str:
        return self._hash.hexdigest()

    def discard(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
        self.path.unlink(missing_ok=True)

    def _write(self, *, last: bool = False) -> None:
        with disk_errors():
            if self._file is None:
                descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                self._file = os.fdopen(descriptor, "wb", buffering=0)
            self._hash.update(self._block)
            view = memoryview(self._block)
            while view:
                view = view[self._file.write(view) :]
            self._block = bytearray()
            if last:
                os.fsync(self._file.fileno())
                self._file.close()
                self._file = None


class LocalContent:
    """`mien.storage.file_store.Content` of a local file."""

    def __init__(self, record: FileRecord, file: Any, start: int, stop: int) -> None:
        self.record = record
        self.start = start
        self.stop = stop
        self._file = file

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        at = self.start
        while at < self.stop:
            block = await asyncio.to_thread(os.pread, self._file.fileno(), min(_BLOCK, self.stop - at), at)
            if not block:
                raise InternalError(f"the content of the file {self.record.id} is shorter than it was")
            at += len(block)
            yield block

    async def aclose(self) -> None:
        self._file.close()


async def _file_chunks(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        while block := await asyncio.to_thread(file.read, _BLOCK):
            yield block


def _first(connection: sa.Connection, statement: sa.Select[Any]) -> Any:
    return connection.execute(statement).first()


def _record(row: Any) -> FileRecord:
    return FileRecord(**row._mapping)


def _unknown(file_id: str) -> NotFound:
    return NotFound(f"there is no file {file_id[:40]!r}")


def _before(cursor: str) -> sa.ColumnElement[bool]:
    created, _, file_id = cursor.partition("_")
    try:
        at = float(created)
    except ValueError:
        raise RequestError("the cursor is none that this server gave out") from None
    return sa.or_(files.c.created_at < at, sa.and_(files.c.created_at == at, files.c.id < file_id))


def _media_type(declared: str | None) -> str | None:
    """The bare type, lower case; None for what is none."""
    kind = (declared or "").partition(";")[0].strip().lower()
    family, slash, name = kind.partition("/")
    plain = bool(slash and family and name) and len(kind) <= 120 and kind.isascii() and kind.isprintable()
    return kind if plain and not set(kind) & set(' "<>\\(),:?=') else None


def _new_id() -> str:
    return "".join(secrets.choice("0123456789abcdefghjkmnpqrstvwxyz") for _ in range(26))
