"""Sessions and the queue: a session is one worker's state, so its tasks wait for that worker and for no other."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from mien.encoded import Encoded
from mien.errors import SessionExpired
from mien.storage.database import Database
from mien.tasks.policy import Policy
from mien.tasks.pool_executor import PoolExecutor
from mien.tasks.records import Submission, Task
from mien.tasks.scheduler import Scheduler
from mien.tasks.sessions import Session, Sessions
from mien.tasks.sql.store import SqlTaskStore
from mien.tasks.status import Status

BODY = """
if app_input.do == "die": os._exit(9)
await asyncio.sleep(float(app_input.do or 0))
"""


class AppTasks:
    """A deployed app behind a scheduler, with sessions and a pool with few slots."""

    def __init__(self, server: Any, app: Any, store: SqlTaskStore, sessions: Sessions, scheduler: Scheduler) -> None:
        self.server, self.app, self.store = server, app, store
        self.sessions, self.scheduler = sessions, scheduler

    def open(self, timeout: float = 60.0) -> Session:
        version = self.app.version
        return self.sessions.open(
            app=version.app,
            app_version=version.version,
            variant="default",
            setup_key="",
            owner="",
            timeout=timeout,
            key=None,
        )

    async def submit(self, do: str = "", session: Session | None = None) -> Task:
        version = self.app.version
        task, _ = await self.scheduler.submit(
            Submission(
                app=version.app,
                app_version=version.version,
                input=Encoded.of({"do": do}),
                session_id=None if session is None else session.id,
                session_timeout=None if session is None else session.timeout,
            )
        )
        return task

    async def until(self, task: Task, status: Status = Status.COMPLETED, seconds: float = 60.0) -> Task:
        deadline = time.monotonic() + seconds
        while (task := await self.store.get(task.id)).status < status:
            assert time.monotonic() < deadline, f"still {task.status.name}"
            await asyncio.sleep(0.01)
        return task


Start = Callable[..., Awaitable[AppTasks]]


@pytest.fixture
async def app_tasks(app_server: Any, app_folder: Any, tmp_path: Path) -> AsyncIterator[Start]:
    """`await app_tasks(workers=…)`. The aging threshold is short, so that a barrier would show at once."""
    async with AsyncExitStack() as stack:

        async def start(*, workers: int) -> AppTasks:
            server = app_server(app_workers=workers)
            app = await server.deploy(app_folder("probe", body=BODY))
            database = await Database.open(tmp_path / "tasks.db")
            stack.push_async_callback(database.close)
            store, sessions = SqlTaskStore(database), Sessions(server.pool)
            store.listen(sessions.changed)
            executor = PoolExecutor(
                server.pool,
                server.registry,
                server.settings.workers,
                server.settings.locations,
                check_session=sessions.check,
            )
            policy = Policy(task_aging_seconds=0.05, grace=1.0)
            scheduler = Scheduler(store, [executor], policy, awake=server.room)
            await stack.enter_async_context(scheduler)
            return AppTasks(server, app, store, sessions, scheduler)

        yield start


async def test_a_task_whose_session_is_busy_waits_for_its_worker_and_blocks_no_other(app_tasks: Start) -> None:
    a = await app_tasks(workers=2)
    session = a.open()
    await a.until(await a.submit(session=session))
    busy = await a.until(await a.submit("6", session), Status.RUNNING)
    waits = await a.submit(session=session)
    await asyncio.sleep(0.3)  # several times the aging threshold
    other = await a.until(await a.submit())
    assert other.status is Status.COMPLETED
    assert (await a.store.get(busy.id)).status is Status.RUNNING
    assert (await a.store.get(waits.id)).status is Status.QUEUED
    ended = await a.until(waits)
    assert (ended.status, ended.worker) == (Status.COMPLETED, (await a.until(busy)).worker)
    assert ended.output["text"] == "3 ", "it ran without the session's state"
    assert other.worker != ended.worker


async def test_a_session_that_is_ended_fails_its_queued_tasks_and_not_the_running_one(app_tasks: Start) -> None:
    a = await app_tasks(workers=2)
    session = a.open()
    running = await a.until(await a.submit("2", session), Status.RUNNING)
    queued = await a.submit(session=session)
    a.sessions.end(session.id)
    failed = await a.until(queued)
    assert (failed.status, failed.error_code) == (Status.FAILED, "SESSION_ENDED")
    assert (await a.until(running)).status is Status.COMPLETED


async def test_a_session_whose_worker_died_does_not_go_on_without_its_state(app_tasks: Start) -> None:
    a = await app_tasks(workers=2)
    session = a.open()
    await a.until(await a.submit(session=session))
    crashed = await a.until(await a.submit("die", session))
    assert (crashed.status, crashed.error_code) == (Status.FAILED, "SESSION_EXPIRED")
    assert crashed.losses == 1
    assert a.sessions.state(session) == "expired"
    with pytest.raises(SessionExpired):
        a.sessions.check(session.id)
    assert (await a.until(await a.submit())).status is Status.COMPLETED


async def test_a_first_run_that_lost_its_worker_is_tried_again_in_its_session(app_tasks: Start) -> None:
    a = await app_tasks(workers=2)
    session = a.open()
    crashed = await a.until(await a.submit("die", session))
    assert (crashed.status, crashed.error_code, crashed.losses) == (Status.FAILED, "worker_lost", 3)
    ended = await a.until(await a.submit(session=session))
    assert (ended.status, ended.output) == (Status.FAILED, None)
    assert ended.error_code == "SESSION_EXPIRED"


async def test_ending_an_idle_session_frees_its_capacity_for_a_waiting_task(app_tasks: Start) -> None:
    a = await app_tasks(workers=1)
    session = a.open()
    await a.until(await a.submit(session=session))
    waits = await a.submit()
    await asyncio.sleep(0.3)
    assert (await a.store.get(waits.id)).status is Status.QUEUED, "a session's worker is never evicted"
    a.sessions.end(session.id)
    assert (await a.until(waits)).status is Status.COMPLETED


async def test_a_session_that_was_idle_for_too_long_has_expired(app_tasks: Start) -> None:
    a = await app_tasks(workers=1)
    session = a.open(timeout=0.2)
    await a.until(await a.submit(session=session))
    deadline = time.monotonic() + 30
    while a.sessions.state(session) != "expired":
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)
    late = await a.until(await a.submit(session=session))
    assert (late.status, late.error_code) == (Status.FAILED, "SESSION_EXPIRED")
