"""What every implementation of `TaskStore` promises; one more is added to the fixture `new_store`."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import sqlalchemy as sa

from mien.errors import Conflict, IdempotencyConflict, NotFound, QuotaExceeded, RequestError, StaleAttempt, TaskDamaged
from mien.storage.schema import tasks
from mien.tasks.machine import Changes, LogText, Outcome
from mien.tasks.records import Attempt, LogKind, Submission
from mien.tasks.status import Status
from mien.tasks.store import Change, Filter, TaskStore

DONE = Outcome(status=Status.COMPLETED, output={"y": 1})


Claimed = Callable[..., Awaitable[Attempt]]


@pytest.fixture
def claimed(store: TaskStore, submission: Callable[..., Submission], clock: Callable[[], float]) -> Claimed:
    """Submits a task and claims it for `server-1`, for 30 seconds."""

    async def claim(**fields: Any) -> Attempt:
        task, _ = await store.submit(submission(**fields))
        attempt = await store.claim(task.id, "server-1", clock() + 30)
        assert attempt is not None
        return attempt

    return claim


async def test_what_was_submitted_is_what_is_found(store: Any, submission: Any, clock: Any) -> None:
    given_task = submission(
        app_version="v1",
        variant="big",
        function="draw",
        infra="private",
        workers=("w1",),
        input={"b": [1, "é\u2028"]},
        setup={"z": 1, "a": 2},
        webhook="https://example.org/x",
        session_id="s",
        session_timeout=5.0,
        priority=3,
        owner="key1",
        idempotency_key="i",
        deadline=clock() + 60,
        timeout=9.0,
        retries=0,
        metadata={"m": 1},
        dialect="a",
    )
    task, created = await store.submit(given_task)
    assert created
    assert await store.get(task.id) == task
    assert list(task.setup) == ["z", "a"]
    for name in (
        "app",
        "input",
        "workers",
        "webhook",
        "deadline",
        "timeout",
        "retries",
        "metadata",
        "dialect",
        "priority",
    ):
        assert getattr(task, name) == getattr(given_task, name)
    assert task.short_id == task.id[-8:]


async def test_the_same_key_and_body_is_the_same_task(store: Any, submission: Any) -> None:
    fields = {"idempotency_key": "k", "owner": "o", "input": {"a": 1, "b": 2}}
    results = await asyncio.gather(*[store.submit(submission(**fields)) for _ in range(10)])
    assert len({task.id for task, _ in results}) == 1
    assert sum(created for _, created in results) == 1
    again, created = await store.submit(submission(**fields | {"input": {"b": 2, "a": 1}}))
    assert (again.id, created) == (results[0][0].id, False)
    with pytest.raises(IdempotencyConflict):
        await store.submit(submission(**fields | {"input": {"a": 2}}))
    _, created = await store.submit(submission(**fields | {"owner": "p", "input": 5}))
    assert created
    assert (await store.replayed(submission(**fields))).id == again.id
    assert await store.replayed(submission()) is None


async def test_a_task_is_claimed_once(store: Any, submission: Any, clock: Any) -> None:
    task, _ = await store.submit(submission())
    claims = await asyncio.gather(*[store.claim(task.id, f"s{n}", clock() + 30) for n in range(10)])
    assert sum(claim is not None for claim in claims) == 1
    assert await store.claim("nothing", "s", 0.0) is None


async def test_a_stale_attempt_changes_nothing_and_is_told(store: Any, claimed: Any, clock: Any) -> None:
    stale = await claimed()
    stale = await store.update(stale, Changes(statuses=((Status.RUNNING, clock(), None),)))
    back = (await store.recover(clock() + 31, reason="lost", sparing=None, leases=True))[0]
    assert (back.status, back.attempt, back.losses) == (Status.QUEUED, 2, 1)
    again = None
    for _ in range(2):
        before = await store.get(stale.id)
        with pytest.raises(StaleAttempt):
            await store.update(stale, Changes(progress=0.9, logs=(LogText(0.0, LogKind.RUN, "x"),)))
        with pytest.raises(StaleAttempt):
            await store.finish(stale, DONE)
        with pytest.raises(StaleAttempt):
            await store.give_back(stale, "x", lost=True)
        assert await store.get(stale.id) == before
        assert await store.logs(stale.id) == ()
        again = again or await store.claim(back.id, "server-1", clock() + 30)
    ended = await store.finish(again, DONE)
    with pytest.raises(StaleAttempt):
        await store.finish(again, Outcome(status=Status.FAILED))
    assert await store.get(stale.id) == ended


async def test_a_task_and_its_newest_lines_are_read_as_of_one_moment(store: Any, claimed: Any) -> None:
    attempt = await claimed()
    for text in ("one", "two", "three"):
        attempt = await store.update(attempt, Changes(logs=(LogText(0.0, LogKind.RUN, text),)))
    task, lines = await store.get_with_logs(attempt.id, 2)
    assert (task, [line.text for line in lines]) == (await store.get(attempt.id), ["two", "three"])
    assert task.log_count == lines[-1].number == 3
    with pytest.raises(NotFound):
        await store.get_with_logs(attempt.id, 2, "another owner")


async def test_an_attempt_keeps_its_claim_after_a_write_it_did_not_hear_of(store: Any, claimed: Any) -> None:
    attempt = await claimed()
    await store.update(attempt, Changes(logs=(LogText(0.0, LogKind.RUN, "one"),)))
    attempt = await store.update(attempt, Changes(logs=(LogText(0.0, LogKind.RUN, "two"),)))
    assert [line.text for line in await store.logs(attempt.id)] == ["one", "two"]
    assert attempt.task == await store.get(attempt.id)


@pytest.mark.parametrize("outcome", [DONE, Outcome(status=Status.FAILED, error="x", error_code="app_failed")])
async def test_an_accepted_cancel_wins(store: Any, claimed: Any, outcome: Outcome) -> None:
    attempt = await claimed()
    flagged = await store.cancel(attempt.id)
    assert flagged.status is Status.SCHEDULED
    assert (await store.cancel(attempt.id)) == flagged
    ended = await store.finish(attempt, outcome)
    assert (ended.status, ended.output) == (Status.CANCELLED, None)
    assert await store.cancel(attempt.id) == ended


async def test_lost_and_cancelled_is_cancelled_and_lost_too_late_is_failed(
    store: Any, claimed: Any, clock: Any
) -> None:
    cancelled = await claimed()
    await store.cancel(cancelled.id)
    late = await claimed(deadline=clock() + 10)
    clock.now += 20
    ended = {task.id: task for task in await store.recover(clock(), reason="lost", sparing=None, leases=False)}
    assert ended[cancelled.id].status is Status.CANCELLED
    assert ended[late.id].error_code == "deadline_exceeded"


async def test_retries_are_bounded(store: Any, submission: Any, clock: Any) -> None:
    task, _ = await store.submit(submission(retries=1))
    for status in (Status.QUEUED, Status.FAILED):
        attempt = await store.claim(task.id, "s", clock() + 30)
        ended = await store.give_back(attempt, "signal 9", lost=True)
        assert ended.status is status
    assert ended.error == "worker lost: signal 9 (2 attempts)"
    task, _ = await store.submit(submission(retries=0))
    for _ in range(5):
        attempt = await store.claim(task.id, "s", clock() + 30)
        assert (await store.give_back(attempt, "restart", lost=False)).status is Status.QUEUED


async def test_leases(store: Any, claimed: Any, clock: Any) -> None:
    mine, other = await claimed(), await claimed()
    await store.finish(other, DONE)
    assert await store.renew("server-1", [mine.id, other.id, "unknown"], clock() + 100) == {mine.id}
    assert await store.renew("server-2", [mine.id], clock() + 100) == frozenset()
    assert await store.recover(clock() + 50, reason="lost", sparing=None, leases=True) == []
    assert await store.recover(clock(), reason="lost", sparing="server-1", leases=False) == []
    assert len(await store.recover(clock() + 101, reason="lost", sparing=None, leases=True)) == 1


async def test_deadlines_of_queued_tasks(store: Any, submission: Any, clock: Any) -> None:
    task, _ = await store.submit(submission(deadline=clock() + 5))
    await store.submit(submission())
    assert await store.expire(clock()) == []
    clock.now += 5
    assert await store.claim(task.id, "s", clock() + 1) is None
    assert [ended.error_code for ended in await store.expire(clock())] == ["deadline_exceeded"]
    assert await store.expire(clock()) == []


async def test_times_to_run_are_kept(store: Any, submission: Any, clock: Any) -> None:
    task, _ = await store.submit(submission(run_at=clock() + 5))
    assert await store.claim(task.id, "s", clock() + 30) is None
    clock.now += 5
    assert await store.claim(task.id, "s", clock() + 30) is not None


async def test_every_change_is_told_once_and_in_order(store: Any, submission: Any, claimed: Any, clock: Any) -> None:
    told: list[Change] = []
    store.listen(told.append)
    attempt = await claimed(idempotency_key="a")
    await store.submit(submission(idempotency_key="a"))
    attempt = await store.update(attempt, Changes(progress=0.5, logs=(LogText(clock(), LogKind.RUN, "hi"),)))
    await store.cancel(attempt.id)
    await store.finish(attempt, DONE)
    await store.delete(attempt.id)
    assert [change.task.revision for change in told] == [1, 2, 3, 4, 5, 5]
    assert [change.created for change in told] == [True, False, False, False, False, False]
    assert told[2].logs[0].text == "hi"
    assert told[-1].deleted


async def test_lists_filter_and_page_without_gaps(store: Any, submission: Any, clock: Any) -> None:
    tasks = [
        (await store.submit(submission(app=f"test/{n % 2}", owner=f"o{n % 3}", session_id="s")))[0] for n in range(12)
    ]
    await store.cancel(tasks[0].id)
    seen: list[str] = []
    cursor = None
    while True:
        page = await store.find(Filter(app="test/0"), cursor=cursor, limit=4)
        seen += [task.id for task in page.tasks]
        await store.submit(submission(app="test/0"))
        cursor = page.cursor
        if cursor is None:
            break
    assert seen == [task.id for task in reversed(tasks[::2])]
    found = await store.find(Filter(statuses=(Status.CANCELLED,), owner="o0", session_id="s"))
    assert [task.id for task in found.tasks] == [tasks[0].id]
    assert (await store.find(Filter(created_after=clock()))).tasks == ()
    with pytest.raises(RequestError):
        await store.find(Filter(), cursor="1; DROP TABLE tasks")


async def test_a_page_of_large_tasks_ends_early_and_the_next_goes_on(store: Any, submission: Any) -> None:
    sizes = [10, 30_000, 10, 10, 30_000, 200_000, 10, 60_000]
    tasks = [(await store.submit(submission(input="x" * size)))[0] for size in sizes]
    pages, cursor = [], None
    while True:
        page = await store.find(Filter(), cursor=cursor, limit=5, max_chars=100_000)
        pages.append([len(task.input.value) for task in page.tasks])
        cursor = page.cursor
        if cursor is None:
            break
    assert pages == [[60_000, 10], [200_000], [30_000, 10, 10, 30_000, 10]]
    whole = await store.find(Filter(), limit=8)
    assert [task.id for task in whole.tasks] == [task.id for task in reversed(tasks)]
    assert whole.cursor is None


async def test_deleting_and_purging(store: Any, submission: Any, claimed: Any, clock: Any) -> None:
    attempt = await claimed()
    with pytest.raises(Conflict):
        await store.delete(attempt.id)
    await store.finish(attempt, DONE, Changes(logs=(LogText(clock(), LogKind.RUN, "x"),)))
    await store.delete(attempt.id)
    for call in (store.get, store.logs, store.cancel, store.delete):
        with pytest.raises(NotFound):
            await call(attempt.id)
    old = await claimed()
    await store.finish(old, DONE)
    hooked = await claimed(webhook="http://x/")
    await store.finish(hooked, DONE)
    queued, _ = await store.submit(submission())
    clock.now += 100
    assert await store.purge(clock()) == 1
    await store.webhook_tried(hooked.id, at=clock(), error=None, next_at=None)
    assert await store.purge(clock()) == 1
    assert (await store.get(queued.id)).status is Status.QUEUED


async def test_webhooks_wait_until_they_are_delivered_or_given_up(store: Any, claimed: Any, clock: Any) -> None:
    attempts = [await claimed(webhook=f"http://x/{n}") for n in range(2)]
    assert await store.due_webhooks(clock()) == ()
    for attempt in attempts:
        await store.finish(attempt, DONE)
    assert {delivery.url for delivery in await store.due_webhooks(clock())} == {"http://x/0", "http://x/1"}
    await store.webhook_tried(attempts[0].id, at=clock(), error="HTTP 500", next_at=clock() + 60)
    await store.webhook_tried(attempts[1].id, at=clock(), error=None, next_at=None)
    assert await store.due_webhooks(clock() + 59) == ()
    assert await store.next_webhook() == clock() + 60
    assert (await store.due_webhooks(clock() + 60))[0].tries == 1
    await store.webhook_tried(attempts[0].id, at=clock(), error="HTTP 500", next_at=None)
    assert await store.next_webhook() is None


async def test_text_that_databases_do_not_take_is_cleaned(store: Any, claimed: Any) -> None:
    attempt = await claimed()
    await store.finish(
        attempt,
        Outcome(status=Status.FAILED, error="a\0b\ud800", error_code="app_failed"),
        Changes(logs=(LogText(0.0, LogKind.RUN, "\ud83d x"),)),
    )
    assert (await store.get(attempt.id)).error == "a\ufffdb?"


async def test_what_is_not_json_is_refused(store: Any, submission: Any) -> None:
    with pytest.raises(RequestError, match="JSON"):
        await store.submit(submission(input={"x": object()}))


async def test_tasks_of_other_owners_are_as_tasks_that_do_not_exist(store: Any, submission: Any) -> None:
    theirs, _ = await store.submit(submission(owner="a"))
    mine, _ = await store.submit(submission(owner="b"))
    calls = (store.get, store.cancel, store.delete)
    for call in (*calls, lambda task_id, owner: store.logs(task_id, owner=owner)):
        with pytest.raises(NotFound) as other:
            await call(theirs.id, owner="b")
        with pytest.raises(NotFound) as missing:
            await call("nothing", owner="b")
        assert other.value.message.replace(theirs.id, "nothing") == missing.value.message
    assert await store.get(theirs.id, owner="a") == theirs
    assert [task.id for task in (await store.find(Filter(owner="b"))).tasks] == [mine.id]
    assert (await store.cancel(theirs.id, owner="a")).status is Status.CANCELLED
    await store.delete(theirs.id, owner="a")


async def test_an_owner_has_at_most_its_quota_of_queued_tasks(store: Any, submission: Any, clock: Any) -> None:
    results = await asyncio.gather(
        *(store.submit(submission(owner="a", idempotency_key=str(n)), 3) for n in range(5)), return_exceptions=True
    )
    refused = [result for result in results if isinstance(result, QuotaExceeded)]
    assert [error.message for error in refused] == ["quota of queued tasks: the owner 'a' may have 3 and has 3"] * 2
    again, created = await store.submit(submission(owner="a", idempotency_key="0"), 3)
    assert (again.id, created) == (results[0][0].id, False)
    _, created = await store.submit(submission(owner="b"), 3)
    assert created
    attempt = await store.claim(again.id, "s", clock() + 30)
    assert attempt is not None
    _, created = await store.submit(submission(owner="a"), 3)
    assert created


async def test_tasks_that_wait_for_a_date_count_apart(store: Any, submission: Any, clock: Any) -> None:
    for number in range(2):
        await store.submit(submission(owner="a", run_at=clock() + 60 + number), 2)
    await store.submit(submission(owner="a"), 2)
    with pytest.raises(QuotaExceeded, match="tasks that wait for their run_at: the owner 'a' may have 2") as caught:
        await store.submit(submission(owner="a", run_at=clock() + 1000), 2)
    assert caught.value.retry_after == 60
    await store.submit(submission(owner="a", run_at=clock() - 5), 2)
    with pytest.raises(QuotaExceeded, match="queued tasks"):
        await store.submit(submission(owner="a"), 2)


def broken(store: Any, task_id: str, **values: Any) -> Any:
    """Overwrites columns of a task's row."""
    return store._database.write(
        lambda connection: connection.execute(sa.update(tasks).where(tasks.c.id == task_id).values(**values)) and None
    )


DAMAGE = [{"metadata": "{"}, {"events": "[1]"}, {"status": 77}, {"workers": "3"}, {"output": "nan"}]


@pytest.mark.parametrize("damage", DAMAGE, ids=[next(iter(values)) for values in DAMAGE])
async def test_a_damaged_row_is_left_out_of_lists_and_breaks_nothing_else(
    store: Any, submission: Any, clock: Any, damage: dict[str, Any]
) -> None:
    ids = [(await store.submit(submission(deadline=clock() + 5)))[0].id for _ in range(5)]
    await broken(store, ids[2], **damage)
    assert [task.id for task in (await store.find(Filter())).tasks] == [ids[4], ids[3], ids[1], ids[0]]
    seen, cursor = [], None
    while True:
        page = await store.find(Filter(), cursor=cursor, limit=1)
        seen += [task.id for task in page.tasks]
        if (cursor := page.cursor) is None:
            break
    assert seen == [ids[4], ids[3], ids[1], ids[0]]
    with pytest.raises(TaskDamaged, match=ids[2]):
        await store.get(ids[2])
    with pytest.raises(TaskDamaged):
        await store.claim(ids[2], "server-1", clock() + 30)
    assert len(await store.expire(clock() + 10)) == 4
