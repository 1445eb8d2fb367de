"""Files between the file store and workers, in both directions."""

import asyncio
import shutil
from collections import OrderedDict
from pathlib import Path
from typing import Any

from mien.encoded import Encoded
from mien.errors import BodyTooLarge, NotFound, StorageFull
from mien.storage.disk import disk_errors
from mien.storage.file_records import SCHEME, NewFile, safe_name
from mien.storage.file_store import FileStore
from mien.storage.links import file_uri, replace_file_uris
from mien.workers.files import OutputFile

_REMEMBERED = 1000


class StoreGate:
    """Implements `mien.workers.files.FileGate`: inputs are copied, outputs are stored as files of their task."""

    def __init__(self, files: FileStore) -> None:
        self._files = files
        self._stored: OrderedDict[tuple[str, str, int, int, int], str] = OrderedDict()

    async def fetch(self, task_id: str, owner: str, given: Encoded, folder: Path) -> Encoded:
        """Files of this server become paths in `folder`. Other URLs stay: the app fetches them itself."""
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
        identity = await asyncio.to_thread(_identity, task_id, file.path)
        if identity is not None and identity in self._stored:
            return self._stored[identity]
        new = NewFile(
            filename=file.filename or file.path.name, content_type=file.content_type, owner=owner, task_id=task_id
        )
        try:
            name = file_uri(await self._files.add_path(new, file.path))
        except (BodyTooLarge, StorageFull) as error:
            raise type(error)(f"{file.path.name}: {error.message}") from error
        if identity is not None:
            self._stored[identity] = name
            while len(self._stored) > _REMEMBERED:
                self._stored.popitem(last=False)
        return name


def _identity(task_id: str, path: Path) -> tuple[str, str, int, int, int] | None:
    """What tells whether a file is unchanged; None if there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return task_id, str(path), found.st_ino, found.st_size, found.st_mtime_ns
