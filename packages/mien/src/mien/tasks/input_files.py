"""The files that a task's input refers to are checked before there is a task."""

from typing import Any

from mien.errors import InvalidField, NotFound
from mien.storage.file_store import FileStore
from mien.storage.links import file_references


async def require_files(files: FileStore, value: Any, name: str, owner: str) -> None:
    """Raise InvalidField, which names the place in `value`, for a file that is not one of `owner`'s or has no content.

    Admins' tasks are no exception: a task's files are its owner's. `name`: of the value itself, such as `input`.
    """
    for place, file_id in file_references(value):
        field = f"{name}.{place}" if place else name
        try:
            record = await files.get(file_id, owner)
        except NotFound:
            raise InvalidField(f"{field}: this server has no file {file_id}") from None
        if not record.ready:
            raise InvalidField(f"{field}: the file {file_id} has not been uploaded yet")
