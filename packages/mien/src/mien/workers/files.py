"""Passing files to and from workers."""

import errno
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from mien.confined import Avoided, NotRegular, in_thread, open_below, open_in, parts_below
from mien.encoded import Encoded
from mien.errors import SourceRefused
from mien.workers.listener import AppError, FetchedFile


@dataclass(frozen=True, slots=True)
class OutputFile:
    """A file that an app created. It is removed with its worker."""

    path: Path
    """Its name. To be read is `content`: another file may have this path by now."""
    content: BinaryIO
    """Unbuffered; closed once it is stored."""
    content_type: str | None = None
    filename: str | None = None


class FileGate(Protocol):
    """Passes files to workers and stores their output files."""

    async def fetch(self, task_id: str, owner: str, given: Encoded, folder: Path) -> Encoded:
        """The input, or setup, with every file of this server copied to `folder` and replaced by its path.

        `owner`: the task's; files of others do not exist.
        """

    async def download(self, owner: str, url: str, folder: Path) -> FetchedFile:
        """Fetch a file that a client named by its URL, or by a path (`server-file://`), into `folder`. Raises
        MienError."""

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
    """Finds the files in the outputs of one run."""

    marker: str
    """The key by which the kernel marks files. Secret, so that no dict from a client's input can pass as a file."""
    closed: Path
    """The server's data directory: nothing in it is an output, even if an app makes a `File` of a client's text..."""
    own: tuple[Path, ...] = ()
    """...except in these directories, which belong to the run or its worker."""
    shared: tuple[Path, ...] = ()
    """Other directories whose files may be outputs, such as the system's temporary one."""

    def any_in(self, value: Any) -> bool:
        """Whether the output contains a file."""
        if isinstance(value, dict):
            return self.marker in value or any(self.any_in(item) for item in value.values())
        return isinstance(value, list) and any(self.any_in(item) for item in value)

    async def replaced(self, value: Any, store: Callable[[OutputFile], Awaitable[Any]]) -> Any:
        """The output with each file replaced by the result of `store`; a file that occurs twice is stored once.

        Raises AppError for what is no regular file, or not in one of the directories.
        """
        stored: dict[str, Any] = {}

        async def walk(value: Any) -> Any:
            if isinstance(value, dict):
                if set(value) == {self.marker}:
                    path = str(value[self.marker].get("path"))
                    if path not in stored:
                        stored[path] = await self._stored(Path(path), value[self.marker], store)
                    return stored[path]
                return {key: await walk(item) for key, item in value.items()}
            if isinstance(value, list):
                return [await walk(item) for item in value]
            return value

        return await walk(value)

    async def _stored(self, path: Path, given: dict[str, Any], store: Callable[[OutputFile], Awaitable[Any]]) -> Any:
        with await in_thread(lambda: self._open(path)) as content:
            return await store(OutputFile(path, content, given.get("content_type"), given.get("filename")))

    def _open(self, path: Path) -> BinaryIO:
        """Raises AppError."""
        try:
            return self._below(path)
        except FileNotFoundError:
            why = "does not exist"
        except Avoided:
            why = "belongs to the server"
        except NotRegular:
            why = "is not a regular file"
        except OSError as error:
            why = "is a link or behind one" if error.errno in (errno.ELOOP, errno.ENOTDIR) else "cannot be read"
        except ValueError:
            why = "has a name that no file can have"
        raise _refused(path, why)

    def _below(self, path: Path) -> BinaryIO:
        for top in self.own:
            if (parts := parts_below(top, path)) is not None:
                return open_below(top, parts)
        if (content := open_in(self.shared, path, self.closed)) is not None:
            return _only_name(content, path)
        if any(parts_below(self.closed, name) is not None for name in (path, path.resolve())):
            raise Avoided
        raise _refused(path, "is neither in the run's directories nor in the temporary directory")


def _only_name(content: BinaryIO, path: Path) -> BinaryIO:
    """The file, unless it has names elsewhere: they may be the server's. Raises AppError."""
    if os.fstat(content.fileno()).st_nlink != 1:
        content.close()
        raise _refused(path, "has several names (hard links)")
    return content


def _refused(path: Path, why: str) -> AppError:
    return AppError(f"the output refers to the file {path.name}, which {why}", "output")
