"""What a run reports, on its way to its task: outputs come with files, which have to be stored first."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from mien.errors import MienError
from mien.storage.links import has_references, quoted_texts
from mien.tasks.executor import Reporter
from mien.workers.files import OutputFile, OutputFiles
from mien.workers.listener import FetchedFile, Stage


class RunListener:
    """Implements `mien.workers.listener.PoolListener` for one run of a task.

    Partial outputs with files are stored one at a time. While one is stored, only the newest of those that follow is
    kept, and an output without files waits its turn, too: none may overtake another.
    """

    def __init__(
        self,
        report: Reporter,
        files: Callable[[], OutputFiles],
        store: Callable[[OutputFile], Awaitable[Any]],
        fetch: Callable[[str, Path], Awaitable[FetchedFile]],
    ) -> None:
        """`files` finds the files in outputs of the run's worker; called when an output has come from it. `store` and
        `fetch` are those of the run's `FileGate`."""
        self._report = report
        self._fetch = fetch
        self._files = files
        self._store = store
        self._stage = Stage.PREPARING
        self._returned = False
        self._storing: asyncio.Task[None] | None = None
        self._failure: MienError | OSError | None = None
        self._next: list[Any] = []

    @property
    def in_app(self) -> bool:
        """Whether the app's function runs now: it has begun, and has not returned."""
        return self._stage is Stage.RUNNING and not self._returned

    def stage(self, stage: Stage) -> None:
        self._stage = stage
        self._report.stage(stage)

    def log(self, text: str) -> None:
        self._report.log(text)

    def progress(self, fraction: float, message: str | None = None) -> None:
        self._report.progress(fraction, message)

    async def fetch(self, url: str, folder: Path) -> FetchedFile:
        return await self._fetch(url, folder)

    def output(self, value: Any) -> None:
        files = self._files()
        value = _without_references(value)
        if self._storing is None and not files.any_in(value):
            self._report.output(value)
            return
        self._next[:] = [value]
        if self._storing is None:
            self._storing = asyncio.create_task(self._store_partial(files))

    async def _store_partial(self, files: OutputFiles) -> None:
        try:
            while self._next:
                self._report.output(await files.replaced(self._next.pop(), self._store))
        except (MienError, OSError) as error:
            self._failure = self._failure or error
        finally:
            self._storing = None

    async def final(self, output: Any, files: OutputFiles) -> Any:
        """The run's final output with its files stored, after all partial ones. Raises what storing any of them
        raised. `files` is the worker's, which may be gone from its slot by now."""
        self._returned = True
        if self._storing is not None:
            await self._storing
        if self._failure is not None:
            raise self._failure
        output = _without_references(output)
        if not files.any_in(output):
            return output
        self.stage(Stage.UPLOADING)
        return await files.replaced(output, self._store)

    async def close(self) -> None:
        """Stop storing: the run has ended, and its worker's files may be gone."""
        if self._storing is not None:
            self._storing.cancel()
            with contextlib.suppress(asyncio.CancelledError, MienError, OSError):
                await self._storing


def _without_references(output: Any) -> Any:
    """An app's output, in which no text is a reference to a file: those come from its `File` objects only."""
    return quoted_texts(output) if has_references(output) else output
