"""The end of a server's tasks, in two steps: first they get their time, then everything behind them may close."""

import asyncio
from types import TracebackType
from typing import Self

from mien.tasks.scheduler import Scheduler


class Drain:
    """Gives running tasks `seconds` to end, from `begin` on or, at the latest, from the exit of this context.

    The two are apart because streams of tasks are connections, for which the server waits before it ends anything
    else: their tasks must be able to end meanwhile.
    """

    def __init__(self, scheduler: Scheduler, seconds: float) -> None:
        self.stopping = asyncio.Event()
        """Set once nothing will happen to tasks any more: streams end."""
        self._scheduler = scheduler
        self._seconds = seconds
        self._draining: asyncio.Task[None] | None = None

    def begin(self) -> "asyncio.Task[None]":
        """Take no more tasks. Repeated calls change nothing."""
        if self._draining is None:
            self._draining = asyncio.create_task(self._drain())
        return self._draining

    async def _drain(self) -> None:
        try:
            await self._scheduler.drain(self._seconds)
        finally:
            self.stopping.set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.gather(self.begin(), return_exceptions=True)
