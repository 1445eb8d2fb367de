"""Files on their way into and out of a worker."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from infsh._kernel.protocol import LOCAL_FILE
from mien.workers.listener import AppError


@dataclass(frozen=True, slots=True)
class OutputFile:
    """A file that an app made; it is gone when its worker is."""

    path: Path
    content_type: str | None = None
    filename: str | None = None


class FileGate(Protocol):
    """Brings files to workers and takes them from there."""

    async def fetch(self, task_id: str, value: Any, folder: Path) -> Any:
        """The input, with every file that the app cannot read by itself put into `folder` and replaced by its path."""

    async def store(self, task_id: str, file: OutputFile) -> Any:
        """Keep the file and return what stands for it in the output."""


class NoFiles:
    """Passes files by: inputs stay what they are, outputs become their path. For workers without a file store."""

    async def fetch(self, task_id: str, value: Any, folder: Path) -> Any:
        return value

    async def store(self, task_id: str, file: OutputFile) -> Any:
        return str(file.path)


async def replace_files(value: Any, store: Callable[[OutputFile], Awaitable[Any]]) -> Any:
    """The output with each marked file replaced by what `store` returns for it; a file named twice is stored once.

    Raises AppError for one that is not there.
    """
    stored: dict[Path, Any] = {}

    async def walk(value: Any) -> Any:
        if isinstance(value, dict):
            if set(value) == {LOCAL_FILE} and isinstance(value[LOCAL_FILE], dict):
                given = value[LOCAL_FILE]
                path = Path(str(given.get("path")))
                if not path.is_file():
                    raise AppError(f"the output names the file {path.name}, which the app did not make", "output")
                if path not in stored:
                    stored[path] = await store(OutputFile(path, given.get("content_type"), given.get("filename")))
                return stored[path]
            return {key: await walk(item) for key, item in value.items()}
        if isinstance(value, list):
            return [await walk(item) for item in value]
        return value

    return await walk(value)


def has_files(value: Any) -> bool:
    """Whether a file is marked anywhere in the output."""
    if isinstance(value, dict):
        return LOCAL_FILE in value or any(has_files(item) for item in value.values())
    return isinstance(value, list) and any(has_files(item) for item in value)
