"""The files that a task's input refers to are checked before there is a task."""

from collections.abc import Iterable

from mien.errors import InvalidField, NotFound
from mien.storage.file_store import FileStore


async def require_files(files: FileStore, references: Iterable[tuple[str, str]], name: str, owner: str) -> None:
    """Raise InvalidField, which names its place, for a file that is not one of `owner`'s or has no content.

    Admins' tasks are no exception: a task's files are its owner's. `references`: see
    `file_references`; `name`: of the value that has them, such as `input`.
    """
    found: set[str] = set()  # an input may name the same file at every place
    for place, file_id in references:
        if file_id in found:
            continue
        field = f"{name}.{place}" if place else name
        try:
            record = await files.get(file_id, owner)
        except NotFound:
            raise InvalidField(f"{field}: this server has no file {file_id}") from None
        if not record.ready:
            raise InvalidField(f"{field}: the file {file_id} has not been uploaded yet")
        found.add(file_id)
