"""The task store on a SQL database: `mien.tasks.store.TaskStore`."""

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

import sqlalchemy as sa
import structlog
from msgspec.structs import replace

from mien.errors import Conflict, IdempotencyConflict, NotFound, RequestError, TaskDamaged
from mien.storage.database import Database
from mien.storage.schema import meta, task_logs, tasks, webhooks
from mien.tasks import machine
from mien.tasks.machine import Changes, LogText, Outcome
from mien.tasks.records import Attempt, Candidate, LogLine, Submission, Task, clean
from mien.tasks.sql.files import record_inputs, release_files
from mien.tasks.sql.quota import require_room
from mien.tasks.sql.rows import (
    CANDIDATE_COLUMNS,
    TASK_COLUMNS,
    candidate_of,
    changed_row,
    chars_of,
    full_row,
    log_line_of,
    task_of,
)
from mien.tasks.status import HELD, TERMINAL, WAITING, Status
from mien.tasks.store import Change, Delivery, Filter, Listener, Page

log = structlog.get_logger()

_waiting = tasks.c.status.in_(sorted(WAITING))
_held = tasks.c.status.in_(sorted(HELD))
_by_id = sa.select(*TASK_COLUMNS).where(tasks.c.id == sa.bindparam("task_id"))
_by_seq = sa.select(*TASK_COLUMNS).where(tasks.c.seq == sa.bindparam("seq"))
_locked_by_id = _by_id.with_for_update()
_by_key = sa.select(*TASK_COLUMNS, tasks.c.fingerprint).where(
    tasks.c.owner == sa.bindparam("by_owner"), tasks.c.idempotency_key == sa.bindparam("by_key")
)
_RETENTION = "retention_time"
_at_a_time = 200
"""Tasks changed per transaction of a sweep: other writes get their turn in between."""


class SqlTaskStore:
    """Statements and transactions only; the state transitions are in `mien.tasks.machine`."""

    def __init__(
        self, database: Database, *, retries: int = 2, clock: Callable[[], float] = machine.wall_clock
    ) -> None:
        """`retries`: the default for submissions that do not set it."""
        self._database = database
        self._retries = retries
        self._clock = clock
        self._listeners: list[Listener] = []

    def listen(self, listener: Listener) -> None:
        self._listeners.append(listener)

    def _notify(self, change: Change | None) -> None:
        if change is not None:
            for listener in self._listeners:
                listener(change)

    def _notify_all(self, changed: Sequence[Change]) -> None:
        for change in changed:
            self._notify(change)

    # --- callers

    async def submit(self, submission: Submission, quota: int | None = None) -> tuple[Task, bool]:
        draft = machine.accept(submission, seq=0, retries=self._retries, now=self._clock())
        # Only compared for idempotency keys; without one, hashing the whole input would be wasted.
        fingerprint = "" if submission.idempotency_key is None else submission.fingerprint()
        row = full_row(draft, fingerprint)

        def insert(connection: sa.Connection) -> Change:
            if (known := _known(connection, submission, fingerprint)) is not None:
                return Change(known)
            if quota is not None:
                require_room(connection, draft, quota)
            seq = connection.execute(sa.insert(tasks).returning(tasks.c.seq), row).scalar_one()
            record_inputs(connection, seq, row, self._clock())
            return Change(replace(draft, seq=seq), created=True)

        change = await self._database.write(insert, lambda change: self._notify(change if change.created else None))
        return change.task, change.created

    async def replayed(self, submission: Submission) -> Task | None:
        if submission.idempotency_key is None:
            return None
        fingerprint = submission.fingerprint()
        return await self._database.read(lambda connection: _known(connection, submission, fingerprint))

    async def get(self, task_id: str, owner: str | None = None) -> Task:
        return await self._database.read(lambda connection: _get(connection, _by_id, task_id, owner))

    async def get_with_logs(
        self, task_id: str, limit: int, owner: str | None = None
    ) -> tuple[Task, tuple[LogLine, ...]]:
        def read(connection: sa.Connection) -> tuple[Task, tuple[LogLine, ...]]:
            task = _get(connection, _by_id, task_id, owner)
            seq = sa.select(tasks.c.seq).where(tasks.c.id == task_id).scalar_subquery()
            newest = (
                sa.select(task_logs)
                .where(task_logs.c.task_seq == seq, task_logs.c.number > task.log_count - limit)
                .order_by(task_logs.c.number)
            )
            return task, tuple(log_line_of(row) for row in connection.execute(newest))

        return await self._database.read(read)

    async def logs(
        self, task_id: str, after: int = 0, limit: int = 1000, owner: str | None = None
    ) -> tuple[LogLine, ...]:
        def read(connection: sa.Connection) -> tuple[LogLine, ...]:
            seq = connection.execute(_of(sa.select(tasks.c.seq).where(tasks.c.id == task_id), owner)).scalar()
            if seq is None:
                raise _unknown(task_id)
            found = connection.execute(
                sa.select(task_logs)
                .where(task_logs.c.task_seq == seq, task_logs.c.number > after)
                .order_by(task_logs.c.number)
                .limit(limit)
            )
            return tuple(log_line_of(row) for row in found)

        return await self._database.read(read)

    async def find(
        self, which: Filter, *, cursor: str | None = None, limit: int = 50, max_chars: int | None = None
    ) -> Page:
        wanted = _conditions(which)
        if cursor is not None:
            if not cursor.isdecimal() or len(cursor) > 18:
                raise RequestError("invalid cursor: it was not issued by this server")
            wanted.append(tasks.c.seq < int(cursor))
        statement = sa.select(tasks.c.seq).where(*wanted).order_by(tasks.c.seq.desc()).limit(limit + 1)

        def read(connection: sa.Connection) -> Page:
            seqs = connection.execute(statement).scalars().all()
            found: list[Task] = []
            room, seen = max_chars, 0
            for seq in seqs[:limit]:  # One by one, so that rows beyond the size limit are never read.
                row = connection.execute(_by_seq, {"seq": seq}).one()
                if room is not None:
                    room -= chars_of(row)
                    if found and room < 0:
                        break
                found += _readable([row])
                seen += 1
            return Page(tuple(found), str(seqs[seen - 1]) if seen < len(seqs) else None)

        return await self._database.read(read)

    async def cancel(self, task_id: str, owner: str | None = None) -> Task:
        def cancel(connection: sa.Connection) -> tuple[Change, bool]:
            before = _get(connection, _locked_by_id, task_id, owner)
            after = machine.request_cancel(before, self._clock())
            return _save(connection, before, after), after is not before

        change, _ = await self._database.write(cancel, lambda result: self._notify(result[0] if result[1] else None))
        return change.task

    async def delete(self, task_id: str, owner: str | None = None) -> None:
        def delete(connection: sa.Connection) -> Change:
            task = _get(connection, _locked_by_id, task_id, owner)
            if not task.terminal:
                raise Conflict(f"task {task_id} is {task.status.name}; cancel it before it is deleted")
            release_files(connection, [task.seq])
            connection.execute(sa.delete(tasks).where(tasks.c.seq == task.seq))
            return Change(task, deleted=True)

        await self._database.write(delete, self._notify)

    # --- the scheduler

    async def waiting(self, after: int = 0, limit: int = 1000) -> tuple[Candidate, ...]:
        statement = (
            sa.select(*CANDIDATE_COLUMNS).where(_waiting, tasks.c.seq > after).order_by(tasks.c.seq).limit(limit)
        )
        return await self._database.read(
            lambda connection: tuple(candidate_of(row) for row in connection.execute(statement))
        )

    async def claim(self, task_id: str, holder: str, lease_until: float) -> Attempt | None:
        # `skip_locked`: of several servers on one database, those that lose the race go on to their next candidate.
        statement = _by_id.with_for_update(skip_locked=True)

        def claim(connection: sa.Connection) -> Change | None:
            row = connection.execute(statement, {"task_id": task_id}).first()
            before = None if row is None else task_of(row)
            after = None if before is None else machine.claim(before, self._clock())
            if before is None or after is None:
                return None
            return _save(connection, before, after, holder=holder, lease_until=lease_until)

        change = await self._database.write(claim, self._notify)
        return None if change is None else Attempt(change.task, holder, lease_until)

    async def update(self, attempt: Attempt, changes: Changes) -> Attempt:
        def update(connection: sa.Connection) -> Change:
            before = _held_by(connection, attempt)
            return _save(connection, before, machine.advance(before, changes, self._clock()), logs=changes.logs)

        return replace(attempt, task=(await self._database.write(update, self._notify)).task)

    async def finish(self, attempt: Attempt, outcome: Outcome, changes: Changes | None = None) -> Task:
        return await self._end(attempt, changes, lambda task: machine.finish(task, outcome, self._clock()))

    async def give_back(self, attempt: Attempt, reason: str, *, lost: bool, changes: Changes | None = None) -> Task:
        return await self._end(
            attempt, changes, lambda task: machine.give_back(task, reason, lost=lost, now=self._clock())
        )

    async def _end(self, attempt: Attempt, changes: Changes | None, end: Callable[[Task], Task]) -> Task:
        def write(connection: sa.Connection) -> Change:
            before = _held_by(connection, attempt)
            current = before if changes is None else machine.advance(before, changes, self._clock())
            logs = () if changes is None else changes.logs
            return _save(connection, before, end(current), logs=logs, holder=None, lease_until=None)

        return (await self._database.write(write, self._notify)).task

    async def renew(self, holder: str, task_ids: Collection[str], lease_until: float) -> frozenset[str]:
        wanted = sorted(task_ids)

        def renew(connection: sa.Connection) -> frozenset[str]:
            kept: set[str] = set()
            for start in range(0, len(wanted), 500):
                mine = (tasks.c.id.in_(wanted[start : start + 500]), tasks.c.holder == holder, _held)
                statement = sa.update(tasks).where(*mine).values(lease_until=lease_until).returning(tasks.c.id)
                kept.update(connection.execute(statement).scalars())
            return frozenset(kept)

        return await self._database.write(renew)

    async def expire(self, now: float) -> Sequence[Task]:
        late = sa.select(*TASK_COLUMNS).where(_waiting, tasks.c.deadline <= now).limit(_at_a_time).with_for_update()
        return await self._sweep(late, lambda task: machine.expire(task, now))

    async def recover(self, now: float, *, reason: str, sparing: str | None, leases: bool) -> Sequence[Task]:
        foreign: list[sa.ColumnElement[bool]] = (
            [_held] if sparing is None else [_held, tasks.c.holder.is_distinct_from(sparing)]
        )
        if leases:
            foreign.append(tasks.c.lease_until < now)
        lost = sa.select(*TASK_COLUMNS).where(*foreign).limit(_at_a_time).with_for_update()
        return await self._sweep(lost, lambda task: machine.give_back(task, reason, lost=True, now=now), holder=None)

    async def _sweep(self, which: sa.Select[Any], change: Callable[[Task], Task], **columns: Any) -> list[Task]:
        """Change all tasks that match, a transaction per batch, until none is left."""

        def sweep(connection: sa.Connection) -> list[Change]:
            found = _readable(connection.execute(which))
            return [_save(connection, task, change(task), **columns) for task in found]

        swept: list[Task] = []
        while changes := await self._database.write(sweep, self._notify_all):
            swept += [change.task for change in changes]
        return swept

    async def purge(self, finished_before: float, limit: int = 500) -> int:
        old = (
            sa.select(tasks.c.seq)
            .where(tasks.c.finished_at < finished_before, tasks.c.status.in_(sorted(TERMINAL)))
            .order_by(tasks.c.finished_at)
            .limit(limit)
        )
        pending = sa.select(webhooks.c.task_seq).where(webhooks.c.next_at.is_not(None))

        def purge(connection: sa.Connection) -> int:
            chosen = connection.execute(old.where(tasks.c.seq.not_in(pending))).scalars().all()
            if chosen:
                release_files(connection, chosen)
                connection.execute(sa.delete(tasks).where(tasks.c.seq.in_(chosen)))
            return len(chosen)

        return await self._database.write(purge)

    async def retention_time(self, now: float, step: float) -> float:
        known = sa.select(meta.c.value).where(meta.c.key == _RETENTION)
        newest = sa.select(sa.func.max(tasks.c.updated_at)).where(
            tasks.c.seq > sa.select(sa.func.max(tasks.c.seq) - 1000).scalar_subquery()
        )

        def move(connection: sa.Connection) -> float:
            stored = connection.execute(known).scalar()
            before = float(stored) if stored is not None else connection.execute(newest).scalar() or now
            after = min(now, before + step)
            if stored is None:
                connection.execute(sa.insert(meta).values(key=_RETENTION, value=repr(after)))
            else:
                connection.execute(sa.update(meta).where(meta.c.key == _RETENTION).values(value=repr(after)))
            return after

        return await self._database.write(move)

    # --- webhooks

    async def due_webhooks(self, now: float, limit: int = 100) -> tuple[Delivery, ...]:
        statement = (
            sa.select(webhooks.c.task_id, webhooks.c.url, webhooks.c.tries)
            .where(webhooks.c.next_at <= now)
            .order_by(webhooks.c.next_at)
            .limit(limit)
        )
        return await self._database.read(
            lambda connection: tuple(Delivery(*row) for row in connection.execute(statement))
        )

    async def next_webhook(self) -> float | None:
        statement = sa.select(sa.func.min(webhooks.c.next_at))
        return await self._database.read(lambda connection: connection.execute(statement).scalar())

    async def webhook_tried(self, task_id: str, *, at: float, error: str | None, next_at: float | None) -> None:
        statement = (
            sa.update(webhooks)
            .where(webhooks.c.task_id == task_id, webhooks.c.delivered_at.is_(None))
            .values(
                tries=webhooks.c.tries + 1,
                next_at=None if error is None else next_at,
                delivered_at=at if error is None else None,
                error=None if error is None else clean(error),
            )
        )
        await self._database.write(lambda connection: connection.execute(statement) and None)


def _of(statement: sa.Select[Any], owner: str | None) -> sa.Select[Any]:
    """Restricted to one owner's tasks. In the statement, so that another owner's large row is not even read."""
    return statement if owner is None else statement.where(tasks.c.owner == owner)


def _get(connection: sa.Connection, statement: sa.Select[Any], task_id: str, owner: str | None = None) -> Task:
    row = connection.execute(_of(statement, owner), {"task_id": task_id}).first()
    if row is None:
        raise _unknown(task_id)
    return task_of(row)


def _readable(rows: Iterable[Any]) -> list[Task]:
    """The tasks of these rows without those that are damaged, which must not take the others with them."""
    found: list[Task] = []
    for row in rows:
        try:
            found.append(task_of(row))
        except TaskDamaged as error:
            log.error("a task is left out", task=row.id, error=error.message, cause=str(error.__cause__)[:200])
    return found


def _unknown(task_id: str) -> NotFound:
    return NotFound(f"there is no task {task_id[:64]!r}")


def _known(connection: sa.Connection, submission: Submission, fingerprint: str) -> Task | None:
    """The task that this idempotency key was used for before, if any."""
    if submission.idempotency_key is None:
        return None
    row = connection.execute(_by_key, {"by_owner": submission.owner, "by_key": submission.idempotency_key}).first()
    if row is None:
        return None
    if row.fingerprint != fingerprint:
        raise IdempotencyConflict(
            f"the idempotency key was used for task {row.id} with a different body; use a new key for a new task"
        )
    return task_of(row)


_fence = (
    sa.select(tasks.c.status, tasks.c.attempt, tasks.c.revision, tasks.c.holder)
    .where(tasks.c.id == sa.bindparam("task_id"))
    .with_for_update()
)


def _held_by(connection: sa.Connection, attempt: Attempt) -> Task:
    """The task as it is now. Raises StaleAttempt unless the attempt holds it."""
    row = connection.execute(_fence, {"task_id": attempt.id}).first()
    if row is None or row.holder != attempt.holder:
        raise machine.stale(attempt)
    machine.check_held(attempt, Status(row.status), row.attempt)
    if row.revision == attempt.task.revision:
        return attempt.task
    return _get(connection, _by_id, attempt.id)  # a cancel was requested meanwhile


def _save(
    connection: sa.Connection, before: Task, after: Task, *, logs: tuple[LogText, ...] = (), **columns: Any
) -> Change:
    """Write the changed columns and the log lines and, if the task has ended, enqueue its webhook."""
    if after is before:
        return Change(after)
    connection.execute(sa.update(tasks).where(tasks.c.seq == before.seq), changed_row(before, after) | columns)
    lines = tuple(
        LogLine(before.log_count + index, after.attempt, log.at, log.kind, clean(log.text))
        for index, log in enumerate(logs, 1)
    )
    if lines:
        connection.execute(sa.insert(task_logs), [_log_row(before.seq, line) for line in lines])
    if after.terminal and after.webhook is not None:
        due = {
            "task_seq": after.seq,
            "task_id": after.id,
            "url": after.webhook,
            "tries": 0,
            "next_at": after.updated_at,
        }
        connection.execute(sa.insert(webhooks), due)
    return Change(after, lines)


def _log_row(seq: int, line: LogLine) -> dict[str, Any]:
    return {
        "task_seq": seq,
        "number": line.number,
        "attempt": line.attempt,
        "at": line.at,
        "kind": int(line.kind),
        "text": line.text,
    }


def _conditions(which: Filter) -> list[sa.ColumnElement[bool]]:
    equal = ("app", "app_version", "function", "session_id", "owner")
    wanted = [tasks.c[name] == value for name in equal if (value := getattr(which, name)) is not None]
    if which.statuses is not None:
        wanted.append(tasks.c.status.in_([int(status) for status in which.statuses]))
    if which.created_after is not None:
        wanted.append(tasks.c.created_at > which.created_after)
    if which.created_before is not None:
        wanted.append(tasks.c.created_at < which.created_before)
    return wanted
