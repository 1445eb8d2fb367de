"""One attempt to run a task, from its claim to the write of how it ended."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from typing import Any

import structlog

from mien.backoff import Backoff
from mien.errors import MienError, NotFound, RequestError, StaleAttempt, TaskDamaged
from mien.metrics import Metrics
from mien.tasks.background import guarded
from mien.tasks.ending import Ending, ending_of, stopped_ending, unstarted_ending
from mien.tasks.executor import Executor, StopReason
from mien.tasks.machine import Changes, Outcome
from mien.tasks.policy import Policy
from mien.tasks.records import Attempt, Candidate, Task, candidate_of
from mien.tasks.reports import AttemptReporter
from mien.tasks.status import WAITING, Status
from mien.tasks.store import TaskStore

log = structlog.get_logger()

AFTER_GRACE = 0.5
"""Seconds that the executor has after the task's grace to release it; then its coroutine is cancelled."""
CLAIM_RETRY_SECONDS = 1.0
WRITE_BACKOFF = Backoff(first=0.1, most=5.0)
DRAIN_WRITE_TRIES = 7
"""Tries to write an ending during shutdown: about 6 seconds; then the next start recovers the task."""


@dataclass(frozen=True, slots=True)
class AttemptContext:
    """What the attempts of one server share."""

    store: TaskStore
    policy: Policy
    holder: str
    """This server's id in claims and leases."""
    clock: Callable[[], float]
    draining: asyncio.Event
    """Set during shutdown: what cannot be written then is left to the next start."""
    metrics: Metrics | None = None


class RunningAttempt:
    """One attempt. The executor has reserved room for it; `run` releases that in every case."""

    def __init__(self, candidate: Candidate, executor: Executor, context: AttemptContext) -> None:
        self.candidate = candidate
        self.next: Candidate | None = None
        """The task as it is queued again. It must not enter the queue before `run` has returned: until then this
        attempt's worker may still run it, and a second one would run it twice at once."""
        self.began = context.clock()
        """When the task was chosen, in seconds since 1970."""
        self.took: float | None = None
        """Seconds from the claim to the end; None until then, or without a claim."""
        self._executor = executor
        self._context = context
        self._grace = self._grace_seconds()
        self._stop_reason: StopReason | None = None
        self._execution: asyncio.Task[Any] | None = None
        self._timers: list[asyncio.TimerHandle] = []

    def _grace_seconds(self) -> float:
        policy, own = self._context.policy, self._executor.grace(self.candidate)
        return policy.grace if own is None else min(own, policy.longest_grace)

    @property
    def executing(self) -> bool:
        """Whether the task is claimed and handed to the executor, so that there is a lease to renew."""
        return self._execution is not None

    def observe(self, task: Task, waiting: Candidate | None) -> None:
        """Note a committed change of the task. `waiting`: the task as it is queued, None: it is not."""
        self.next = waiting
        if task.cancel_requested_at is not None and not task.terminal:
            self.stop("cancelled")

    def stop(self, reason: StopReason, grace: float | None = None) -> None:
        """Ask the executor to end it, within `grace` seconds (None: the task's own). If it has not by then, cancel the
        executor's coroutine.

        The first reason stands, with one exception: an attempt that lost its claim must write nothing at all, so
        `superseded` replaces any other. Later calls without grace still shorten the time that is left.
        """
        grace = self._grace if grace is None else grace
        if self._stop_reason is None or reason == "superseded":
            self._stop_reason = reason
        elif grace > 0:
            return  # it is being stopped already
        if self._execution is None or self._execution.done():
            return  # between claim and start: `_run` looks at the reason before it starts
        self._executor.stop(self.candidate.id, reason, grace)
        loop = asyncio.get_running_loop()
        self._timers.append(loop.call_later(grace + AFTER_GRACE, self._execution.cancel))

    async def run(self) -> None:
        """Claim the task, execute it and write how it ended. Read `next` once this has returned."""
        attempt = await self._claim()
        if attempt is not None:
            await self._run(attempt)

    # --- the claim

    async def _claim(self) -> Attempt | None:
        """The claim, on disk before anything runs: after a crash the next start finds the task SCHEDULED by a holder
        that is gone, and gives it back."""
        context, candidate = self._context, self.candidate
        try:
            lease_until = context.clock() + context.policy.lease
            attempt = await context.store.claim(candidate.id, context.holder, lease_until)
        except (NotFound, TaskDamaged):
            self._executor.release(candidate.id)
            return None
        except MienError as error:
            self._executor.release(candidate.id)
            log.warning("a task could not be claimed; it stays queued", task=candidate.id, error=error.message)
            self.next = candidate  # changes that come in the pause replace it
            with suppress(TimeoutError):
                await asyncio.wait_for(context.draining.wait(), CLAIM_RETRY_SECONDS)
            return None
        if attempt is None:
            self._executor.release(candidate.id)
            await guarded("looking at a task", self._look_again())
        return attempt

    async def _look_again(self) -> None:
        """Re-read a task that could not be claimed: it has ended meanwhile, has missed its deadline, or is early by
        the store's clock."""
        self.next = self.candidate  # if the store fails now, it is tried again
        await self._context.store.expire(self._context.clock())
        try:
            task = await self._context.store.get(self.candidate.id)
        except (NotFound, TaskDamaged):
            self.next = None
        else:
            self.next = candidate_of(task) if task.status in WAITING else None

    # --- the execution

    async def _run(self, attempt: Attempt) -> None:
        context, task, began = self._context, attempt.task, self._context.clock()
        if context.metrics is not None:
            context.metrics.task_wait_seconds.labels(task.app).observe(max(0.0, began - _queued_at(task)))
        reporter = AttemptReporter(
            context.store,
            attempt,
            log_bytes=context.policy.log_bytes,
            output_bytes=context.policy.output_bytes,
            clock=context.clock,
            lost=lambda: self.stop("superseded", 0.0),
        )
        ending = await self._execute(attempt, reporter, began)
        for timer in self._timers:
            timer.cancel()
        changes = await reporter.close()
        if self._stop_reason != "superseded":
            await self._write(reporter.attempt, ending, changes)
        self.took = context.clock() - began

    async def _execute(self, attempt: Attempt, reporter: AttemptReporter, began: float) -> Ending:
        # A cancel that was accepted while the claim was being written came too early for `stop`: it is seen here, in
        # the same turn of the event loop in which the execution begins, so that none falls in between.
        if attempt.task.cancel_requested_at is not None or self._stop_reason is not None:
            self._executor.release(attempt.id)
            return unstarted_ending(self._stop_reason)
        self._set_deadline(attempt.task, began)
        execution = self._execution = asyncio.create_task(self._executor.execute(attempt, reporter))
        await asyncio.wait([execution])
        ending = ending_of(execution, attempt.id, self._context.policy.output_bytes)
        return stopped_ending(ending, self._stop_reason)

    def _set_deadline(self, task: Task, began: float) -> None:
        timeout = self._context.policy.timeout if task.timeout is None else task.timeout
        ends = [end for end in (task.deadline, None if timeout is None else began + timeout) if end is not None]
        if ends:
            delay = max(0.0, min(ends) - began)
            self._timers.append(asyncio.get_running_loop().call_later(delay, self.stop, "deadline"))

    # --- the end

    async def _write(self, attempt: Attempt, ending: Ending, changes: Changes | None) -> None:
        """Retry until it is written: a task must not stay RUNNING because the disk was full for a while."""
        store = self._context.store
        for number in count():
            try:
                if isinstance(ending, Outcome):
                    await store.finish(attempt, ending, changes)
                else:
                    await store.give_back(attempt, ending.reason, lost=ending.lost, changes=changes)
            except StaleAttempt as error:
                log.warning("an attempt ended that did not hold its task any more", task=attempt.id, error=str(error))
                return
            except RequestError as error:  # what it reported can never be stored
                log.error("the end of a task was replaced", task=attempt.id, error=error.message)
                ending = Outcome(status=Status.FAILED, error=error.message, error_code="app_failed")
                changes = None
            except MienError as error:
                log.error("the end of a task is not written yet", task=attempt.id, error=error.message)
                if self._context.draining.is_set() and number + 1 >= DRAIN_WRITE_TRIES:
                    return  # the next start finds the task as it is on disk
                await asyncio.sleep(WRITE_BACKOFF.pause(number))
            else:
                return


def _queued_at(task: Task) -> float:
    """Since when it has waited for this attempt."""
    return max([task.run_at or 0.0, *(event.at for event in task.events if event.status is Status.QUEUED)])
