"""The state machine of tasks: pure functions from a task and an event to the task after it."""

import time
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from mien.errors import StaleAttempt
from mien.ids import ulid
from mien.tasks.records import Attempt, Event, LogKind, Submission, Task, clean, setup_key
from mien.tasks.status import HELD, WAITING, Status, check_transition, may_follow


class LogText(msgspec.Struct, frozen=True):
    """A log line that the store has not numbered yet."""

    at: float
    kind: LogKind
    text: str


class Changes(msgspec.Struct, frozen=True, kw_only=True):
    """What an attempt reports while it runs. Fields that are left out stay as they are."""

    statuses: tuple[tuple[Status, float, str | None], ...] = ()
    """Status, time and reason; a status that would not move the task forward is ignored."""
    worker: str | UnsetType = UNSET
    progress: float | UnsetType | None = UNSET
    progress_message: str | UnsetType | None = UNSET
    output: Any = UNSET
    logs: tuple[LogText, ...] = ()


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """How an attempt ended the task."""

    status: Status
    output: Any = UNSET
    error: str | None = None
    error_code: str | None = None


def accept(submission: Submission, *, seq: int, retries: int, now: float) -> Task:
    """The task as it is first stored: received and queued at once."""
    task_id = ulid(now)
    events = (Event(Status.RECEIVED, now, 1), Event(Status.QUEUED, now, 1))
    return Task(
        id=task_id,
        short_id=task_id[-8:],
        seq=seq,
        revision=1,
        created_at=now,
        updated_at=now,
        status=Status.QUEUED,
        app=submission.app,
        app_version=submission.app_version,
        variant=submission.variant,
        function=submission.function,
        infra=submission.infra,
        workers=submission.workers,
        setup=submission.setup,
        setup_key=setup_key(submission.setup),
        input=submission.input,
        output=None,
        error=None,
        error_code=None,
        progress=None,
        progress_message=None,
        worker=None,
        webhook=submission.webhook,
        session_id=submission.session_id,
        session_timeout=submission.session_timeout,
        priority=submission.priority,
        idempotency_key=submission.idempotency_key,
        owner=submission.owner,
        attempt=1,
        losses=0,
        retries=retries if submission.retries is None else submission.retries,
        deadline=submission.deadline,
        timeout=submission.timeout,
        run_at=submission.run_at,
        cancel_requested_at=None,
        finished_at=None,
        log_count=0,
        events=events,
        metadata=submission.metadata,
        dialect=submission.dialect,
    )


def claim(task: Task, now: float) -> Task | None:
    """The task as an attempt holds it; None when it cannot be claimed now."""
    too_late = task.deadline is not None and task.deadline <= now
    too_early = task.run_at is not None and task.run_at > now
    if task.status not in WAITING or too_late or too_early:
        return None
    return _moved(task, Status.SCHEDULED, now)


def check_held(attempt: Attempt, status: Status, number: int) -> None:
    """Fencing: raises StaleAttempt unless `attempt` holds the task that has this status and attempt number."""
    if number != attempt.number or status not in HELD:
        raise stale(attempt)


def stale(attempt: Attempt) -> StaleAttempt:
    return StaleAttempt(f"attempt {attempt.number} does not hold task {attempt.id} any more: nothing was changed")


def advance(task: Task, changes: Changes, now: float) -> Task:
    """The task after an attempt's reports."""
    for status, at, reason in changes.statuses:
        if status in HELD and may_follow(task.status, status):
            task = replace(
                task, status=status, events=(*task.events, Event(status, at, task.attempt, _cleaned(reason)))
            )
    given = {
        name: clean(value) if isinstance(value, str) and name != "output" else value
        for name in ("worker", "progress", "progress_message", "output")
        if (value := getattr(changes, name)) is not UNSET
    }
    return replace(
        task, **given, log_count=task.log_count + len(changes.logs), revision=task.revision + 1, updated_at=now
    )


def finish(task: Task, outcome: Outcome, now: float) -> Task:
    """The ended task. A cancel that was accepted before takes precedence over the attempt's outcome."""
    if task.cancel_requested_at is not None and outcome.status is not Status.CANCELLED:
        outcome = CANCELLED
    ended = _moved(task, outcome.status, now, outcome.error if outcome.status is not Status.COMPLETED else None)
    return replace(
        ended,
        output=task.output if outcome.output is UNSET else outcome.output,
        error=_cleaned(outcome.error),
        error_code=outcome.error_code,
        progress=1.0 if outcome.status is Status.COMPLETED and task.progress is not None else task.progress,
        finished_at=now,
    )


def request_cancel(task: Task, now: float) -> Task:
    """Cancelled if it is not running, else flagged. Unchanged if it has ended or is flagged already."""
    if task.terminal or task.cancel_requested_at is not None:
        return task
    flagged = replace(task, cancel_requested_at=now)
    if task.status in WAITING:
        return finish(flagged, CANCELLED, now)
    return replace(flagged, revision=task.revision + 1, updated_at=now)


def give_back(task: Task, reason: str, *, lost: bool, now: float) -> Task:
    """The task after an attempt without a result: queued again, or ended if it was cancelled, is past its deadline or
    has no retries left.

    `lost`: a worker or server was lost, which uses up one of the retries.
    """
    losses = task.losses + lost
    task = replace(task, losses=losses)
    if task.cancel_requested_at is not None:
        return finish(task, CANCELLED, now)
    if task.deadline is not None and task.deadline <= now:
        return finish(task, deadline_outcome(f"the deadline passed; its attempt {task.attempt}: {reason}"), now)
    if losses > task.retries:
        tries = "" if losses == 1 else f" ({losses} attempts)"
        return finish(
            task, Outcome(status=Status.FAILED, error=f"worker lost: {reason}{tries}", error_code="worker_lost"), now
        )
    event = Event(Status.QUEUED, now, task.attempt + 1, clean(reason))
    return replace(
        task,
        status=Status.QUEUED,
        attempt=task.attempt + 1,
        worker=None,
        output=None,
        progress=None,
        progress_message=None,
        events=(*task.events, event),
        revision=task.revision + 1,
        updated_at=now,
    )


def expire(task: Task, now: float) -> Task:
    """A queued task whose deadline has passed, FAILED; any other one unchanged."""
    if task.status not in WAITING or task.deadline is None or task.deadline > now:
        return task
    return finish(task, deadline_outcome("the deadline passed while the task was queued"), now)


def deadline_outcome(message: str) -> Outcome:
    return Outcome(status=Status.FAILED, error=message, error_code="deadline_exceeded")


CANCELLED = Outcome(status=Status.CANCELLED, error="the task was cancelled", error_code="cancelled")


def _moved(task: Task, status: Status, now: float, reason: str | None = None) -> Task:
    check_transition(task.status, status)
    event = Event(status, now, task.attempt, _cleaned(reason))
    return replace(task, status=status, events=(*task.events, event), revision=task.revision + 1, updated_at=now)


def _cleaned(text: str | None) -> str | None:
    return None if text is None else clean(text)


def wall_clock() -> float:
    """Seconds since 1970."""
    return time.time()
