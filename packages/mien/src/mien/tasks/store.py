"""Where tasks are kept: the interface and its promises.

Implementations pass tests/unit/tasks/test_task_store.py; today's is `mien.tasks.sql.store`."""

from collections.abc import Callable, Collection, Sequence
from typing import Protocol

import msgspec

from mien.tasks.machine import Changes, Outcome
from mien.tasks.records import Attempt, Candidate, LogLine, Submission, Task
from mien.tasks.status import Status


class Change(msgspec.Struct, frozen=True):
    """A committed change: the task as it is now and the log lines that came with it."""

    task: Task
    logs: tuple[LogLine, ...] = ()
    created: bool = False
    deleted: bool = False


Listener = Callable[[Change], None]


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """Which tasks to list; None matches all."""

    statuses: tuple[Status, ...] | None = None
    app: str | None = None
    app_version: str | None = None
    function: str | None = None
    session_id: str | None = None
    owner: str | None = None
    created_after: float | None = None
    created_before: float | None = None


class Page(msgspec.Struct, frozen=True):
    """Tasks, newest first. `cursor` gets the next page; None: this is the last."""

    tasks: tuple[Task, ...]
    cursor: str | None


class Delivery(msgspec.Struct, frozen=True):
    """A webhook that is due."""

    task_id: str
    url: str
    tries: int


class TaskStore(Protocol):
    """Once a method that changes something has returned, the change is on disk.

    Listeners are called for every change once, after its commit, in commit order, on the event loop; also if the caller
    was cancelled meanwhile. Unknown ids raise NotFound, and so do, with an `owner`, those of other owners' tasks: in
    the same words and after the same work, so that nobody learns which ids exist.
    """

    def listen(self, listener: Listener) -> None:
        """Call `listener` for every change from now on."""

    # --- callers

    async def submit(self, submission: Submission, quota: int | None = None) -> tuple[Task, bool]:
        """The queued task and True; or, with an idempotency key that this owner has used before for the same body, the
        earlier task and False. Raises IdempotencyConflict for another body, InvalidField for a file that is gone.

        `quota`: how many tasks the owner may have waiting for a worker, and as many for their `run_at`. Raises
        QuotaExceeded, with `retry_after` if the next task's `run_at` makes room.
        """

    async def replayed(self, submission: Submission) -> Task | None:
        """The existing task that `submit` would return, or None. Raises IdempotencyConflict as `submit` does."""

    async def get(self, task_id: str, owner: str | None = None) -> Task:
        """The newest committed state."""

    async def get_with_logs(
        self, task_id: str, limit: int, owner: str | None = None
    ) -> tuple[Task, tuple[LogLine, ...]]:
        """The newest committed state, with the newest `limit` lines of its log as of the same moment."""

    async def logs(
        self, task_id: str, after: int = 0, limit: int = 1000, owner: str | None = None
    ) -> tuple[LogLine, ...]:
        """Log lines with numbers greater than `after`, in order."""

    async def find(
        self, which: Filter, *, cursor: str | None = None, limit: int = 50, max_chars: int | None = None
    ) -> Page:
        """Tasks, newest first. Paging by cursor skips and repeats nothing while tasks are added and removed.

        A page ends before the task with which its JSON would exceed `max_chars`, but has at least one.
        """

    async def cancel(self, task_id: str, owner: str | None = None) -> Task:
        """CANCELLED at once if queued, flagged if running, unchanged if it has ended."""

    async def delete(self, task_id: str, owner: str | None = None) -> None:
        """Remove an ended task with its logs, and let the files that only it uses expire. Raises Conflict for one that
        has not ended."""

    # --- the scheduler

    async def waiting(self, after: int = 0, limit: int = 1000) -> tuple[Candidate, ...]:
        """Queued tasks with a `seq` greater than `after`, by `seq`."""

    async def claim(self, task_id: str, holder: str, lease_until: float) -> Attempt | None:
        """The task, SCHEDULED, for `holder` alone; None if it is no longer queued, not due yet or past its deadline."""

    async def update(self, attempt: Attempt, changes: Changes) -> Attempt:
        """Write an attempt's reports. Raises StaleAttempt, changing nothing, if it does not hold the task."""

    async def finish(self, attempt: Attempt, outcome: Outcome, changes: Changes | None = None) -> Task:
        """Write the last reports and the terminal status. CANCELLED if a cancel was accepted before. Raises
        StaleAttempt."""

    async def give_back(self, attempt: Attempt, reason: str, *, lost: bool, changes: Changes | None = None) -> Task:
        """End an attempt without a result: queued again as the next attempt, or ended with a reason. Raises
        StaleAttempt."""

    async def renew(self, holder: str, task_ids: Collection[str], lease_until: float) -> frozenset[str]:
        """Extend the leases; returns the ids that `holder` still holds."""

    async def expire(self, now: float) -> Sequence[Task]:
        """FAIL queued tasks whose deadline has passed; returns them."""

    async def recover(self, now: float, *, reason: str, sparing: str | None, leases: bool) -> Sequence[Task]:
        """Give back, as lost, every task that a holder other than `sparing` holds: those whose lease is over or,
        without `leases`, all of them (only right when no other server can be alive)."""

    async def purge(self, finished_before: float, limit: int = 500) -> int:
        """Remove ended tasks that finished before then, as `delete` does, oldest first; returns how many."""

    async def retention_time(self, now: float, step: float) -> float:
        """The time by which old things are removed, after it has moved towards `now` by at most `step` seconds; back
        to `now` at once. It begins at `now`, or with the newest task if there are some."""

    # --- webhooks: queued in the transaction that ended the task

    async def due_webhooks(self, now: float, limit: int = 100) -> tuple[Delivery, ...]:
        """Deliveries that are due, the longest due first."""

    async def next_webhook(self) -> float | None:
        """When the next delivery is due; None: no delivery is pending."""

    async def webhook_tried(self, task_id: str, *, at: float, error: str | None, next_at: float | None) -> None:
        """Record a try. `error` None: delivered. `next_at` None with an error: given up."""
