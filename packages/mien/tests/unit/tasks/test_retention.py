"""Retention follows the clock, but a clock that jumps does not remove everything."""

from typing import Any

import pytest

from mien.tasks.machine import Outcome
from mien.tasks.retention import FASTEST, RetentionClock
from mien.tasks.status import Status

DAY = 86400.0


class Up:
    """Seconds that the server is up."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def up() -> Up:
    return Up()


async def test_it_is_the_clock_s_time_while_that_runs_as_it_should(store: Any, clock: Any, up: Up) -> None:
    retention = RetentionClock(store, clock, up)
    for _ in range(5):
        assert await retention.now() == clock.now
        clock.now += 60
        up.now += 60


async def test_a_jump_of_the_clock_removes_nothing_for_days(store: Any, clock: Any, up: Up) -> None:
    began, retention = clock.now, RetentionClock(store, clock, up)
    await retention.now()
    clock.now += 400 * DAY
    assert await retention.now() == began
    restarted = RetentionClock(store, clock, up)
    up.now += DAY
    assert await restarted.now() == began + FASTEST * DAY
    clock.now = began + DAY
    assert await restarted.now() == clock.now
    up.now += DAY
    clock.now += DAY
    assert await restarted.now() == clock.now


async def test_after_days_off_it_catches_up(store: Any, clock: Any, up: Up) -> None:
    retention = RetentionClock(store, clock, up)
    await retention.now()
    clock.now += 10 * DAY
    for _ in range(10):
        up.now += DAY
        clock.now += DAY
        await retention.now()
    assert await retention.now() == clock.now


async def test_in_a_database_from_before_it_begins_with_the_newest_task(
    store: Any, submission: Any, clock: Any, up: Up
) -> None:
    task, _ = await store.submit(submission())
    attempt = await store.claim(task.id, "s", clock.now + 30)
    await store.finish(attempt, Outcome(status=Status.COMPLETED, output={}))
    ended = clock.now
    clock.now += 400 * DAY
    kept = await RetentionClock(store, clock, up).now()
    assert kept == ended
    assert await store.purge(kept - 7 * DAY) == 0
