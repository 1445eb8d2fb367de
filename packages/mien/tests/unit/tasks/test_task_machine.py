"""Promises 1, 2, 3 and 5 under any order of events: a hypothesis machine over the real store, with crashes."""

import asyncio
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule, run_state_machine_as_test

from mien.encoded import Encoded
from mien.errors import IdempotencyConflict, StaleAttempt
from mien.storage.database import Database
from mien.tasks.machine import Changes, LogText, Outcome
from mien.tasks.records import Attempt, LogKind, Submission, Task
from mien.tasks.sql.store import SqlTaskStore
from mien.tasks.status import HELD, TERMINAL, WAITING, Status
from mien.tasks.store import Change, Filter

LEASE = 30.0
RETRIES = 2


class TaskMachine(RuleBasedStateMachine):
    """A model next to the store: what was acknowledged must be found, whatever happens."""

    tasks = Bundle("tasks")
    attempts = Bundle("attempts")

    def __init__(self) -> None:
        super().__init__()
        self.now = 1_800_000_000.0
        self.loop = asyncio.new_event_loop()
        self.folder = Path(tempfile.mkdtemp(prefix="mien-machine-"))
        self.known: dict[str, Task] = {}
        self.keys: dict[str, tuple[str, Any]] = {}
        self.terminal: dict[str, Task] = {}
        self.holder: dict[str, Attempt] = {}
        self.logged: dict[str, list[str]] = {}
        self.server = 0
        self.failures: list[AssertionError] = []
        self.open()

    def run(self, coroutine: Any) -> Any:
        return self.loop.run_until_complete(coroutine)

    def open(self) -> None:
        self.server += 1
        self.database = self.run(Database.open(self.folder / "tasks.db"))
        self.store = SqlTaskStore(self.database, retries=RETRIES, clock=lambda: self.now)
        self.store.listen(self.heard)

    def heard(self, change: Change) -> None:
        try:
            self.check(change)
        except AssertionError as error:
            self.failures.append(error)

    def check(self, change: Change) -> None:
        task = change.task
        before = self.known.get(task.id)
        if before is not None:
            assert task.revision == before.revision + 1
            assert (task.attempt, task.status) >= (before.attempt, before.status)
            assert before.status not in TERMINAL, "a terminal status was written over"
            assert task.events[: len(before.events)] == before.events
        else:
            assert task.revision == 1
            self.logged[task.id] = []
        self.known[task.id] = task
        self.logged[task.id] += [line.text for line in change.logs]
        if task.status not in HELD:
            self.holder.pop(task.id, None)
        if task.terminal:
            self.terminal[task.id] = task

    @rule(
        target=tasks,
        key=st.none() | st.sampled_from("ab"),
        given=st.integers(0, 1),
        deadline=st.none() | st.integers(1, 100),
        webhook=st.booleans(),
    )
    def submit(self, key: str | None, given: int, deadline: int | None, webhook: bool) -> str:
        submission = Submission(
            app="t/a",
            input=Encoded.of(given),
            idempotency_key=key,
            metadata={},
            deadline=None if deadline is None or key else self.now + deadline,
            webhook="http://x/" if webhook and not key else None,
        )
        try:
            task, created = self.run(self.store.submit(submission))
        except IdempotencyConflict:
            assert key is not None
            assert self.keys[key][1] != given
            return self.keys[key][0]
        if key is not None:
            assert created == (key not in self.keys)
            assert self.keys.setdefault(key, (task.id, given)) == (task.id, given)
        return str(task.id)

    @rule(target=attempts, task_id=tasks)
    def claim(self, task_id: str) -> Attempt | None:
        before = self.known[task_id]
        attempt = self.run(self.store.claim(task_id, f"server-{self.server}", self.now + LEASE))
        late = before.deadline is not None and before.deadline <= self.now
        assert (attempt is not None) == (before.status in WAITING and not late)
        if attempt is not None:
            assert task_id not in self.holder, "started a second time while it is held"
            self.holder[task_id] = attempt
        return attempt

    def holds(self, attempt: Attempt) -> bool:
        held = self.holder.get(attempt.id)
        return held is not None and (held.number, held.holder) == (attempt.number, attempt.holder)

    def fenced(self, attempt: Attempt, write: Any) -> None:
        before, holds = self.known[attempt.id], self.holds(attempt)
        try:
            self.run(write)
            assert holds, "a stale attempt changed something"
        except StaleAttempt:
            assert not holds
            assert self.known[attempt.id] == before

    @rule(
        attempt=attempts,
        status=st.sampled_from(sorted(HELD)),
        progress=st.floats(0, 1),
        text=st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=5),
    )
    def report(self, attempt: Attempt | None, status: Status, progress: float, text: str) -> None:
        if attempt is not None:
            changes = Changes(
                statuses=((status, self.now, None),), progress=progress, logs=(LogText(self.now, LogKind.RUN, text),)
            )
            self.fenced(attempt, self.store.update(attempt, changes))

    @rule(attempt=attempts, status=st.sampled_from([Status.COMPLETED, Status.FAILED]))
    def finish(self, attempt: Attempt | None, status: Status) -> None:
        if attempt is not None:
            cancelled = self.known[attempt.id].cancel_requested_at is not None
            holds = self.holds(attempt)
            self.fenced(attempt, self.store.finish(attempt, Outcome(status=status, output=1)))
            if holds:
                assert self.terminal[attempt.id].status is (Status.CANCELLED if cancelled else status)

    @rule(attempt=attempts, lost=st.booleans())
    def give_back(self, attempt: Attempt | None, lost: bool) -> None:
        if attempt is not None:
            self.fenced(attempt, self.store.give_back(attempt, "reason", lost=lost))

    @rule(task_id=tasks)
    def cancel(self, task_id: str) -> None:
        before = self.known[task_id]
        task = self.run(self.store.cancel(task_id))
        if before.status in WAITING:
            assert task.status is Status.CANCELLED
        else:
            assert task.status is before.status
            assert task.terminal or task.cancel_requested_at is not None

    @rule(attempt=consumes(attempts))
    def renew(self, attempt: Attempt | None) -> None:
        if attempt is not None:
            kept = self.run(self.store.renew(attempt.holder, [attempt.id], self.now + LEASE))
            held = self.holder.get(attempt.id)
            assert (attempt.id in kept) == (held is not None and held.holder == attempt.holder)

    @rule(seconds=st.sampled_from([1, 10, 40]))
    def time_passes(self, seconds: int) -> None:
        self.now += seconds

    @rule()
    def expire(self) -> None:
        self.run(self.store.expire(self.now))
        for task in self.known.values():
            assert task.status not in WAITING or task.deadline is None or task.deadline > self.now

    @rule()
    def leases_end(self) -> None:
        for task in self.run(self.store.recover(self.now, reason="lost", sparing=None, leases=True)):
            assert task.id not in self.holder or task.status not in HELD

    @rule()
    def crash_and_restart(self) -> None:
        """The files as they are at this instant, as after kill -9; the old server's writes come to nothing."""
        copy = Path(tempfile.mkdtemp(prefix="mien-machine-"))
        for path in self.folder.glob("tasks.db*"):
            shutil.copy(path, copy / path.name)
        self.run(self.database.close())
        shutil.rmtree(self.folder)
        self.folder = copy
        self.open()
        self.run(self.store.recover(self.now, reason="killed", sparing=f"server-{self.server}", leases=False))
        assert not self.holder
        assert all(task.status not in HELD for task in self.known.values())
        assert all(task.losses <= RETRIES + 1 for task in self.known.values())

    @invariant()
    def everything_acknowledged_is_on_disk(self) -> None:
        found = self.run(self.store.find(Filter(), limit=1000)).tasks
        assert {task.id: task for task in found} == self.known

    @invariant()
    def changes_are_as_they_should_be(self) -> None:
        assert not self.failures, self.failures[0]

    @invariant()
    def terminal_is_for_ever(self) -> None:
        for task_id, task in self.terminal.items():
            assert self.known[task_id] == task

    def teardown(self) -> None:
        for task_id, texts in self.logged.items():
            assert [line.text for line in self.run(self.store.logs(task_id))] == texts
        hooked = {task_id for task_id, task in self.terminal.items() if task.webhook}
        assert {due.task_id for due in self.run(self.store.due_webhooks(self.now, 1000))} == hooked
        self.run(self.database.close())
        self.loop.close()
        shutil.rmtree(self.folder)


TaskMachine.TestCase.settings = settings(max_examples=12, stateful_step_count=30, deadline=None)
TestTaskMachine = TaskMachine.TestCase


@pytest.mark.soak
@pytest.mark.limit(1200)
def test_task_machine_for_long() -> None:
    run_state_machine_as_test(TaskMachine, settings=settings(max_examples=400, stateful_step_count=60, deadline=None))
