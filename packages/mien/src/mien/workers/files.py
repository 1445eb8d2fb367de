"""Files on their way into and out of a worker."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from mien.encoded import Encoded
from mien.workers.listener import AppError


@dataclass(frozen=True, slots=True)
class OutputFile:
    """A file that an app made; it is gone when its worker is."""

    path: Path
    content_type: str | None = None
    filename: str | None = None


class FileGate(Protocol):
    """Brings files to workers and takes them from there."""

    async def fetch(self, task_id: str, given: Encoded, folder: Path) -> Encoded:
        """The input, with every file that the app cannot read by itself put into `folder` and replaced by its path."""

    async def store(self, task_id: str, file: OutputFile) -> Any:
        """Keep the file and return what stands for it in the output."""


class NoFiles:
    """Passes files by: inputs stay what they are, outputs become their path. For workers without a file store."""

    async def fetch(self, task_id: str, given: Encoded, folder: Path) -> Encoded:
        return given

    async def store(self, task_id: str, file: OutputFile) -> Any:
        return str(file.path)


@dataclass(frozen=True, slots=True)
class OutputFiles:
    """Finds the files in the outputs of one worker."""

    marker: str
    """What its kernel marks files with: a secret, so that a dict which the app was given is never taken for one."""
    closed: Path
    """The server's data folder: no file of it is an output, even if an app makes a `File` of a caller's text..."""
    own: tuple[Path, ...] = ()
    """...except in these folders, which are the worker's."""

    def any_in(self, value: Any) -> bool:
        """Whether a file is marked anywhere in the output."""
        if isinstance(value, dict):
            return self.marker in value or any(self.any_in(item) for item in value.values())
        return isinstance(value, list) and any(self.any_in(item) for item in value)

    async def replaced(self, value: Any, store: Callable[[OutputFile], Awaitable[Any]]) -> Any:
        """The output with each marked file replaced by what `store` returns for it; one named twice is stored once.

        Raises AppError for one that is not there, or not the app's to give.
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
            raise AppError(f"the output names the file {path.name}, which the app did not make", "output")
        real = path.resolve()
        if real.is_relative_to(self.closed.resolve()) and not any(
            real.is_relative_to(folder.resolve()) for folder in self.own
        ):
            raise AppError(f"the output names the file {path.name}, which belongs to the server", "output")
        return OutputFile(path, given.get("content_type"), given.get("filename"))
