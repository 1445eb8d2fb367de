"""The files that a worker has fetched: its app's process must not follow a client's URLs itself."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import structlog

from infsh._kernel import protocol
from mien.errors import MienError
from mien.workers.listener import Listener, WorkerGone

log = structlog.get_logger()
MOST_AT_ONCE = 1024
"""Fetches of one run at a time; one more fails. Bounds what an app that asks without end can occupy."""
_REFUSED = "the run has ended, or fetches too many files at once"


class Fetches:
    """The fetches of one worker in progress. Every request is answered, unless the worker is gone."""

    def __init__(
        self, send: Callable[[protocol.Message], Awaitable[None]], folder: Callable[[str | None], Path]
    ) -> None:
        """`folder` gives the directory for the files of a run, or (None) of the setup."""
        self._send = send
        self._folder = folder
        self._open: set[str | None] = set()
        self._tasks: dict[asyncio.Task[None], str | None] = {}

    @contextlib.contextmanager
    def until_end(self, run_id: str | None) -> Iterator[None]:
        """Accept requests of this run, or (None) of the setup, and end those in progress at the end of the block."""
        self._open.add(run_id)
        try:
            yield
        finally:
            self._open.discard(run_id)
            for task in self._of(run_id):
                task.cancel()

    def start(self, request: protocol.Fetch, listener: Listener | None) -> None:
        """Answer the request; `listener` fetches the file. None: its run has ended."""
        if request.run_id not in self._open or len(self._of(request.run_id)) >= MOST_AT_ONCE:
            listener = None
        task = asyncio.create_task(self._answer(request, listener))
        self._tasks[task] = request.run_id
        task.add_done_callback(self._tasks.pop)

    def _of(self, run_id: str | None) -> list[asyncio.Task[None]]:
        return [task for task, its in self._tasks.items() if its == run_id]

    async def _answer(self, request: protocol.Fetch, listener: Listener | None) -> None:
        answer = protocol.Fetched(request.fetch_id, error=_REFUSED, code="cancelled")
        try:
            if listener is not None:
                answer = await self._fetched(request, listener)
        finally:
            # Also when cancelled: a thread of the app that outlives its run would wait for the answer forever.
            with contextlib.suppress(WorkerGone):
                await self._send(answer)

    async def _fetched(self, request: protocol.Fetch, listener: Listener) -> protocol.Fetched:
        try:
            file = await listener.fetch(request.url, self._folder(request.run_id))
        except MienError as error:
            return protocol.Fetched(request.fetch_id, error=error.message, code=error.code)
        except Exception as error:
            log.error("a file was not fetched", exc_info=error)
            return protocol.Fetched(request.fetch_id, error="the server's log has the details", code="internal")
        return protocol.Fetched(request.fetch_id, str(file.path), file.content_type)
