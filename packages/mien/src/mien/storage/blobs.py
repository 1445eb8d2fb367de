"""Where the bytes of files are kept: under their SHA-256, never changed, shared by all records that have them."""

from collections.abc import AsyncIterable, AsyncIterator
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self


class BlobUpload(Protocol):
    """Bytes on their way in. Nothing is readable before `keep`, and nothing is left after `discard`."""

    size: int
    """Bytes received so far."""
    start: bytes
    """The first of them, enough to tell a media type."""

    async def receive(self, chunks: AsyncIterable[bytes]) -> None:
        """Read to the end, or until there is one byte over the limit. Raises StorageFull, and what `chunks` raises."""

    async def finish(self) -> str:
        """The SHA-256, once every byte is safe from a crash."""

    async def keep(self) -> None:
        """Make the finished bytes readable under their SHA-256, for good when this returns."""

    async def discard(self) -> None:
        """Leave nothing behind; after `keep` there is nothing to leave."""


class Blob(Protocol):
    """Open bytes, from `start` to `stop` (exclusive), that can be read on even if the blob is removed meanwhile."""

    def __aiter__(self) -> AsyncIterator[bytes]: ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    async def aclose(self) -> None: ...


class BlobStore(Protocol):
    """Blobs by their SHA-256. Knows nothing of records: whoever keeps or removes one holds the lock of its records."""

    async def start(self) -> None:
        """Make ready, and remove what interrupted uploads left."""

    def upload(self, limit: int) -> BlobUpload:
        """A new upload that stops receiving one byte over `limit`."""

    async def open(self, sha256: str, start: int, stop: int) -> Blob:
        """Raises NotFound if there is no such blob."""

    def local_path(self, sha256: str) -> Path | None:
        """A path of this machine with the bytes, to read only; None where the store has none."""

    async def remove(self, sha256: str) -> None:
        """Remove the blob, if it is there."""

    async def older_than(self, at: float) -> list[str]:
        """The SHA-256 of each blob that was kept before the time `at` (seconds since 1970)."""
