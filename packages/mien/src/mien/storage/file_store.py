"""Where files are kept: the interface, and what it promises."""

from collections.abc import AsyncIterable, AsyncIterator
from pathlib import Path
from typing import Protocol

import msgspec

from mien.storage.file_records import FileRecord, NewFile


class FilePage(msgspec.Struct, frozen=True):
    """Records, newest first; `cursor` gets the next page, None: this was the last."""

    files: tuple[FileRecord, ...]
    cursor: str | None


class Content(Protocol):
    """Open bytes of a file, from `start` to `stop` (exclusive). Reads on to its end even if the file is deleted
    meanwhile. Close it, or use it in `async with`."""

    record: FileRecord
    start: int
    stop: int

    def __aiter__(self) -> AsyncIterator[bytes]: ...

    async def aclose(self) -> None: ...


class FileStore(Protocol):
    """A file's content is there whole or not at all, is on disk before `write` returns, and never changes.

    Unknown ids raise NotFound, and so do those of files that have expired.
    """

    async def create(self, new: NewFile) -> FileRecord:
        """A record without content, to be followed by `write`."""

    async def write(self, file_id: str, chunks: AsyncIterable[bytes], content_type: str | None = None) -> FileRecord:
        """Store the content; the record as it is then.

        `content_type` is what the upload's header says and wins over the record's. Raises BodyTooLarge as soon as the
        limit is passed, RequestError when the length is not the announced one, UnsupportedMediaType when the content
        is plainly something else than declared, Conflict when there is other content already, StorageFull. After any
        of them, or when `chunks` raises, nothing is left behind and the upload can be tried again.
        """

    async def add_path(self, new: NewFile, path: Path) -> FileRecord:
        """Create and write from a file of this machine, as for a task's output."""

    async def get(self, file_id: str) -> FileRecord:
        """The record."""

    async def open(self, file_id: str, start: int = 0, stop: int | None = None) -> Content:
        """Its bytes. Raises NotFound also while there is no content."""

    async def local_path(self, file_id: str) -> Path | None:
        """A path of this machine with the content, to read only; None where the store has none."""

    async def find(
        self, *, owner: str | None = None, task_id: str | None = None, cursor: str | None = None, limit: int = 50
    ) -> FilePage:
        """Records newest first."""

    async def delete(self, file_id: str) -> None:
        """Remove the record, and the content unless another record has the same."""

    async def expire(self, now: float, limit: int = 500) -> int:
        """Remove files that have expired and uploads that never came, at most `limit`; returns how many went."""

    async def purge(self, now: float) -> int:
        """Remove all of those, and content that no record names; returns how many records went."""
