"""Accepts tasks, chooses the next one to run, and starts its attempt."""

import asyncio
import secrets
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from math import inf
from types import TracebackType
from typing import Self

import structlog

from mien.errors import BodyTooLarge, Overloaded, QuotaExceeded, Unavailable
from mien.metrics import Metrics
from mien.quotas import Limits
from mien.tasks import machine
from mien.tasks.attempt import AttemptContext, RunningAttempt
from mien.tasks.background import guarded, stopped
from mien.tasks.executor import Executor
from mien.tasks.leases import keep_leases
from mien.tasks.policy import Policy
from mien.tasks.queue import Queue
from mien.tasks.records import Candidate, Submission, Task, candidate_of, canonical
from mien.tasks.retention import RetentionClock, remove_old_tasks
from mien.tasks.status import TERMINAL, WAITING
from mien.tasks.store import Change, TaskStore
from mien.workers.fit import Fit

log = structlog.get_logger()

SERVER_LOST = "the server stopped while the task ran"
LONGEST_RETRY_SECONDS = 300.0
A_DAY = 86400.0
LONGEST_SLEEP = 5.0
"""Seconds between two looks at the queue when nothing wakes the dispatcher: the most that a missed wake-up can cost."""


class Scheduler:
    """One per server. On start, everything that was accepted before a crash is found again.

    `executors`: the first that takes a task runs it. `awake` is to be set whenever there may be more room than before;
    the worker pool, which frees room, is given the same event.
    """

    def __init__(
        self,
        store: TaskStore,
        executors: Sequence[Executor],
        policy: Policy | None = None,
        *,
        metrics: Metrics | None = None,
        awake: asyncio.Event | None = None,
        clock: Callable[[], float] = machine.wall_clock,
        limits: Callable[[str], Limits] = lambda owner: Limits(),
    ) -> None:
        """`limits`: the quotas of an owner."""
        self.holder = secrets.token_hex(8)
        self.retention = RetentionClock(store, clock)
        self._store = store
        self._executors = executors
        self._policy = policy or Policy()
        self._metrics = metrics
        self._clock = clock
        self._limits = limits
        self._draining = asyncio.Event()
        self._context = AttemptContext(store, self._policy, self.holder, clock, self._draining, metrics)
        self._queue = Queue(self._policy.task_aging_seconds)
        self._running: dict[str, RunningAttempt] = {}
        self._attempts: set[asyncio.Task[None]] = set()
        self._dispatcher: asyncio.Task[None] | None = None
        self._housekeeping: list[asyncio.Task[None]] = []
        self._awake = awake or asyncio.Event()
        self._submitting = Counter[bool]()
        self._mean_seconds = 1.0
        store.listen(self._changed)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.drain(0)

    # --- callers

    @property
    def queued(self) -> int:
        """Number of queued tasks."""
        return len(self._queue)

    @property
    def scheduled(self) -> int:
        """Number of tasks that wait for their `run_at`."""
        return self._queue.scheduled

    @property
    def running(self) -> int:
        """Number of tasks with an attempt under way."""
        return len(self._running)

    async def submit(self, submission: Submission) -> tuple[Task, bool]:
        """The accepted task, on disk, and whether it is new (False: the idempotency key was used before).

        Raises Overloaded with `retry_after`, BodyTooLarge, IdempotencyConflict, StorageFull, Unavailable while the
        server drains.
        """
        self._check_size(submission)
        if self._draining.is_set():
            raise Unavailable("the server is shutting down", retry_after=5)
        later = self._is_later(submission)
        full = self._full(later=later)
        if full is not None:
            if (known := await self._store.replayed(submission)) is not None:
                return known, False
            raise full
        # Submissions that are still being written count, too: otherwise a burst would see the same short queue.
        self._submitting[later] += 1
        try:
            return await self._store.submit(submission, self._limits(submission.owner).queued)
        except QuotaExceeded as error:
            if not later:
                error.retry_after = self._retry_after()
            raise
        finally:
            self._submitting[later] -= 1

    def _is_later(self, submission: Submission) -> bool:
        return submission.run_at is not None and submission.run_at > self._clock()

    def _full(self, *, later: bool) -> Overloaded | None:
        """Why the task cannot be accepted now. Those that wait for a date (`later`) have a limit of their own: they may
        wait for years, and must not keep others out."""
        self._queue.admit_due(self._clock())
        if later:
            if self._queue.scheduled + self._submitting[True] < self._policy.scheduled:
                return None
            message = f"{self._policy.scheduled} tasks wait for their run_at, as many as this server keeps"
            return Overloaded(message, retry_after=self._until_next_run_at())
        if len(self._queue) + self._submitting[False] < self._policy.queue:
            return None
        message = f"{self._policy.queue} tasks are queued, as many as this server keeps"
        return Overloaded(message, retry_after=self._retry_after())

    def _until_next_run_at(self) -> float | None:
        """Seconds until the first scheduled task makes room; None: not soon."""
        at = self._queue.next_run_at()
        left = 0.0 if at is None else at - self._clock()
        return max(1.0, left) if left <= A_DAY else None

    def _check_size(self, submission: Submission) -> None:
        rest = canonical([submission.setup, submission.metadata])
        size = submission.input.size + len(",") + len(rest)  # as if the three were one array
        if size > self._policy.input_bytes:
            raise BodyTooLarge(
                f"input, setup and metadata have {size} bytes; a task may have {self._policy.input_bytes}. "
                "Upload files and send their URIs"
            )

    def _retry_after(self) -> float:
        """Seconds until about a tenth of the queue will have been processed. What runs longer than usual counts with
        the time it has taken."""
        now, running = self._clock(), self._running.values()
        seconds = [max(self._mean_seconds, now - attempt.began) for attempt in running] or [self._mean_seconds]
        rate = sum(1 / max(0.001, each) for each in seconds)
        return min(LONGEST_RETRY_SECONDS, max(1.0, 0.1 * len(self._queue) / rate))

    async def cancel(self, task_id: str, owner: str | None = None) -> Task:
        """Cancel the task: at once if it is queued, within its grace period + 1 s if it runs. Returns it as it is now;
        one that has ended is unchanged. Raises NotFound, also for tasks of others than `owner` if it is given."""
        return await self._store.cancel(task_id, owner)

    def wake(self) -> None:
        """Look at the queue again."""
        self._awake.set()

    # --- life

    async def start(self) -> None:
        """Recover the tasks of an earlier server, then begin to dispatch.

        The order matters: its workers are killed, then its running tasks are given back, then the queue is loaded.
        Given back while its worker still lived, a task could run twice at once.
        """
        for executor in self._executors:
            await executor.reap()
        given_back = await self._store.recover(self._clock(), reason=SERVER_LOST, sparing=self.holder, leases=False)
        if given_back:
            log.warning("tasks of a server that was killed are tried again or failed", tasks=len(given_back))
        after = 0
        while page := await self._store.waiting(after):
            for candidate in page:
                self._queue.add(candidate, self._clock())
            after = page[-1].seq
        self._dispatcher = asyncio.create_task(self._dispatch())
        self._housekeeping = [asyncio.create_task(keep_leases(self._context, self._running))]
        if self._policy.keep is not None:
            self._housekeeping.append(
                asyncio.create_task(remove_old_tasks(self._store, self.retention, self._policy.keep))
            )
        self.wake()

    async def drain(self, seconds: float) -> None:
        """Start nothing more and give running tasks `seconds` to end; those that are left are given back to the queue,
        on disk, for the next start. Leases are renewed until then, as attempts run until then."""
        self._draining.set()
        if self._dispatcher is not None:
            await stopped(self._dispatcher)
        if self._attempts:
            await asyncio.wait(set(self._attempts), timeout=seconds)
        for attempt in list(self._running.values()):
            attempt.stop("shutdown", 0.0)
        while self._attempts:
            await asyncio.wait(set(self._attempts))
        for loop in self._housekeeping:
            await stopped(loop)
        self._dispatcher, self._housekeeping = None, []

    # --- the queue follows the store

    def _changed(self, change: Change) -> None:
        """A committed change. A task that has an attempt enters the queue through it, when it has ended."""
        task = change.task
        waiting = candidate_of(task) if task.status in WAITING and not change.deleted else None
        attempt = self._running.get(task.id)
        if attempt is not None:
            attempt.observe(task, waiting)
        elif waiting is not None:
            self._enqueue(waiting)
        else:
            self._queue.discard(task.id)
        if task.status in TERMINAL and not change.deleted and self._metrics is not None:
            self._metrics.tasks.labels(task.status.name.lower()).inc()
        self._gauge()

    def _enqueue(self, candidate: Candidate) -> None:
        self._queue.add(candidate, self._clock())
        self.wake()

    def _gauge(self) -> None:
        if self._metrics is not None:
            self._metrics.tasks_queued.set(len(self._queue))
            self._metrics.tasks_scheduled.set(self._queue.scheduled)
            self._metrics.tasks_running.set(len(self._running))

    # --- dispatch

    async def _dispatch(self) -> None:
        while True:
            self._awake.clear()  # before the look, not after it: room that is freed meanwhile must wake the next one
            await guarded("choosing tasks", self._place(self._clock()))
            next_time = self._queue.next_time()
            sleep = LONGEST_SLEEP if next_time is None else min(LONGEST_SLEEP, max(0.01, next_time - self._clock()))
            with suppress(TimeoutError):
                async with asyncio.timeout(sleep):
                    await self._awake.wait()

    async def _place(self, now: float) -> None:
        """Start every task that can be placed now."""
        if self._queue.deadline_passed(now):
            await self._store.expire(now)
            self._queue.discard_late(now)  # what is left could not be read
        while (candidate := self._queue.choose(now, self._fit, self._full_apps(), self._full_owners())) is not None:
            self._begin(candidate)
        self._gauge()

    def _fit(self, candidate: Candidate) -> Fit:
        return self._executor_of(candidate).fit(candidate)

    def _executor_of(self, candidate: Candidate) -> Executor:
        return next(executor for executor in self._executors if executor.takes(candidate))

    def _full_apps(self) -> frozenset[str]:
        limit = self._policy.app_concurrency
        if limit is None:
            return frozenset()
        counts = Counter(attempt.candidate.app for attempt in self._running.values())
        return frozenset(app for app, running in counts.items() if running >= limit)

    def _full_owners(self) -> frozenset[str]:
        counts = Counter(attempt.candidate.owner for attempt in self._running.values())
        return frozenset(owner for owner, running in counts.items() if running >= (self._limits(owner).running or inf))

    def _begin(self, candidate: Candidate) -> None:
        """Reserve and register in one turn of the event loop, so that the next `fit` counts the reservation."""
        executor = self._executor_of(candidate)
        executor.reserve(candidate)
        attempt = self._running[candidate.id] = RunningAttempt(candidate, executor, self._context)
        running = asyncio.create_task(self._attempt(attempt))
        self._attempts.add(running)
        running.add_done_callback(self._attempts.discard)

    async def _attempt(self, attempt: RunningAttempt) -> None:
        try:
            await attempt.run()
        finally:
            del self._running[attempt.candidate.id]
            if attempt.took is not None:
                self._mean_seconds += 0.1 * (attempt.took - self._mean_seconds)
            if attempt.next is not None:
                self._enqueue(attempt.next)
            self._gauge()
            self.wake()
