"""Blobs in a local directory."""

import asyncio
import hashlib
import os
import secrets
from collections.abc import AsyncIterable, AsyncIterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from mien.atomic import sync
from mien.errors import InternalError, NotFound
from mien.file_types import SNIFF_BYTES
from mien.storage.disk import disk_errors

BLOCK = 1024 * 1024


class LocalBlobs:
    """A `BlobStore` in a directory.

    ```
    blobs/ab/cd/abcd…   contents by SHA-256
    uploads/…           uploads in progress; emptied at start
    ```
    """

    def __init__(self, folder: Path) -> None:
        self._blobs = folder / "blobs"
        self._uploads = folder / "uploads"

    async def start(self) -> None:
        await asyncio.to_thread(self._prepare)

    def upload(self, limit: int) -> "LocalUpload":
        return LocalUpload(self._uploads / secrets.token_hex(16), self._blobs, limit)

    async def open(self, sha256: str, start: int, stop: int) -> "LocalBlob":
        try:
            file = await asyncio.to_thread(self.local_path(sha256).open, "rb", buffering=0)
        except FileNotFoundError:
            raise NotFound(f"the content {sha256} is missing") from None
        return LocalBlob(file, sha256, start, stop)

    def local_path(self, sha256: str) -> Path:
        return _path(self._blobs, sha256)

    async def remove(self, sha256: str) -> None:
        await asyncio.to_thread(self.local_path(sha256).unlink, missing_ok=True)

    async def older_than(self, at: float) -> list[str]:
        return await asyncio.to_thread(
            lambda: [path.name for path in self._blobs.glob("*/*/*") if path.stat().st_mtime < at]
        )

    def _prepare(self) -> None:
        with disk_errors():
            for folder in (self._blobs, self._uploads):
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            for left in self._uploads.iterdir():
                left.unlink()


class LocalUpload:
    """A `BlobUpload` to a temporary file with a random name, hashed as it arrives."""

    def __init__(self, path: Path, blobs: Path, limit: int) -> None:
        self.size = 0
        self.start = b""
        self._path = path
        self._blobs = blobs
        self._limit = limit
        self._hash = hashlib.sha256()
        self._file: BinaryIO | None = None
        self._block = bytearray()

    async def receive(self, chunks: AsyncIterable[bytes]) -> None:
        async for chunk in chunks:
            self.size += len(chunk)
            self._block += chunk
            if len(self.start) < SNIFF_BYTES:
                self.start += bytes(chunk[: SNIFF_BYTES - len(self.start)])
            if self.size > self._limit:
                return
            if len(self._block) >= BLOCK:
                await asyncio.to_thread(self._write)

    async def finish(self) -> str:
        await asyncio.to_thread(self._write, last=True)
        return self._hash.hexdigest()

    async def keep(self) -> None:
        await asyncio.to_thread(self._rename, _path(self._blobs, self._hash.hexdigest()))

    async def discard(self) -> None:
        await asyncio.shield(asyncio.to_thread(self._discard))

    def _write(self, *, last: bool = False) -> None:
        with disk_errors():
            if self._file is None:
                descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
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

    def _rename(self, target: Path) -> None:
        with disk_errors():
            target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            if target.exists():
                os.utime(target)  # resets its age, so that no sweep removes it before it has its record
                return
            self._path.rename(target)
            # All levels: any of these directories may have just been created.
            for folder in (target.parent, target.parent.parent, self._blobs):
                sync(folder)

    def _discard(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
        self._path.unlink(missing_ok=True)


class LocalBlob:
    """A `Blob` in an open file."""

    def __init__(self, file: BinaryIO, sha256: str, start: int, stop: int) -> None:
        self._file = file
        self._sha256 = sha256
        self._start = start
        self._stop = stop

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        at = self._start
        while at < self._stop:
            block = await asyncio.to_thread(os.pread, self._file.fileno(), min(BLOCK, self._stop - at), at)
            if not block:
                raise InternalError(f"the content {self._sha256} is truncated")
            at += len(block)
            yield block

    async def aclose(self) -> None:
        self._file.close()


def _path(blobs: Path, sha256: str) -> Path:
    return blobs / sha256[:2] / sha256[2:4] / sha256
