"""Files that clients name by URL or path, fetched to the disk for one run."""

import asyncio
import os
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote, urlsplit

from mien.net.fetch import Fetcher
from mien.storage.disk import disk_errors
from mien.storage.file_quota import Count
from mien.storage.file_records import safe_name
from mien.storage.file_store import file_chunks
from mien.workers.listener import FetchedFile

_UNTYPED = ("application/octet-stream", "binary/octet-stream")
_FAILED = "a file was not given to the app"


async def download(fetcher: Fetcher, url: str, folder: Path, *, count: Count = lambda size: None) -> FetchedFile:
    """The file behind `url`, below `folder`, named as the URL does. `count` is told of bytes before they are written,
    and may raise.

    Nothing is left of it if it fails or is cancelled. Raises as `Fetcher.save` does, StorageFull, InternalError.
    """
    async with _new_file(folder, _name(url), count) as sink:
        content_type = await fetcher.save(url, sink)
    return FetchedFile(sink.path, None if content_type in _UNTYPED else content_type)


async def copy(content: BinaryIO, url: str, folder: Path, *, count: Count = lambda size: None) -> FetchedFile:
    """A copy of an open file, which may become longer meanwhile, as `download` makes one."""
    async with _new_file(folder, _name(url), count) as sink:
        await sink.restart()
        async for block in file_chunks(content, os.fstat(content.fileno()).st_size):
            await sink.write(block)
    return FetchedFile(sink.path)


@asynccontextmanager
async def _new_file(folder: Path, name: str, count: Count) -> AsyncIterator["DiskSink"]:
    """A sink that writes to a new file, alone in its directory. Nothing is left of it if the block raises."""
    target = folder / secrets.token_hex(8) / safe_name(name)
    with disk_errors(_FAILED):
        target.parent.mkdir(mode=0o700)
    sink = DiskSink(target, count)
    try:
        yield sink
    except BaseException:
        sink.close()
        target.unlink(missing_ok=True)
        target.parent.rmdir()
        raise
    sink.close()


class DiskSink:
    """Writes a body to a new file, in a thread: disks stall."""

    def __init__(self, path: Path, count: Count) -> None:
        self.path = path
        self._count = count
        self._size = self._counted = 0
        self._file: BinaryIO | None = None

    async def restart(self) -> None:
        self._size = 0
        if self._file is None:
            with disk_errors(_FAILED):
                descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
                self._file = os.fdopen(descriptor, "wb", buffering=0)
        else:
            self._file.seek(0)
            self._file.truncate()

    async def write(self, chunk: bytes) -> None:
        self._size += len(chunk)
        if (new := self._size - self._counted) > 0:  # not what came before a restart
            self._count(new)
            self._counted = self._size
        # A cancelled download must not close the file under a thread that still writes to it.
        writing = asyncio.ensure_future(asyncio.to_thread(self._write, chunk))
        try:
            await asyncio.shield(writing)
        except asyncio.CancelledError:
            await asyncio.wait([writing])
            raise

    def _write(self, chunk: bytes) -> None:
        assert self._file is not None  # noqa: S101 - restart comes first
        with disk_errors(_FAILED):
            view = memoryview(chunk)
            while view:
                view = view[self._file.write(view) :]

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def _name(url: str) -> str:
    """The last segment of the URL's path."""
    return unquote(urlsplit(url).path).rstrip("/").rpartition("/")[2] or "download"
