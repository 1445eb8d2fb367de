"""Files between the file store and workers, in both directions."""

import asyncio
import os
import shutil
from collections import OrderedDict
from pathlib import Path
from typing import Any

from infsh._caller import SERVER_FILE
from mien.confined import in_thread
from mien.encoded import Encoded
from mien.errors import BodyTooLarge, NotFound, QuotaExceeded, RequestError, StorageFull, UnsupportedMediaType
from mien.net.fetch import Fetcher
from mien.storage.disk import disk_errors
from mien.storage.file_quota import Count
from mien.storage.file_records import SCHEME, NewFile, safe_name
from mien.storage.file_store import FileStore
from mien.storage.links import file_uri, replace_file_uris
from mien.tasks.downloads import copy, download
from mien.tasks.input_paths import InputPaths
from mien.workers.files import OutputFile
from mien.workers.listener import AppError, FetchedFile

_REMEMBERED = 1000


class StoreGate:
    """Implements `mien.workers.files.FileGate`: inputs are copied or fetched, outputs are stored as files of their
    task."""

    def __init__(self, files: FileStore, fetcher: Fetcher, paths: InputPaths) -> None:
        self._files = files
        self._paths = paths
        self._fetcher = fetcher
        self._stored: OrderedDict[tuple[str, str, int, int, int], str] = OrderedDict()

    async def download(self, owner: str, url: str, folder: Path) -> FetchedFile:
        """The file behind the URL, below `folder`. It counts into the owner's quota until it is removed. Raises
        MienError."""
        async with self._files.arriving(owner) as arrival:
            if url.startswith(SERVER_FILE):
                file = await self._copied(url, folder, arrival)
            else:
                file = await download(self._fetcher, url, folder, count=arrival)
            arrival.copy = file.path
            return file

    async def _copied(self, url: str, folder: Path, count: Count) -> FetchedFile:
        with await in_thread(lambda: self._paths.open(url)) as content:
            self._files.check_size(os.fstat(content.fileno()).st_size)
            return await copy(content, url, folder, count=count)

    async def fetch(self, task_id: str, owner: str, given: Encoded, folder: Path) -> Encoded:
        """Files of this server become paths in `folder`. Other URLs stay: they are fetched when the app needs them."""
        if SCHEME not in given.text:
            return given  # most inputs name no file: this saves decoding them

        async def copied(file_id: str) -> str:
            record = await self._files.get(file_id, owner)
            target = folder / file_id / safe_name(record.filename)
            if not target.exists():
                source = await self._files.local_path(file_id)
                if source is None:
                    raise NotFound(f"the file {file_id} has no content")
                with disk_errors(f"{record.filename} was not given to the app"):
                    target.parent.mkdir()
                    await asyncio.to_thread(shutil.copyfile, source, target)  # a copy: stored content never changes
            return str(target)

        return Encoded.of(await replace_file_uris(given.value, copied))

    async def store(self, task_id: str, owner: str, file: OutputFile) -> Any:
        """Store the file and return its name inside tasks. An unchanged file of several outputs is stored once."""
        identity = _identity(task_id, file)
        if identity in self._stored:
            return self._stored[identity]
        new = NewFile(
            filename=file.filename or file.path.name, content_type=file.content_type, owner=owner, task_id=task_id
        )
        try:
            name = file_uri(await self._files.add_open(new, file.content))
        except (BodyTooLarge, QuotaExceeded, StorageFull) as error:
            raise type(error)(f"{file.path.name}: {error.message}") from error
        except UnsupportedMediaType:
            raise
        except RequestError:
            raise AppError(f"the output's file {file.path.name} became shorter while it was stored", "output") from None
        self._stored[identity] = name
        while len(self._stored) > _REMEMBERED:
            self._stored.popitem(last=False)
        return name


def _identity(task_id: str, file: OutputFile) -> tuple[str, str, int, int, int]:
    """What tells whether a file is unchanged."""
    found = os.fstat(file.content.fileno())
    return task_id, str(file.path), found.st_ino, found.st_size, found.st_mtime_ns
