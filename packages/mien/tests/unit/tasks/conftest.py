"""Stores on fresh databases, and schedulers on top of them."""

import importlib.util
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from mien.encoded import Encoded
from mien.quotas import Limits
from mien.storage.database import Database
from mien.tasks.policy import Policy
from mien.tasks.records import Submission, Task
from mien.tasks.scheduler import Scheduler
from mien.tasks.sql.store import SqlTaskStore
from mien.tasks.store import Filter, TaskStore


@pytest.fixture(scope="session")
def in_process() -> ModuleType:
    """The module with InProcessExecutor."""
    spec = importlib.util.spec_from_file_location(
        "in_process_executor", Path(__file__).parents[2] / "in_process_executor.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Clock:
    """Time that tests move."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


StoreFactory = Callable[..., Awaitable[TaskStore]]


@pytest.fixture(params=["sql"])
async def new_store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[StoreFactory]:
    """Makes stores of each implementation; add new ones to `params`."""
    async with AsyncExitStack() as stack:

        async def make(name: str = "tasks", **options: Any) -> TaskStore:
            assert request.param == "sql"
            database = await Database.open(tmp_path / f"{name}.db")
            stack.push_async_callback(database.close)
            return SqlTaskStore(database, **options)

        yield make


@pytest.fixture
async def store(new_store: StoreFactory, clock: Clock) -> TaskStore:
    """A store whose time is the fixture `clock`."""
    return await new_store(clock=clock)


@pytest.fixture
def submission() -> Callable[..., Submission]:
    def make(app: str = "test/app", **fields: Any) -> Submission:
        return Submission(app=app, input=Encoded.of(fields.pop("input", None)), **fields)

    return make


class Bench:
    """A scheduler with its store and executor."""

    def __init__(self, store: TaskStore, executor: Any, scheduler: Scheduler) -> None:
        self.store, self.executor, self.scheduler = store, executor, scheduler

    async def submit(self, given: Any = None, **fields: Any) -> Task:
        task, _ = await self.scheduler.submit(
            Submission(app=fields.pop("app", "test/app"), input=Encoded.of(given), **fields)
        )
        return task

    async def ended(self, task: Task | str, seconds: float = 30) -> Task:
        """Wait for the terminal status."""
        from mien.tasks.feed import Feed

        feed = Feed(self.store)
        with await feed.watch(task if isinstance(task, str) else task.id) as watch:
            while not watch.over:
                if await watch.next(seconds) is None and not watch.over:
                    pytest.fail(f"not ended: {watch.task}")
            return watch.task

    async def until(self, task: Task, condition: Callable[[Task], bool], seconds: float = 30) -> Task:
        from mien.tasks.feed import Feed

        with await Feed(self.store).watch(task.id) as watch:
            while not condition(watch.task):
                if await watch.next(seconds) is None:
                    pytest.fail(f"never came to that: {watch.task}")
            return watch.task

    async def all(self) -> tuple[Task, ...]:
        return (await self.store.find(Filter(), limit=1000)).tasks


@pytest.fixture
async def bench(new_store: StoreFactory, in_process: ModuleType) -> AsyncIterator[Callable[..., Awaitable[Bench]]]:
    """Starts schedulers: `await bench(slots=…, retries=…, limits={"owner": Limits(…)}, **policy)`."""
    async with AsyncExitStack() as stack:

        async def start(
            *, slots: int = 4, retries: int = 2, limits: dict[str, Limits] | None = None, **policy: Any
        ) -> Bench:
            store = await new_store(retries=retries)
            executor = in_process.InProcessExecutor(slots)
            quotas = limits or {}
            scheduler = Scheduler(store, [executor], Policy(**policy), limits=lambda owner: quotas.get(owner, Limits()))
            await stack.enter_async_context(scheduler)
            return Bench(store, executor, scheduler)

        yield start
