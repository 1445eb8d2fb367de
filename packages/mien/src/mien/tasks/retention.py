"""Retention: ended tasks are removed after their keep time."""

import asyncio

from mien.tasks.attempt import AttemptContext
from mien.tasks.background import guarded
from mien.tasks.store import TaskStore

PURGE_SECONDS = 60.0
FIRST_PURGE = 10.0
"""Seconds after the start; queued tasks are started first."""


async def remove_old_tasks(context: AttemptContext, keep: float) -> None:
    """Remove tasks that ended more than `keep` seconds ago, until cancelled."""
    await asyncio.sleep(FIRST_PURGE)
    while True:
        await guarded("removing old tasks", purge(context.store, context.clock() - keep))
        await asyncio.sleep(PURGE_SECONDS)


async def purge(store: TaskStore, before: float) -> None:
    """Remove all of them, some hundred per transaction, so that other writes get their turn in between."""
    while await store.purge(before):
        pass
