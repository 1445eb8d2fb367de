"""Draining in two steps: running tasks are given time to end, then the components that they use may close."""

import asyncio
from types import TracebackType
from typing import Self

from mien.tasks.scheduler import Scheduler


class Drain:
    """Gives running tasks `seconds` to end, from `begin` on or, at the latest, from the exit of this context.

    `begin` comes first because the server waits for open connections, task streams among them, before it exits its
    lifespan: their tasks must be able to end meanwhile.
    """

    def __init__(self, scheduler: Scheduler, seconds: float) -> None:
        self.stopping = asyncio.Event()
        """Set once no task changes any more: streams end."""
        self._scheduler = scheduler
        self._seconds = seconds
        self._draining: asyncio.Task[None] | None = None

    def begin(self) -> "asyncio.Task[None]":
        """Accept no more tasks. Idempotent."""
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
