"""The grace period of a cancelled run: set by the app, bounded by the operator."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from mien.storage.database import Database
from mien.tasks.policy import Policy
from mien.tasks.records import Submission, Task
from mien.tasks.scheduler import Scheduler
from mien.tasks.sql.store import SqlTaskStore
from mien.tasks.status import Status
from mien.workers.fit import Fit

STUBBORN = "for _ in range(300):\n    try:\n        await asyncio.sleep(0.1)\n    except asyncio.CancelledError: pass"
SLOW = "try:\n    await asyncio.sleep(30)\nexcept asyncio.CancelledError:\n    await asyncio.sleep(0.4)\n    raise"
SLACK = 4.0
"""Additional seconds that a busy machine may need."""


class Tasks:
    """Tasks of one deployed app, from the store to the worker and back."""

    def __init__(self, server: Any, app: Any, store: SqlTaskStore, scheduler: Scheduler) -> None:
        self.server, self.app, self.store, self.scheduler = server, app, store, scheduler

    async def started(self, **fields: Any) -> Task:
        version = self.app.version
        task, _ = await self.scheduler.submit(Submission(app=version.app, app_version=version.version, **fields))
        return await self.until(task, Status.RUNNING)

    async def until(self, task: Task, status: Status) -> Task:
        deadline = time.monotonic() + 60
        while (task := await self.store.get(task.id)).status < status:
            assert time.monotonic() < deadline, task
            await asyncio.sleep(0.01)
        return task


Start = Callable[..., Awaitable[Tasks]]


@pytest.fixture
async def tasks_of(app_server: Any, app_folder: Any, tmp_path: Path) -> AsyncIterator[Start]:
    """A scheduler above the workers: `await tasks_of("what run does", inf="more of inf.yml", grace=…, …)`."""
    async with AsyncExitStack() as stack:

        async def start(body: str, *, inf: str = "", **policy: float) -> Tasks:
            server = app_server()
            app = await server.deploy(app_folder("probe", body=body, inf=f"name: probe\n{inf}"))
            database = await Database.open(tmp_path / "tasks.db")
            stack.push_async_callback(database.close)
            store = SqlTaskStore(database)
            scheduler = await stack.enter_async_context(Scheduler(store, [server.executor], Policy(**policy)))
            return Tasks(server, app, store, scheduler)

        yield start


@pytest.mark.parametrize(("inf", "policy", "expected"), [
    ("grace: 0.5\n", {"grace": 30}, 0.5),
    ("grace: 2\n", {"grace": 0.1}, 2),
    ("grace: 600\n", {"grace": 30, "longest_grace": 0.5}, 0.5),
    ("", {"grace": 0.5}, 0.5),
], ids=["shorter", "longer", "too-long", "none-of-its-own"])  # fmt: skip
async def test_an_app_that_ignores_cancel_is_killed_after_its_own_grace(
    tasks_of: Start, inf: str, policy: dict[str, float], expected: float
) -> None:
    tasks = await tasks_of(STUBBORN, inf=inf, **policy)
    task = await tasks.started()
    asked = time.monotonic()
    await tasks.scheduler.cancel(task.id)
    assert (await tasks.until(task, Status.COMPLETED)).status is Status.CANCELLED
    assert expected <= time.monotonic() - asked < expected + SLACK
    assert tasks.server.pool.slots == ()


async def test_a_run_whose_time_is_up_has_the_same_grace(tasks_of: Start) -> None:
    tasks = await tasks_of(STUBBORN, inf="grace: 0.5\n", grace=30)
    started = time.monotonic()
    task = await tasks.started(timeout=0.1)
    assert (await tasks.until(task, Status.COMPLETED)).error_code == "deadline_exceeded"
    assert time.monotonic() - started < 10


async def test_an_app_that_needs_longer_than_others_keeps_its_worker(tasks_of: Start) -> None:
    tasks = await tasks_of(SLOW, inf="grace: 30\n", grace=0.1)
    task = await tasks.started()
    await asyncio.sleep(0.2)
    await tasks.scheduler.cancel(task.id)
    assert (await tasks.until(task, Status.COMPLETED)).status is Status.CANCELLED
    assert tasks.server.fit(tasks.app) is Fit.WARM
