"""How late the event loop is: the time that a due callback had to wait for others to return."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

INTERVAL = 0.02
"""Seconds between two looks. What blocks the loop for longer is seen whole, but for this."""


class LoopLag:
    """The largest lag since it was last asked for, in seconds."""

    def __init__(self) -> None:
        self._largest = 0.0

    def take(self) -> float:
        """The largest lag since the last call."""
        largest, self._largest = self._largest, 0.0
        return largest

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Watch the running loop during the block."""
        watching = asyncio.create_task(self._watch())
        try:
            yield
        finally:
            watching.cancel()
            with suppress(asyncio.CancelledError):
                await watching

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + INTERVAL
            await asyncio.sleep(INTERVAL)
            self._largest = max(self._largest, loop.time() - due)
