"""The interface between the scheduler and what runs tasks.

Implementations pass tests/integration/workers/test_executor_contract.py; today's are `mien.tasks.pool_executor` and
`mien.tasks.builtin`.
"""

from typing import Any, Literal, Protocol

from mien.tasks.records import Attempt, Candidate
from mien.workers.fit import Fit
from mien.workers.listener import PoolEvents

StopReason = Literal["cancelled", "deadline", "superseded", "shutdown"]
"""Why a running attempt is to end: a cancel, its deadline, a lost claim, the server's shutdown."""


class AppFailed(Exception):
    """The app failed, and would fail again: the task ends FAILED with this message. Never retried.

    `code` is stored as the task's `error_code`.
    """

    def __init__(self, message: str, code: str = "app_failed") -> None:
        super().__init__(message)
        self.message = message
        self.code = code


class WorkerLost(Exception):
    """The worker was lost without an error reported by the app (signal, out of memory, connection): the task is retried
    while it has retries left, else it ends FAILED with this reason. Only raise it once the worker's process is known
    to be dead."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Reporter(PoolEvents, Protocol):
    """Takes what an attempt reports. Call from the event loop only. Nothing here blocks or raises: reports are
    collected and written together, in order, at most some milliseconds later, and are all written before the
    terminal status. Reports after `execute` has ended are dropped.

    A stage is the task's status of the same name; going back or repeating is ignored, skipping is fine. Log lines are
    of the stage in which they come. Over `MIEN_TASK_LOG_BYTES` a task's further lines are dropped, with a note. Of
    progress and partial outputs the newest wins; others may be skipped.
    """

    def worker(self, name: str) -> None:
        """Which worker has the task, e.g. `"worker-3"`."""


class Executor(Protocol):
    """Runs attempts. All methods are called from the scheduler's event loop.

    The order of calls for one attempt: `fit` is startable → `reserve` (in the same turn of the event loop) → `execute`,
    or `release` if the claim failed. During `execute`, `stop` may be called, more than once.

    Set the scheduler's `awake` event whenever there may be more room than before: a worker became idle or was evicted.
    After an `execute` has ended the scheduler looks at the queue by itself.
    """

    def takes(self, candidate: Candidate) -> bool:
        """Whether this executor runs tasks of this app. The first executor that takes a task runs it; the result is
        always the same for the same app and version."""

    def fit(self, candidate: Candidate) -> Fit:
        """How well the task would be placed now. Counts what is reserved. Called for every group of queued tasks at
        each look at the queue: it must not wait, and reads a version's manifest from disk at most once."""

    def reserve(self, candidate: Candidate) -> None:
        """Reserve the room that `fit` has just reported, under `candidate.id`."""

    def release(self, task_id: str) -> None:
        """Release the reservation: there will be no `execute`."""

    def grace(self, candidate: Candidate) -> float | None:
        """Seconds that the task's app wants for ending by itself when it is stopped; None: it does not say."""

    async def execute(self, attempt: Attempt, report: Reporter) -> Any:
        """Run the attempt to its end and return its output, a JSON value.

        Uses the reservation under `attempt.id`, and releases it before returning. Raises AppFailed,
        WorkerLost, or any MienError (its code and message become the task's); anything else is a bug and fails
        the task as `internal`. A setup that fails is AppFailed, too.

        However this ends, the worker has released the task by then: it is idle again, or its process is dead and
        reaped. The terminal status is written by the scheduler after this returned, never by the executor.

        Asyncio cancellation of this coroutine is the last resort (a `stop` that was not obeyed in time, shutdown):
        SIGKILL the worker's process group, wait for its end, then let CancelledError propagate.
        """

    def stop(self, task_id: str, reason: StopReason, grace: float) -> None:
        """End the attempt: flag and `on_cancel` at once, SIGTERM and SIGKILL when `grace` seconds are over (0: kill
        now). `execute` then ends in any way; its result no longer matters. Half a second after the
        grace it is cancelled.
        Repeated calls may shorten the grace. Unknown ids are ignored."""

    async def reap(self) -> None:
        """Called once, before anything is dispatched: kill the workers that a crashed server has left on this machine,
        and return once they are dead. Otherwise a task could run twice at once."""
