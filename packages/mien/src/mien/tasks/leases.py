"""Leases: a live server renews those of its attempts; a task whose lease has expired may be taken from its holder."""

import asyncio
from collections.abc import Mapping

from mien.tasks.attempt import AttemptContext, RunningAttempt
from mien.tasks.background import guarded

RENEWALS_PER_LEASE = 3
"""Two renewals in a row may fail before the lease expires."""


async def keep_leases(context: AttemptContext, attempts: Mapping[str, RunningAttempt]) -> None:
    """Renew the leases of `attempts`, by task id, until cancelled."""
    while True:
        await asyncio.sleep(context.policy.lease / RENEWALS_PER_LEASE)
        await guarded("renewing leases", renew(context, attempts))


async def renew(context: AttemptContext, attempts: Mapping[str, RunningAttempt]) -> None:
    """Renew once. An attempt that no longer holds its task is stopped, and writes nothing."""
    executing = {task_id: attempt for task_id, attempt in attempts.items() if attempt.executing}
    if not executing:
        return
    until = context.clock() + context.policy.lease
    kept = await context.store.renew(context.holder, executing.keys(), until)
    for task_id in executing.keys() - kept:
        # The object from before the write, not the current entry of `attempts`: meanwhile the attempt may have ended
        # and the task's next attempt, which does hold the claim, may have begun.
        executing[task_id].stop("superseded", 0.0)
