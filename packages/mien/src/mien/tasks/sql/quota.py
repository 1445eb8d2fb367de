"""The quota of queued tasks, counted in the transaction that adds one: no two submissions see the same free place."""

import sqlalchemy as sa

from mien.quotas import exceeded
from mien.storage.schema import tasks
from mien.tasks.records import Task
from mien.tasks.status import WAITING

_LONGEST_RETRY = 300.0
"""Seconds. A client that is told to come back in a year had better be told nothing."""


def require_room(connection: sa.Connection, task: Task, limit: int) -> None:
    """Raise QuotaExceeded if the owner of the new task has `limit` tasks that wait as it will.

    Those that wait for their `run_at` count apart: they may wait for years.
    """
    now = task.created_at
    theirs = (tasks.c.owner == task.owner, tasks.c.status.in_(sorted(WAITING)))
    later = tasks.c.run_at > now
    if task.run_at is not None and task.run_at > now:
        waiting = sa.select(sa.func.count(), sa.func.min(tasks.c.run_at)).where(*theirs, later)
        count, first = connection.execute(waiting).one()
        if count >= limit:
            until = first - now if first is not None and first - now <= _LONGEST_RETRY else None
            raise exceeded("tasks that wait for their run_at", task.owner, limit, count, retry_after=until)
        return
    due = sa.or_(tasks.c.run_at.is_(None), tasks.c.run_at <= now)
    count = connection.execute(sa.select(sa.func.count()).select_from(tasks).where(*theirs, due)).scalar_one()
    if count >= limit:
        raise exceeded("queued tasks", task.owner, limit, count)
