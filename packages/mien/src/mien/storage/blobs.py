"""Content-addressed storage of file contents: immutable, by SHA-256, shared by all records with the same content."""

from collections.abc import AsyncIterable, AsyncIterator
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self


class BlobUpload(Protocol):
    """An upload in progress. Nothing is readable before `keep`, and nothing remains after `discard`."""

    size: int
    """Bytes received so far."""
    start: bytes
    """The first of them, enough to sniff the media type."""

    async def receive(self, chunks: AsyncIterable[bytes]) -> None:
        """Read to the end, or until the limit is exceeded. Raises StorageFull, and what `chunks` raises."""

    async def finish(self) -> str:
        """Make the content durable; returns its SHA-256."""

    async def keep(self) -> None:
        """Make the finished content readable under its SHA-256; durable when this returns."""

    async def discard(self) -> None:
        """Remove all traces of the upload. No effect after `keep`."""


class Blob(Protocol):
    """An open blob, from `start` to `stop` (exclusive). It stays readable even if the blob is removed meanwhile."""

    def __aiter__(self) -> AsyncIterator[bytes]: ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    async def aclose(self) -> None: ...


class BlobStore(Protocol):
    """Blobs by SHA-256. Knows nothing about records: callers of `keep` and `remove` hold the lock on the records."""

    async def start(self) -> None:
        """Prepare the store, and remove the remains of interrupted uploads."""

    def upload(self, limit: int) -> BlobUpload:
        """A new upload that stops receiving once it exceeds `limit` bytes."""

    async def open(self, sha256: str, start: int, stop: int) -> Blob:
        """Open bytes `start` to `stop` (exclusive). Raises NotFound if there is no such blob."""

    def local_path(self, sha256: str) -> Path | None:
        """The path of a local file with the content, for reading only; None if the store has no local files."""

    async def remove(self, sha256: str) -> None:
        """Remove the blob, if it exists."""

    async def older_than(self, at: float) -> list[str]:
        """The SHA-256 of each blob that was kept before the time `at` (seconds since 1970)."""
