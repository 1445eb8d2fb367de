"""Passing files to and from workers."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from mien.encoded import Encoded
from mien.errors import SourceRefused
from mien.workers.listener import AppError, FetchedFile


@dataclass(frozen=True, slots=True)
class OutputFile:
    """A file that an app created. It is removed with its worker."""

    path: Path
    content_type: str | None = None
    filename: str | None = None


class FileGate(Protocol):
    """Passes files to workers and stores their output files."""

    async def fetch(self, task_id: str, owner: str, given: Encoded, folder: Path) -> Encoded:
        """The input, or setup, with every file of this server copied to `folder` and replaced by its path.


        `owner`: the task's; files of others do not exist.
        """

    async def download(self, owner: str, url: str, folder: Path) -> FetchedFile:
        """Fetch a file that a client named by its URL into `folder`. Raises MienError."""

    async def store(self, task_id: str, owner: str, file: OutputFile) -> Any:
        """Store the file as one of `owner`'s and return the reference that replaces it in the output."""


class NoFiles:
    """Leaves inputs unchanged and replaces output files by their path. For workers without a file store."""

    async def fetch(self, task_id: str, owner: str, given: Encoded, folder: Path) -> Encoded:
        return given

    async def download(self, owner: str, url: str, folder: Path) -> FetchedFile:
        raise SourceRefused("no URLs are fetched here")

    async def store(self, task_id: str, owner: str, file: OutputFile) -> Any:
        return str(file.path)


@dataclass(frozen=True, slots=True)
class OutputFiles:
    """Finds the files in the outputs of one worker."""

    marker: str
    """The key by which the kernel marks files. Secret, so that no dict from a client's input can pass as a file."""
    closed: Path
    """The server's data directory: files in it are not outputs, even if an app makes a `File` of a client's text..."""
    own: tuple[Path, ...] = ()
    """...except in these directories, which belong to the worker."""

    def any_in(self, value: Any) -> bool:
        """Whether the output contains a file."""
        if isinstance(value, dict):
            return self.marker in value or any(self.any_in(item) for item in value.values())
        return isinstance(value, list) and any(self.any_in(item) for item in value)

    async def replaced(self, value: Any, store: Callable[[OutputFile], Awaitable[Any]]) -> Any:
        """The output with each file replaced by the result of `store`; a file that occurs twice is stored once.

        Raises AppError for a file that does not exist or belongs to the server.
        """
        stored: dict[Path, Any] = {}

        async def walk(value: Any) -> Any:
            if isinstance(value, dict):
                if set(value) == {self.marker}:
                    file = self._file(value[self.marker])
                    if file.path not in stored:
                        stored[file.path] = await store(file)
                    return stored[file.path]
                return {key: await walk(item) for key, item in value.items()}
            if isinstance(value, list):
                return [await walk(item) for item in value]
            return value

        return await walk(value)

    def _file(self, given: dict[str, Any]) -> OutputFile:
        path = Path(str(given.get("path")))
        if not path.is_file():
            raise AppError(f"the output refers to the file {path.name}, which does not exist", "output")
        real = path.resolve()
        if real.is_relative_to(self.closed.resolve()) and not any(
            real.is_relative_to(folder.resolve()) for folder in self.own
        ):
            raise AppError(f"the output refers to the file {path.name}, which belongs to the server", "output")
        return OutputFile(path, given.get("content_type"), given.get("filename"))
