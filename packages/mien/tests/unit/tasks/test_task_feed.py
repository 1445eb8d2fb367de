"""Watching tasks: nothing is lost, nothing repeated, whoever is slow gets the newest."""

import asyncio
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mien.errors import NotFound, RequestError
from mien.tasks.feed import Cursor, Feed, Update
from mien.tasks.machine import Changes, LogText, Outcome
from mien.tasks.records import Attempt, LogKind, Submission
from mien.tasks.status import Status

DONE = Outcome(status=Status.COMPLETED, output="done")


async def begun(store: Any) -> Attempt:
    task, _ = await store.submit(Submission(app="a/b"))
    attempt = await store.claim(task.id, "s", 2e9)
    assert attempt is not None
    return attempt


def line(text: str) -> LogText:
    return LogText(0.0, LogKind.RUN, text)


async def test_a_watch_sees_every_event_and_line_once_and_ends(store: Any) -> None:
    feed = Feed(store)
    attempt = await begun(store)
    with await feed.watch(attempt.id) as watch:
        seen: list[Update] = []

        async def follow() -> None:
            async for update in watch:
                seen.append(update)

        following = asyncio.create_task(follow())
        for number in range(5):
            attempt = await store.update(attempt, Changes(output=number, logs=(line(f"{number}"),)))
            await asyncio.sleep(0.001)
        await store.finish(attempt, DONE)
        await asyncio.wait_for(following, 5)
    events = [event.status for update in seen for event in update.events]
    assert events == [Status.RECEIVED, Status.QUEUED, Status.SCHEDULED, Status.COMPLETED]
    assert [log.text for update in seen for log in update.logs] == list("01234")
    revisions = [update.task.revision for update in seen]
    assert revisions == sorted(set(revisions))
    assert seen[-1].task.output == "done"
    assert feed.watchers == 0


async def test_a_slow_watcher_gets_the_newest_snapshot_and_all_lines(store: Any) -> None:
    feed = Feed(store)
    attempt = await begun(store)
    with await feed.watch(attempt.id) as watch:
        await watch.next(1)
        for number in range(300):
            logs = tuple(line(f"{number}.{n}") for n in range(5))
            attempt = await store.update(attempt, Changes(output=number, logs=logs))
        assert len(watch._topic.tail) <= 200
        update = await watch.next(1)
        assert update is not None
        assert update.task.output == 299
        assert [log.number for log in update.logs] == list(range(1, 1501))
        assert await watch.next(0.01) is None
        assert not watch.over


async def test_a_finished_task_is_told_whole_and_resuming_at_its_end_tells_nothing(store: Any) -> None:
    feed = Feed(store)
    attempt = await begun(store)
    await store.finish(attempt, DONE, Changes(logs=(line("x"),)))
    with await feed.watch(attempt.id) as watch:
        updates = [update async for update in watch]
    assert len(updates) == 1
    assert updates[0].task.status is Status.COMPLETED
    with await feed.watch(attempt.id, after=str(updates[0].cursor)) as watch:
        assert [update async for update in watch] == []


async def test_unknown_tasks_and_cursors(store: Any) -> None:
    feed = Feed(store)
    with pytest.raises(NotFound):
        await feed.watch("nothing")
    attempt = await begun(store)
    for cursor in ("9.1.0", "1.9.0", "1.1.9", "x", "1.2", "1.2.-3", "١.1.1"):
        with pytest.raises(RequestError):
            await feed.watch(attempt.id, after=cursor)
    assert feed.watchers == 0
    assert feed._topics == {}


async def test_a_watch_ends_when_the_task_is_deleted(store: Any) -> None:
    feed = Feed(store)
    attempt = await begun(store)
    with await feed.watch(attempt.id) as watch:
        await watch.next(1)
        following = asyncio.create_task(watch.next(5))
        await store.finish(attempt, DONE)
        await following
        await store.delete(attempt.id)
        assert watch.over
        assert await watch.next(1) is None


async def test_a_hundred_watchers_share_one_snapshot(store: Any) -> None:
    feed = Feed(store)
    attempt = await begun(store)
    watches = await asyncio.gather(*[feed.watch(attempt.id) for _ in range(100)])
    following = [asyncio.create_task(watch.next(5)) for watch in watches]
    await asyncio.gather(*following)
    following = [asyncio.create_task(watch.next(5)) for watch in watches]
    await store.finish(attempt, DONE)
    updates = await asyncio.gather(*following)
    assert len({id(update.task) for update in updates if update}) == 1
    for watch in watches:
        watch.close()
    assert feed._topics == {}


@given(steps=st.lists(st.tuples(st.integers(0, 3), st.booleans(), st.booleans()), max_size=12), slow=st.integers(1, 4))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_resuming_anywhere_loses_and_repeats_nothing(
    store: Any, steps: list[tuple[int, bool, bool]], slow: int
) -> None:
    """Each step: so many log lines; whether it changes the status; whether the watcher reconnects after it."""
    feed = Feed(store)
    attempt = await begun(store)
    seen: list[Update] = []
    watch = await feed.watch(attempt.id)
    written, status = 0, Status.SCHEDULED
    for count, (lines, moves, reconnects) in enumerate(steps):
        logs = tuple(line(str(written + n)) for n in range(lines))
        written += lines
        if moves and status < Status.UPLOADING:
            status = Status(status + 1)
        attempt = await store.update(attempt, Changes(statuses=((status, 0.0, None),), logs=logs))
        if count % slow == 0 and (update := await watch.next(0)) is not None:
            seen.append(update)
        if reconnects:
            cursor = str(seen[-1].cursor) if seen else None
            watch.close()
            watch = await feed.watch(attempt.id, after=cursor)
    await store.finish(attempt, DONE)
    seen += [update async for update in watch]
    watch.close()
    final = await store.get(attempt.id)
    assert [log.text for update in seen for log in update.logs] == [str(n) for n in range(written)]
    assert tuple(event for update in seen for event in update.events) == final.events
    revisions = [update.task.revision for update in seen]
    assert revisions == sorted(set(revisions))
    assert seen[-1].task == final


@given(st.builds(Cursor, *[st.integers(0, 10**9)] * 3))
def test_cursors_come_back_from_their_text(cursor: Cursor) -> None:
    assert Cursor.parse(str(cursor)) == cursor
