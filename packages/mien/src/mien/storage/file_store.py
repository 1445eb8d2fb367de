"""Files: records in the database, contents as blobs."""

import asyncio
import mimetypes
import os
from collections.abc import AsyncIterable, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import BinaryIO

import structlog
from msgspec.structs import replace

from mien.errors import BodyTooLarge, Conflict, NotFound, RequestError, UnsupportedMediaType
from mien.file_types import sniff
from mien.ids import random_id
from mien.storage.blobs import Blob, BlobStore, BlobUpload
from mien.storage.file_quota import Arrival, Count
from mien.storage.file_records import FilePage, FileRecord, NewFile, safe_name
from mien.storage.file_table import FileTable, unknown
from mien.storage.media_types import DEFAULT, checked_type, contradicts

log = structlog.get_logger()
ORPHANED_SECONDS = 3600.0
"""Age at which a blob without a record is removed: long enough for any upload to get its record."""
_BLOCK = 1024 * 1024


class FileStore:
    """Stores files. A content appears as a whole or not at all, is durable when `write` returns, and never changes.

    Ids of unknown and of expired files raise NotFound, and so do, with an `owner`, those of other owners.
    """

    def __init__(
        self,
        table: FileTable,
        blobs: BlobStore,
        *,
        clock: Callable[[], float],
        max_bytes: int = 1024 * 1024 * 1024,
        keep_seconds: float | None = None,
    ) -> None:
        self._table = table
        self._blobs = blobs
        self._clock = clock
        self._max_bytes = max_bytes
        self._keep_seconds = keep_seconds
        # Serialises recording a blob with removing a blob's last record: otherwise the removal could delete the content
        # of an upload that has just found the blob in place.
        self._recording = asyncio.Lock()

    async def start(self) -> None:
        """Prepare the blob store, and remove the remains of interrupted uploads."""
        await self._blobs.start()

    # --- writing

    async def create(self, new: NewFile) -> FileRecord:
        """Create a record without content, to be followed by `write`. Raises BodyTooLarge, QuotaExceeded."""
        self.check_size(new.size or 0)
        now = self._clock()
        keep = min((seconds for seconds in (new.keep_seconds, self._keep_seconds) if seconds is not None), default=None)
        record = FileRecord(
            id=random_id(),
            created_at=now,
            updated_at=now,
            owner=new.owner,
            filename=safe_name(new.filename),
            path=None if new.path is None else new.path[:1000].encode("utf-8", "replace").decode().replace("\0", ""),
            content_type=checked_type(new.content_type) or DEFAULT,
            declared_type=checked_type(new.content_type),
            declared_size=new.size,
            size=None,
            sha256=None,
            public=new.public,
            task_id=new.task_id,
            expires_at=None if keep is None else now + keep,
        )
        await self._table.insert(record)
        return record

    async def write(self, file_id: str, chunks: AsyncIterable[bytes], content_type: str | None = None) -> FileRecord:
        """Store the content; returns the updated record.

        `content_type`: from the upload's header; takes precedence over the record's. Raises BodyTooLarge as soon as the
        limit is exceeded, RequestError if the size differs from the declared one, UnsupportedMediaType if the content
        contradicts the declared type, Conflict if the file has different content already, QuotaExceeded, StorageFull.
        After any error, also one raised by `chunks`, nothing remains and the upload can be retried.
        """
        record = await self.get(file_id)
        reserved = record.size or record.declared_size or 0
        async with self.arriving(record.owner, reserved=reserved) as count:
            return await self._receive(record, _counted(chunks, count), content_type)

    def arriving(self, owner: str, *, reserved: int = 0) -> AbstractAsyncContextManager[Arrival]:
        """Counts bytes of the owner on their way to this disk: see `mien.storage.file_quota.FileQuota.arriving`."""
        return self._table.quota.arriving(owner, reserved=reserved)

    async def _receive(self, record: FileRecord, chunks: AsyncIterable[bytes], content_type: str | None) -> FileRecord:
        upload = self._blobs.upload(self._limit(record))
        try:
            await upload.receive(chunks)
            self._check_declared(record, upload.size)
            kind = _type_of(record, content_type, upload.start)
            sha256 = await upload.finish()
            # Completes even if the request is cancelled: stopping between blob and record would leave an orphan, and
            # `discard` below must not run before `keep` has.
            recording = asyncio.create_task(self._record(record.id, upload, sha256, kind))
            try:
                return await asyncio.shield(recording)
            except asyncio.CancelledError:
                await asyncio.wait([recording])
                raise
        finally:
            await upload.discard()

    async def add_open(self, new: NewFile, content: BinaryIO) -> FileRecord:
        """Create and write a file from an open one, e.g. a task's output, from its start to its present end.

        Raises as `create` and `write`: RequestError if it becomes shorter meanwhile.
        """
        size = os.fstat(content.fileno()).st_size
        record = await self.create(replace(new, size=size))
        try:
            return await self.write(record.id, file_chunks(content, size))
        except BaseException:
            await asyncio.shield(self._remove(record.id))
            raise

    def _limit(self, record: FileRecord) -> int:
        """Bytes after which receiving can stop: the file is too large, or larger than declared."""
        return self._max_bytes if record.declared_size is None else min(self._max_bytes, record.declared_size)

    def check_size(self, size: int) -> None:
        """Raise BodyTooLarge if no file may have so many bytes."""
        if size > self._max_bytes:
            raise BodyTooLarge(f"a file may have at most {self._max_bytes} bytes (MIEN_FILE_MAX_BYTES)")

    def _check_declared(self, record: FileRecord, size: int) -> None:
        self.check_size(size)
        if record.declared_size not in (None, size):
            more = "more than" if size > (record.declared_size or 0) else f"{size} of"
            raise RequestError(f"the upload has {more} the {record.declared_size} bytes that were declared")

    async def _record(self, file_id: str, upload: BlobUpload, sha256: str, kind: str) -> FileRecord:
        """Keep the uploaded blob and add it to the file's record."""
        async with self._recording:
            if (await self.get(file_id)).sha256 not in (None, sha256):
                raise Conflict("the file already has different content; create a new file for new content")
            await upload.keep()
            return await self._table.fill(file_id, sha256, upload.size, kind)

    # --- reading

    async def get(self, file_id: str, owner: str | None = None) -> FileRecord:
        """The file's record."""
        return await self._table.get(file_id, owner)

    async def open(self, file_id: str, start: int = 0, stop: int | None = None) -> Blob:
        """The file's content, from `start` to `stop` (exclusive). Raises NotFound, also while there is no content."""
        record = await self.get(file_id)
        if record.sha256 is None or record.size is None:
            raise NotFound(f"the file {file_id[:40]!r} has not been uploaded yet")
        stop = record.size if stop is None else min(stop, record.size)
        try:
            return await self._blobs.open(record.sha256, min(start, stop), stop)
        except NotFound:
            raise NotFound(f"the content of the file {file_id[:40]!r} is missing") from None

    async def local_path(self, file_id: str) -> Path | None:
        """The path of a local file with the content, for reading only; None if there is none."""
        record = await self.get(file_id)
        return None if record.sha256 is None else self._blobs.local_path(record.sha256)

    async def find(
        self, *, owner: str | None = None, task_id: str | None = None, cursor: str | None = None, limit: int = 50
    ) -> FilePage:
        """Records, newest first, optionally of one owner or task. Raises RequestError for an invalid cursor."""
        return await self._table.find(owner=owner, task_id=task_id, cursor=cursor, limit=limit)

    # --- removing

    async def delete(self, file_id: str, owner: str | None = None) -> None:
        """Remove the record, and the content unless another record shares it."""
        if not await self._remove(file_id, owner):
            raise unknown(file_id)

    async def expire(self, now: float, limit: int = 500) -> int:
        """Remove at most `limit` files that have expired or were never uploaded; returns the number removed."""
        return sum([await self._remove(file_id) for file_id in await self._table.overdue(now, limit)])

    async def purge(self, now: float) -> int:
        """Remove all such files, and contents without a record; returns the number of records removed."""
        count = 0
        while gone := await self.expire(now):
            count += gone
        await self._sweep(now)
        return count

    async def _remove(self, file_id: str, owner: str | None = None) -> bool:
        async with self._recording:
            found, orphan = await self._table.delete(file_id, owner)
            if orphan is not None:
                await self._blobs.remove(orphan)
            return found

    async def _sweep(self, now: float) -> None:
        """Remove contents that a crash left without a record."""
        for sha256 in await self._blobs.older_than(now - ORPHANED_SECONDS):
            async with self._recording:
                if not await self._table.has_content(sha256):
                    log.info("removing content without a record", sha256=sha256)
                    await self._blobs.remove(sha256)


def _type_of(record: FileRecord, header: str | None, start: bytes) -> str:
    """The declared type; if none is declared, sniffed from the content, else guessed from the file name.

    Raises UnsupportedMediaType if the content contradicts the declared type.
    """
    found = sniff(start)
    declared = next(
        (kind for kind in (checked_type(header), record.declared_type) if kind not in (None, DEFAULT)), None
    )
    if declared is None:
        return found or mimetypes.guess_type(record.filename)[0] or DEFAULT
    if contradicts(declared, found):
        raise UnsupportedMediaType(f"the file was declared as {declared}, but its content is {found}")
    return declared


async def _counted(chunks: AsyncIterable[bytes], count: Count) -> AsyncIterator[bytes]:
    async for chunk in chunks:
        count(len(chunk))
        yield chunk


async def file_chunks(content: BinaryIO, size: int) -> AsyncIterator[bytes]:
    """The first `size` bytes of an open file, fewer if it has become shorter."""
    at = 0
    while at < size and (block := await asyncio.to_thread(os.pread, content.fileno(), min(_BLOCK, size - at), at)):
        at += len(block)
        yield block
