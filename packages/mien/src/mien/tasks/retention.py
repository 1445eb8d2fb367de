"""Retention: ended tasks are removed after their keep time."""

import asyncio
import time
from collections.abc import Callable

import structlog

from mien.tasks.background import guarded
from mien.tasks.store import TaskStore

log = structlog.get_logger()

PURGE_SECONDS = 60.0
FIRST_PURGE = 10.0
"""Seconds after the start; queued tasks are started first."""
FASTEST = 2.0
"""Seconds that the time of retention moves in one second, where it is behind the clock."""
FAR_BEHIND = 86400.0


class RetentionClock:
    """The time by which old things are removed: that of the clock, unless the clock has jumped ahead.

    A clock that is wrong for a moment (a machine that starts without a battery, a bad time server) must not remove
    everything at once. So this time is kept in the database and follows the clock at most twice as fast as the server
    is up: after a jump there are days to notice, and after days off it catches up in as many days.
    """

    def __init__(
        self, store: TaskStore, clock: Callable[[], float], monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._store = store
        self._clock = clock
        self._monotonic = monotonic
        self._last = monotonic()
        self._said = False

    async def now(self) -> float:
        """Seconds since 1970."""
        elapsed, self._last = self._monotonic() - self._last, self._monotonic()
        now = self._clock()
        kept = await self._store.retention_time(now, FASTEST * elapsed)
        if not self._said and now - kept > FAR_BEHIND:
            log.warning(
                "the clock is ahead of what was recorded; old tasks and files are removed in steps",
                days=round((now - kept) / 86400, 1),
            )
        self._said = now - kept > FAR_BEHIND
        return kept


async def remove_old_tasks(store: TaskStore, clock: RetentionClock, keep: float) -> None:
    """Remove tasks that ended more than `keep` seconds ago, until cancelled."""
    await asyncio.sleep(FIRST_PURGE)
    while True:
        await guarded("removing old tasks", _purge(store, clock, keep))
        await asyncio.sleep(PURGE_SECONDS)


async def _purge(store: TaskStore, clock: RetentionClock, keep: float) -> None:
    """Remove all of them, some hundred per transaction, so that other writes get their turn in between."""
    before = await clock.now() - keep
    while await store.purge(before):
        pass
