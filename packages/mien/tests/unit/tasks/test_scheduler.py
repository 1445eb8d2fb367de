"""The scheduler with a real store and an executor without processes."""

import asyncio
import time
from typing import Any

import pytest

from mien.errors import BodyTooLarge, IdempotencyConflict, Overloaded, QuotaExceeded, Unavailable
from mien.quotas import Limits
from mien.tasks.records import Submission
from mien.tasks.status import Status


def names(task: Any) -> list[str]:
    return [event.status.name for event in task.events]


async def test_a_task_runs_to_completed_with_its_events_in_order(bench: Any) -> None:
    b = await bench()
    first = await b.submit({"x": 1})
    assert first.status is Status.QUEUED
    task = await b.ended(first)
    assert (task.status, task.output, task.worker) == (Status.COMPLETED, {"x": 1}, "in-process")
    assert names(task) == ["RECEIVED", "QUEUED", "SCHEDULED", "SETTING_UP", "RUNNING", "COMPLETED"]
    assert task == await b.store.get(task.id)
    again = await b.ended(await b.submit({"x": 1}))
    assert "SETTING_UP" not in names(again)


async def test_failures_are_told_apart(bench: Any) -> None:
    b = await bench(output_bytes=100)
    for given, code in [
        ({"do": "fail"}, "app_failed"), ({"do": "crash"}, "internal"), ({"do": "nonsense"}, "app_failed"),
        ({"do": "echo", "x": "x" * 200}, "output_too_large"), ({"do": "lose"}, "worker_lost"),
    ]:  # fmt: skip
        task = await b.ended(await b.submit(given))
        assert (task.status, task.error_code) == (Status.FAILED, code)
        assert task.error


@pytest.mark.parametrize(("times", "status", "attempt"), [(2, Status.COMPLETED, 3), (3, Status.FAILED, 3)])
async def test_only_lost_workers_are_retried_and_not_for_ever(
    bench: Any, times: int, status: Status, attempt: int
) -> None:
    b = await bench(retries=2)
    task = await b.ended(await b.submit({"do": "lose", "times": times}))
    assert (task.status, task.attempt, task.losses) == (status, attempt, times)
    failed = await b.ended(await b.submit({"do": "fail"}))
    assert failed.attempt == 1


async def test_a_next_attempt_is_known_as_running_and_can_be_cancelled(bench: Any) -> None:
    b = await bench(slots=8, grace=5)
    task = await b.submit({"do": "lose", "times": 2, "seconds": 30})
    await b.until(task, lambda task: task.attempt == 3 and task.status is Status.RUNNING)
    assert b.scheduler.running == 1
    began = time.monotonic()
    await b.scheduler.cancel(task.id)
    assert (await b.ended(task)).status is Status.CANCELLED
    assert time.monotonic() - began < 5
    assert b.executor.twice == []


async def test_a_task_that_is_taken_away_waits_until_its_attempt_has_released_it(bench: Any) -> None:
    b = await bench(lease=0.6, slots=4)
    task = await b.submit({"do": "sleep", "seconds": 2})
    await b.until(task, lambda task: task.status is Status.RUNNING)
    await b.store.recover(time.time(), reason="taken away", sparing=None, leases=False)
    ended = await b.ended(task)
    assert (ended.status, ended.attempt) == (Status.COMPLETED, 2)
    assert b.executor.twice == []


async def test_a_queued_task_is_cancelled_at_once(bench: Any) -> None:
    b = await bench(slots=1)
    blocker = await b.submit({"do": "sleep", "seconds": 30})
    queued = await b.submit()
    task = await b.scheduler.cancel(queued.id)
    assert task.status is Status.CANCELLED
    assert b.scheduler.queued == 0
    await b.scheduler.cancel(blocker.id)
    assert (await b.ended(blocker)).status is Status.CANCELLED
    assert [task_id for task_id, _ in b.executor.started] == [blocker.id]


@pytest.mark.parametrize("kind", ["sleep", "stubborn"])
async def test_a_running_task_is_cancelled_within_grace_and_frees_its_slot(bench: Any, kind: str) -> None:
    b = await bench(slots=1, grace=0.2)
    blocker = await b.submit({"do": kind, "seconds": 30})
    await b.until(blocker, lambda task: task.status is Status.RUNNING)
    other = await b.submit()
    began = time.monotonic()
    await b.scheduler.cancel(blocker.id)
    task = await b.ended(blocker)
    assert (task.status, task.output, task.error_code) == (Status.CANCELLED, None, "cancelled")
    assert time.monotonic() - began < 0.2 + 1 + 2  # the grace, what is promised, and what a busy machine may add
    assert (await b.ended(other)).status is Status.COMPLETED
    assert await b.scheduler.cancel(blocker.id) == task


async def test_deadlines_fire_while_queued_and_while_running(bench: Any) -> None:
    b = await bench(slots=1, grace=0.1)
    now = time.time()
    runs = await b.submit({"do": "stubborn"}, deadline=now + 0.3)
    waits = await b.submit(deadline=now + 0.2)
    timed = await b.submit({"do": "sleep", "seconds": 30}, timeout=0.2)
    for task in (waits, runs, timed):
        ended = await b.ended(task)
        assert (ended.status, ended.error_code) == (Status.FAILED, "deadline_exceeded")
    assert waits.id not in {task_id for task_id, _ in b.executor.started}


async def test_a_task_is_not_started_before_its_time(bench: Any) -> None:
    b = await bench()
    at = time.time() + 0.3
    task = await b.ended(await b.submit(run_at=at))
    assert task.status is Status.COMPLETED
    assert next(event.at for event in task.events if event.status is Status.SCHEDULED) >= at


async def test_a_full_queue_refuses_with_a_time_but_knows_earlier_keys(bench: Any) -> None:
    b = await bench(slots=0, queue=2)
    first = await b.submit(idempotency_key="a")
    results = await asyncio.gather(*[b.submit() for _ in range(10)], return_exceptions=True)
    refused = [result for result in results if isinstance(result, Overloaded)]
    assert len(refused) == 9
    assert all(error.retry_after >= 1 for error in refused)
    assert (await b.submit(idempotency_key="a")).id == first.id
    with pytest.raises(IdempotencyConflict):
        await b.submit({"other": 1}, idempotency_key="a")


async def test_inputs_have_a_limit(bench: Any) -> None:
    b = await bench(input_bytes=100)
    with pytest.raises(BodyTooLarge):
        await b.submit("x" * 100)


async def test_no_app_runs_more_tasks_at_once_than_its_limit(bench: Any) -> None:
    b = await bench(slots=8, app_concurrency=2)
    submitted = {
        app: await asyncio.gather(*[b.submit({"do": "sleep", "seconds": 0.3}, app=app) for _ in range(count)])
        for app, count in (("test/many", 6), ("test/few", 3))
    }
    for tasks in submitted.values():
        ended = [await b.ended(task) for task in tasks]
        spans = [
            (next(event.at for event in task.events if event.status is Status.SCHEDULED), task.finished_at)
            for task in ended
        ]
        assert max(sum(start <= at < end for start, end in spans) for at, _ in spans) == 2
    assert b.executor.most_at_once == 4


async def test_logs_and_progress_arrive_and_are_bounded(bench: Any) -> None:
    b = await bench(log_bytes=200)
    task = await b.ended(await b.submit({"do": "chatter", "lines": 100}))
    lines = await b.store.logs(task.id)
    assert [line.number for line in lines] == list(range(1, len(lines) + 1))
    assert lines[0].text == "line 0"
    assert "log is full" in lines[-1].text
    assert sum(len(line.text) for line in lines[:-1]) <= 200
    assert task.log_count == len(lines)
    assert (task.progress, task.progress_message) == (1.0, "at 90")


async def test_drain_hands_back_what_does_not_end(bench: Any) -> None:
    b = await bench(slots=3)
    quick = await b.submit({"do": "wait"})
    slow = await b.submit({"do": "sleep", "seconds": 30})
    stubborn = await b.submit({"do": "stubborn"})
    queued = await b.submit()
    await b.until(stubborn, lambda task: task.status is Status.RUNNING)
    draining = asyncio.create_task(b.scheduler.drain(1))
    await asyncio.sleep(0)
    b.executor.go.set()  # not before: the queued one would get its slot
    await draining
    assert (await b.store.get(quick.id)).status is Status.COMPLETED
    for task in (slow, stubborn):
        back = await b.store.get(task.id)
        assert (back.status, back.attempt, back.losses) == (Status.QUEUED, 2, 0)
    assert (await b.store.get(queued.id)).status is Status.QUEUED
    with pytest.raises(Unavailable):
        await b.submit()


async def test_a_submission_whose_caller_goes_away_still_runs(bench: Any) -> None:
    b = await bench()
    submitting = asyncio.create_task(b.scheduler.submit(Submission(app="test/app", idempotency_key="k")))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    submitting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await submitting
    for _ in range(1000):
        if tasks := await b.all():
            break
        await asyncio.sleep(0.01)
    assert (await b.ended(tasks[0])).status is Status.COMPLETED


async def test_leases_are_renewed_and_never_expire_under_a_living_worker(bench: Any) -> None:
    b = await bench(lease=1.5)
    task = await b.submit({"do": "sleep", "seconds": 2.4})
    await asyncio.sleep(2)
    assert await b.store.recover(time.time(), reason="lease over", sparing=None, leases=True) == []
    assert (await b.ended(task)).status is Status.COMPLETED
    assert b.executor.started == [(task.id, 1)]


async def test_a_claim_that_was_taken_away_stops_the_attempt(bench: Any) -> None:
    b = await bench(lease=0.3, slots=1)
    task = await b.submit({"do": "sleep", "seconds": 1})
    await b.until(task, lambda task: task.status is Status.RUNNING)
    await b.store.recover(time.time(), reason="taken away", sparing=None, leases=False)
    ended = await b.ended(task)
    assert (ended.status, ended.attempt) == (Status.COMPLETED, 2)
    assert (task.id, "superseded") in b.executor.stops
    assert b.executor.twice == []


async def test_many_tasks_at_once_each_end_once(bench: Any) -> None:
    b = await bench(slots=16)
    tasks = await asyncio.gather(*[b.submit({"n": n}) for n in range(200)])
    ended = await asyncio.gather(*[b.ended(task) for task in tasks])
    assert all(task.status is Status.COMPLETED for task in ended)
    assert sorted(b.executor.started) == sorted((task.id, 1) for task in tasks)
    assert b.executor.most_at_once <= 16
    assert b.scheduler.running == b.scheduler.queued == 0


async def test_a_bug_in_placing_stops_the_scheduler_only_for_a_moment(bench: Any) -> None:
    b = await bench()
    fit = b.executor.fit

    def broken(candidate: Any) -> Any:
        b.executor.fit = fit
        raise RuntimeError("a bug")

    b.executor.fit = broken
    assert (await b.ended(await b.submit())).status is Status.COMPLETED


async def test_tasks_over_the_running_quota_wait_and_hold_up_nobody_else(bench: Any) -> None:
    b = await bench(slots=4, limits={"a": Limits(running=1)}, task_aging_seconds=0.0)
    blocker = await b.submit({"do": "sleep", "seconds": 60}, owner="a")
    await b.until(blocker, lambda task: task.status is Status.RUNNING)
    waiting = await b.submit({"x": 1}, owner="a", priority=9)
    for _ in range(5):
        assert (await b.ended(await b.submit({"x": 2}, owner="b"))).status is Status.COMPLETED
    assert (await b.store.get(waiting.id)).status is Status.QUEUED
    await b.scheduler.cancel(blocker.id)
    assert (await b.ended(waiting)).status is Status.COMPLETED


async def test_a_task_over_the_quota_of_queued_ones_is_refused_and_told_when(bench: Any) -> None:
    b = await bench(slots=1, limits={"a": Limits(queued=1)})
    blocker = await b.submit({"do": "sleep", "seconds": 60}, owner="a")
    await b.until(blocker, lambda task: task.status is Status.RUNNING)
    await b.submit(owner="a", idempotency_key="k")
    with pytest.raises(QuotaExceeded, match="may have 1 and has 1") as caught:
        await b.submit(owner="a")
    assert caught.value.retry_after is not None
    await b.submit(owner="a", idempotency_key="k")
    await b.submit(owner="b")


async def test_tasks_that_wait_for_a_date_keep_nobody_out_and_have_a_limit_of_their_own(bench: Any) -> None:
    b = await bench(queue=2, scheduled=3)
    for _ in range(3):
        await b.submit(run_at=4e9)
    assert (b.scheduler.queued, b.scheduler.scheduled) == (0, 3)
    with pytest.raises(Overloaded, match="run_at") as refused:
        await b.submit(run_at=4e9)
    assert refused.value.retry_after is None
    assert (await b.ended(await b.submit())).status is Status.COMPLETED


async def test_a_full_schedule_says_when_there_is_room(bench: Any) -> None:
    b = await bench(scheduled=1)
    await b.submit(run_at=time.time() + 100)
    with pytest.raises(Overloaded) as refused:
        await b.submit(run_at=4e9)
    assert 90 < refused.value.retry_after <= 100


async def test_a_burst_of_dates_does_not_exceed_the_limit(bench: Any) -> None:
    b = await bench(scheduled=2)
    results = await asyncio.gather(*[b.submit(run_at=4e9) for _ in range(10)], return_exceptions=True)
    assert sum(isinstance(result, Overloaded) for result in results) == 8
    assert b.scheduler.scheduled == 2


async def test_the_time_to_retry_counts_what_runs_longer_than_usual(bench: Any) -> None:
    b = await bench(slots=1, queue=10)
    blocker = await b.submit({"do": "sleep", "seconds": 30})
    await b.until(blocker, lambda task: task.status is Status.RUNNING)
    for _ in range(10):
        await b.submit()
    b.scheduler._clock = lambda: time.time() + 50  # type: ignore[assignment]
    with pytest.raises(Overloaded) as refused:
        await b.submit()
    assert 50 <= refused.value.retry_after <= 60
    b.scheduler._clock = time.time  # type: ignore[assignment]
    await b.scheduler.cancel(blocker.id)
