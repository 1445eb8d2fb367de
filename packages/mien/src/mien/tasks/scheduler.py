"""Decides which task runs next, sees every attempt to its end, and writes how it ended."""

import asyncio
import secrets
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from itertools import count
from types import TracebackType
from typing import Any, Self

import msgspec
import orjson
import structlog

from mien.errors import BodyTooLarge, MienError, NotFound, Overloaded, RequestError, StaleAttempt, Unavailable
from mien.metrics import Metrics
from mien.tasks import machine
from mien.tasks.execution import AppFailed, Executor, StopReason, WorkerLost
from mien.tasks.machine import Outcome
from mien.tasks.queue import Queue
from mien.tasks.records import Attempt, Candidate, Submission, Task, candidate_of, canonical
from mien.tasks.reports import AttemptReporter
from mien.tasks.status import TERMINAL, WAITING, Status
from mien.tasks.store import Change, TaskStore

log = structlog.get_logger()

LOST_SERVER = "the server stopped while the task ran"
_AFTER_GRACE = 0.5
"""Seconds after a task's grace in which its executor must have let go; then it is cancelled."""
_LONGEST_SLEEP = 5.0
_RETRY_PAUSES = (0.1, 0.5, 1.0, 2.0, 5.0)


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """The scheduler's numbers; seconds and bytes."""

    queue: int = 10_000
    """Queued tasks; over it submissions are refused."""
    input_bytes: int = 4 * 1024 * 1024
    output_bytes: int = 16 * 1024 * 1024
    log_bytes: int = 1024 * 1024
    app_concurrency: int | None = None
    """Tasks of one app that run at once, where the app does not say."""
    patience: float = 30.0
    """A task that has waited longer goes before better-fitting ones."""
    lease: float = 30.0
    grace: float = 10.0
    """Time for a running task to end by itself when it is cancelled, where its app does not say."""
    longest_grace: float = 60.0
    """The most that an app may ask for."""
    timeout: float | None = None
    """Longest attempt of tasks that do not say."""
    keep: float | None = 7 * 86400.0
    """Ended tasks are removed after this time; None: never."""


class _Running:
    """One attempt from its claim to its terminal status."""

    def __init__(self, candidate: Candidate, grace: float) -> None:
        self.candidate = candidate
        self.grace = grace
        self.stop_reason: StopReason | None = None
        self.execution: asyncio.Task[Any] | None = None
        self.timers: list[asyncio.TimerHandle] = []
        self.next: Candidate | None = None
        """The task as it is queued again: its next attempt begins when this one has let go of it."""
        self.started_at = 0.0


class Scheduler:
    """One per server. Start it, and everything that was accepted before a crash is found again.

    `app_limit` gives how many tasks of an app (`namespace/name`) may run at once, None: the policy's number.
    """

    def __init__(
        self,
        store: TaskStore,
        executor: Executor,
        policy: Policy | None = None,
        *,
        metrics: Metrics | None = None,
        app_limit: Callable[[str], int | None] = lambda app: None,
        clock: Callable[[], float] = machine.wall_clock,
    ) -> None:
        self.holder = secrets.token_hex(8)
        self._store = store
        self._executor = executor
        self._policy = policy or Policy()
        self._metrics = metrics
        self._app_limit = app_limit
        self._clock = clock
        self._queue = Queue(self._policy.patience)
        self._running: dict[str, _Running] = {}
        self._attempts: set[asyncio.Task[None]] = set()
        self._loops: list[asyncio.Task[None]] = []
        self._awake = asyncio.Event()
        self._submitting = 0
        self._draining = False
        self._mean_seconds = 1.0
        store.listen(self._changed)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.drain(0)

    # --- what callers use

    @property
    def queued(self) -> int:
        return len(self._queue)

    @property
    def running(self) -> int:
        return len(self._running)

    async def submit(self, submission: Submission) -> tuple[Task, bool]:
        """The accepted task, on disk, and whether it is new (False: the idempotency key was used before).

        Raises Overloaded with `retry_after`, BodyTooLarge, IdempotencyConflict, StorageFull, Unavailable while the
        server drains.
        """
        size = len(canonical([submission.input, submission.setup, submission.metadata]))
        if size > self._policy.input_bytes:
            raise BodyTooLarge(
                f"input, setup and metadata have {size} bytes; a task may have {self._policy.input_bytes}. "
                "Upload files and send their URIs"
            )
        if self._draining:
            raise Unavailable("the server is shutting down", retry_after=5)
        if len(self._queue) + self._submitting >= self._policy.queue:
            if (known := await self._store.replayed(submission)) is not None:
                return known, False
            raise Overloaded(
                f"{self._policy.queue} tasks are queued, as many as this server keeps", retry_after=self._retry_after()
            )
        self._submitting += 1
        try:
            return await self._store.submit(submission)
        finally:
            self._submitting -= 1

    async def cancel(self, task_id: str) -> Task:
        """CANCELLED at once if it was queued; if it runs it will be within the grace period + 1 s; otherwise the task
        as it ended. Raises NotFound."""
        return await self._store.cancel(task_id)

    def wake(self) -> None:
        """Look again for tasks that can be placed."""
        self._awake.set()

    # --- life

    async def start(self) -> None:
        """Find what an earlier server left: its workers are ended, its running tasks given back, its queue loaded."""
        await self._executor.reap()
        given_back = await self._store.recover(self._clock(), reason=LOST_SERVER, sparing=self.holder, leases=False)
        if given_back:
            log.warning("tasks of a server that was killed are tried again or failed", tasks=len(given_back))
        after = 0
        while page := await self._store.waiting(after):
            for candidate in page:
                self._queue.add(candidate, self._clock())
            after = page[-1].seq
        self._loops = [asyncio.create_task(self._dispatch()), asyncio.create_task(self._keep_house())]
        self.wake()

    async def drain(self, seconds: float) -> None:
        """Start nothing more; running tasks get `seconds` to end, what is left is handed back to the queue, on disk,
        for the next start."""
        self._draining = True
        for loop in self._loops[:1]:
            await _stopped(loop)
        if self._attempts:
            await asyncio.wait(set(self._attempts), timeout=seconds)
        for running in list(self._running.values()):
            self._stop(running, "shutdown", 0.0)
        while self._attempts:
            await asyncio.wait(set(self._attempts))
        for loop in self._loops[1:]:
            await _stopped(loop)
        self._loops = []

    # --- the queue

    def _changed(self, change: Change) -> None:
        task = change.task
        waiting = candidate_of(task) if task.status in WAITING and not change.deleted else None
        running = self._running.get(task.id)
        if running is not None:
            running.next = waiting
        elif waiting is not None:
            self._enqueue(waiting)
        else:
            self._queue.discard(task.id)
        if running is not None and task.cancel_requested_at is not None and not task.terminal:
            self._stop(running, "cancelled", running.grace)
        if task.status in TERMINAL and not change.deleted and self._metrics is not None:
            self._metrics.tasks.labels(task.status.name.lower()).inc()
        self._gauge()

    def _enqueue(self, candidate: Candidate) -> None:
        self._queue.add(candidate, self._clock())
        self.wake()

    def _gauge(self) -> None:
        if self._metrics is not None:
            self._metrics.tasks_queued.set(len(self._queue))
            self._metrics.tasks_running.set(len(self._running))

    def _retry_after(self) -> float:
        """Seconds until about a tenth of the queue is worked off."""
        return min(300.0, max(1.0, 0.1 * len(self._queue) * self._mean_seconds / max(1, len(self._running))))

    async def _dispatch(self) -> None:
        while True:
            self._awake.clear()
            await self._survive("choosing tasks", self._place(self._clock()))
            next_time = self._queue.next_time()
            sleep = _LONGEST_SLEEP if next_time is None else min(_LONGEST_SLEEP, max(0.01, next_time - self._clock()))
            with suppress(TimeoutError):
                async with asyncio.timeout(sleep):
                    await self._awake.wait()

    async def _place(self, now: float) -> None:
        """Begin every task that has a place now."""
        if self._queue.deadline_passed(now):
            await self._store.expire(now)
        while (candidate := self._queue.choose(now, self._executor.fit, self._full_apps())) is not None:
            self._executor.reserve(candidate)
            self._begin(candidate)

    def _full_apps(self) -> frozenset[str]:
        counts = Counter(running.candidate.app for running in self._running.values())
        return frozenset(app for app, count in counts.items() if count >= self._limit_of(app))

    def _limit_of(self, app: str) -> float:
        limit = self._app_limit(app)
        limit = self._policy.app_concurrency if limit is None else limit
        return float("inf") if limit is None else limit

    def _begin(self, candidate: Candidate) -> None:
        running = self._running[candidate.id] = _Running(candidate, self._grace_of(candidate))
        attempt = asyncio.create_task(self._attempt(running))
        self._attempts.add(attempt)
        attempt.add_done_callback(self._attempts.discard)

    def _grace_of(self, candidate: Candidate) -> float:
        own = self._executor.grace(candidate)
        return self._policy.grace if own is None else min(own, self._policy.longest_grace)

    # --- one attempt

    async def _attempt(self, running: _Running) -> None:
        task_id = running.candidate.id
        try:
            attempt = await self._claim(running)
            if attempt is not None:
                await self._run(running, attempt)
        finally:
            del self._running[task_id]
            if running.next is not None:
                self._enqueue(running.next)
            self._gauge()
            self.wake()

    async def _claim(self, running: _Running) -> Attempt | None:
        candidate = running.candidate
        try:
            attempt = await self._store.claim(candidate.id, self.holder, self._clock() + self._policy.lease)
        except MienError as error:
            self._executor.release(candidate.id)
            if not isinstance(error, NotFound):
                log.warning("a task could not be claimed; it stays queued", task=candidate.id, error=error.message)
                asyncio.get_running_loop().call_later(1.0, self._enqueue, candidate)
            return None
        if attempt is None:
            self._executor.release(candidate.id)
            await self._survive("looking at a task", self._look_again(running))
        return attempt

    async def _look_again(self, running: _Running) -> None:
        """At a task that could not be claimed: it ended meanwhile, or is too late, or too early by this clock."""
        running.next = running.candidate  # if the store fails now, it is tried again
        await self._store.expire(self._clock())
        try:
            task = await self._store.get(running.candidate.id)
        except NotFound:
            running.next = None
        else:
            running.next = candidate_of(task) if task.status in WAITING else None

    async def _run(self, running: _Running, attempt: Attempt) -> None:
        task, now = attempt.task, self._clock()
        running.started_at = now
        if self._metrics is not None:
            self._metrics.task_wait_seconds.labels(task.app).observe(max(0.0, now - _queued_at(task)))
        reporter = AttemptReporter(
            self._store,
            attempt,
            log_bytes=self._policy.log_bytes,
            output_bytes=self._policy.output_bytes,
            clock=self._clock,
            lost=lambda: self._stop(running, "superseded", 0.0),
        )
        if task.cancel_requested_at is not None or running.stop_reason is not None:
            self._executor.release(task.id)
            ending: Ending = machine.CANCELLED if running.stop_reason != "shutdown" else "it had not started"
        else:
            self._set_deadline(running, task, now)
            running.execution = asyncio.create_task(self._executor.execute(attempt, reporter))
            ending = await self._ending(running, task)
        for timer in running.timers:
            timer.cancel()
        changes = await reporter.close()
        if running.stop_reason != "superseded":
            await self._write_ending(running, reporter.attempt, ending, changes)
        self._mean_seconds += 0.1 * (self._clock() - now - self._mean_seconds)

    def _set_deadline(self, running: _Running, task: Task, now: float) -> None:
        timeout = self._policy.timeout if task.timeout is None else task.timeout
        ends = [end for end in (task.deadline, None if timeout is None else now + timeout) if end is not None]
        if ends:
            delay = max(0.0, min(ends) - now)
            loop = asyncio.get_running_loop()
            running.timers.append(loop.call_later(delay, self._stop, running, "deadline", running.grace))

    def _stop(self, running: _Running, reason: StopReason, grace: float) -> None:
        """Ask the executor to end it; if it does not within the grace period, end the executor's coroutine."""
        if running.stop_reason is None or reason == "superseded":
            running.stop_reason = reason
        elif grace > 0:
            return  # it is being stopped already
        if running.execution is None or running.execution.done():
            return
        self._executor.stop(running.candidate.id, reason, grace)
        loop = asyncio.get_running_loop()
        running.timers.append(loop.call_later(grace + _AFTER_GRACE, running.execution.cancel))

    async def _ending(self, running: _Running, task: Task) -> "Ending":
        """How the execution ended: an outcome, or the reason for giving the task back."""
        assert running.execution is not None  # noqa: S101 - just started
        await asyncio.wait([running.execution])
        try:
            outcome: Ending = self._completed(running.execution.result())
        except asyncio.CancelledError:
            outcome = _Lost("its worker was killed")
        except AppFailed as error:
            outcome = Outcome(status=Status.FAILED, error=error.message, error_code=error.code)
        except WorkerLost as error:
            outcome = _Lost(error.reason)
        except MienError as error:
            outcome = Outcome(status=Status.FAILED, error=error.message, error_code=error.code)
        except Exception as error:
            log.error("an executor failed", task=task.id, exc_info=error)
            outcome = Outcome(
                status=Status.FAILED,
                error_code="internal",
                error="a bug or a broken machine; the server's log has the details under the task's id",
            )
        if running.stop_reason == "cancelled":
            return machine.CANCELLED
        if running.stop_reason == "deadline":
            return machine.deadline_outcome("the task's time was up while it ran")
        if running.stop_reason == "shutdown" and not (
            isinstance(outcome, Outcome) and outcome.status is Status.COMPLETED
        ):
            return "the server was stopped"
        return outcome

    def _completed(self, output: Any) -> Outcome:
        try:
            size = len(orjson.dumps(output))
        except TypeError as error:
            return Outcome(status=Status.FAILED, error=f"the output is not JSON: {error}", error_code="app_failed")
        if size > self._policy.output_bytes:
            sizes = f"the output has {size} bytes; this server keeps {self._policy.output_bytes}"
            return Outcome(
                status=Status.FAILED, error=f"{sizes}. Return large data as files", error_code="output_too_large"
            )
        return Outcome(status=Status.COMPLETED, output=output)

    async def _write_ending(
        self, running: _Running, attempt: Attempt, ending: "Ending", changes: machine.Changes | None
    ) -> None:
        """Until it is written: a task must not be stuck because the disk was full for a while."""
        for number in count():
            try:
                if isinstance(ending, Outcome):
                    await self._store.finish(attempt, ending, changes)
                else:
                    lost = isinstance(ending, _Lost)
                    await self._store.give_back(attempt, str(ending), lost=lost, changes=changes)
            except StaleAttempt as error:
                log.warning("an attempt ended that did not hold its task any more", task=attempt.id, error=str(error))
                return
            except RequestError as error:  # what it reported cannot be stored, which must not leave it stuck
                log.error("the end of a task was replaced", task=attempt.id, error=error.message)
                ending = Outcome(status=Status.FAILED, error=error.message, error_code="app_failed")
                changes = None
            except MienError as error:
                log.error("the end of a task is not written yet", task=attempt.id, error=error.message)
                if self._draining and number > len(_RETRY_PAUSES):
                    return  # the next start finds the task as it is on disk
                await asyncio.sleep(_RETRY_PAUSES[min(number, len(_RETRY_PAUSES) - 1)])
            else:
                return

    # --- housekeeping

    async def _keep_house(self) -> None:
        """Renew leases often, remove old tasks now and then."""
        last_purge = 0.0
        while True:
            await asyncio.sleep(self._policy.lease / 3)
            await self._survive("renewing leases", self._renew())
            if self._policy.keep is not None and self._clock() - last_purge > 60:
                last_purge = self._clock()
                await self._survive("removing old tasks", self._purge(last_purge - self._policy.keep))

    async def _renew(self) -> None:
        claimed = {task_id: running for task_id, running in self._running.items() if running.execution is not None}
        if not claimed:
            return
        kept = await self._store.renew(self.holder, claimed.keys(), self._clock() + self._policy.lease)
        for task_id in claimed.keys() - kept:
            self._stop(claimed[task_id], "superseded", 0.0)  # this very attempt: a next one may have begun meanwhile

    async def _purge(self, before: float) -> None:
        while await self._store.purge(before):
            pass  # each lot is a transaction of its own: others get in between

    async def _survive(self, what: str, work: Awaitable[object]) -> None:
        """Run it; neither a disk that is full for a while nor a bug must end a loop that all tasks depend on."""
        try:
            await work
        except MienError as error:
            log.error("the task store failed and is tried again", while_=what, error=error.message)
            await asyncio.sleep(0.2)
        except Exception as error:
            log.error("the scheduler failed and goes on", while_=what, exc_info=error)
            await asyncio.sleep(1.0)


def _queued_at(task: Task) -> float:
    """From when on it waited for this attempt."""
    return max([task.run_at or 0.0, *(event.at for event in task.events if event.status is Status.QUEUED)])


class _Lost(str):
    """A reason for giving back that uses up a retry."""

    __slots__ = ()


Ending = Outcome | str


async def _stopped(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
