"""What every implementation of `Executor` promises to the scheduler. Another one adds its `Subject` to `SUBJECTS`."""

import asyncio
import itertools
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Protocol

import pytest
import pytest_asyncio

from mien.encoded import Encoded
from mien.engine.cancellation import CancelScope
from mien.errors import MienError
from mien.inference.contract import InferRequest, InferResult, Json, TaskInfo
from mien.inference.registry import ServiceRegistry
from mien.net.fetch import Fetcher
from mien.storage.database import Database
from mien.storage.file_store import FileStore
from mien.storage.file_table import FileTable
from mien.storage.local_blobs import LocalBlobs
from mien.tasks import machine
from mien.tasks.attempt import AFTER_GRACE
from mien.tasks.builtin import BuiltinExecutor
from mien.tasks.executor import AppFailed, Executor, StopReason
from mien.tasks.records import Attempt, Candidate, Submission, candidate_of
from mien.workers.fit import Fit
from mien.workers.listener import Stage

pytestmark = pytest.mark.asyncio(loop_scope="module")

PLACES = 2
MIB = 1024 * 1024
GRACE = 1.0
BODY = """
match app_input.do:
    case "fail": raise ValueError("no such thing")
    case "wait": await asyncio.sleep(60)
    case "stubborn": time.sleep(60)
"""


class Subject(Protocol):
    """One implementation, with room for `PLACES` tasks at once."""

    executor: Executor

    def submission(self, do: str) -> Submission:
        """A task that ends with an output ("echo"), fails, waits until it is stopped ("wait"), ignores that it is
        stopped ("stubborn"), or cannot be started at all ("impossible")."""


class AppTasks:
    """Tasks of a deployed app, in worker processes."""

    def __init__(self, executor: Executor, app: str, version: str) -> None:
        self.executor = executor
        self._app, self._version = app, version

    def submission(self, do: str) -> Submission:
        version = "0" * 26 if do == "impossible" else self._version
        return Submission(app=self._app, app_version=version, input=Encoded.of({"do": do}))


class Service:
    """A service that does what its metadata says."""

    name = "classification"

    def tasks(self) -> Sequence[TaskInfo]:
        return (TaskInfo("classify", ("text/plain",), ("application/json",)),)

    async def infer(
        self, request: InferRequest, scope: CancelScope, *, stream: bool
    ) -> AsyncGenerator[InferResult, None]:
        match request.metadata["do"]:
            case "fail":
                raise MienError("no such thing")
            case "wait":
                while True:
                    scope.check()
                    await asyncio.sleep(0.01)
            case "stubborn":
                await asyncio.sleep(60)
        yield InferResult(value=Json({"text": "done"}), is_final=True)


class BuiltinTasks:
    """Tasks of a built-in app, on a service of this process."""

    def __init__(self, executor: Executor) -> None:
        self.executor = executor

    def submission(self, do: str) -> Submission:
        app = "mien/embed" if do == "impossible" else "mien/classify"  # whose service was not loaded
        return Submission(app=app, input=Encoded.of({"text": "x", "do": do}))


async def app_tasks(stack: AsyncExitStack, folder: Path, probe: Any) -> Subject:
    server, deployed = await probe(BODY, app_memory=300 * MIB, workers_memory=PLACES * 300 * MIB)
    await server.run(deployed, {"do": "echo"})  # its environment is made
    return AppTasks(server.executor, deployed.version.app, deployed.version.version)


async def builtin_tasks(stack: AsyncExitStack, folder: Path, probe: Any) -> Subject:
    database = await Database.open(folder / "mien.db")
    stack.push_async_callback(database.close)
    files = FileStore(FileTable(database, machine.wall_clock), LocalBlobs(folder / "files"), clock=machine.wall_clock)
    fetcher = Fetcher()
    stack.push_async_callback(fetcher.aclose)
    services, loaded = ServiceRegistry(), asyncio.Event()
    services.add(Service())
    loaded.set()
    return BuiltinTasks(BuiltinExecutor(files, services, fetcher, loaded, concurrency=PLACES, max_bytes=1000))


SUBJECTS = [app_tasks, builtin_tasks]


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=SUBJECTS, ids=lambda make: make.__name__)
async def subject(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, module_probe: Any
) -> AsyncIterator[Subject]:
    """All tests share it: each leaves it without a task."""
    async with AsyncExitStack() as stack:
        yield await request.param(stack, tmp_path_factory.mktemp("subject"), module_probe)


class Running:
    """An attempt that executes."""

    def __init__(self, executor: Executor, attempt: Attempt, report: Any) -> None:
        self.executor, self.attempt, self.report = executor, attempt, report
        self.work = asyncio.create_task(executor.execute(attempt, report))

    def stop(self, reason: StopReason = "cancelled", grace: float = GRACE) -> None:
        self.executor.stop(self.attempt.id, reason, grace)

    async def ended(self, seconds: float = 60) -> BaseException | None:
        """Wait for the end, in any way, and return what it raised."""
        await asyncio.wait({self.work}, timeout=seconds)
        assert self.work.done(), self.report.events
        return asyncio.CancelledError() if self.work.cancelled() else self.work.exception()


class Dispatcher:
    """Calls an executor in the order in which the scheduler does."""

    def __init__(self, subject: Subject, report: Callable[[], Any]) -> None:
        self.executor = subject.executor
        self._subject, self._report = subject, report
        self._numbers = itertools.count(1)

    def attempt(self, do: str) -> Attempt:
        task = machine.accept(self._subject.submission(do), seq=next(self._numbers), retries=0, now=time.time())
        claimed = machine.claim(task, time.time())
        assert claimed is not None
        return Attempt(claimed, "test", time.time() + 60)

    def candidate(self, do: str = "echo") -> Candidate:
        return candidate_of(self.attempt(do).task)

    def fit(self) -> Fit:
        return self.executor.fit(self.candidate())

    def start(self, do: str) -> Running:
        attempt = self.attempt(do)
        candidate = candidate_of(attempt.task)
        assert self.executor.takes(candidate)
        assert self.executor.fit(candidate).startable
        self.executor.reserve(candidate)
        return Running(self.executor, attempt, self._report())

    async def running(self, do: str) -> Running:
        """One whose function runs."""
        started = self.start(do)
        await started.report.until("status", "RUNNING")
        await asyncio.sleep(0.2)  # into the function's own code
        return started


@pytest.fixture
def dispatcher(subject: Subject, report: Callable[[], Any]) -> Dispatcher:
    return Dispatcher(subject, report)


async def test_it_takes_the_same_apps_every_time(dispatcher: Dispatcher) -> None:
    assert {dispatcher.executor.takes(dispatcher.candidate()) for _ in range(3)} == {True}


async def test_a_task_runs_and_its_output_is_returned(dispatcher: Dispatcher) -> None:
    task = dispatcher.start("echo")
    assert await task.ended() is None
    assert "text" in task.work.result()
    assert dispatcher.fit().startable


async def test_the_worker_is_reported_first_and_the_stages_rise(dispatcher: Dispatcher) -> None:
    task = dispatcher.start("echo")
    await task.ended()
    assert next(kind for _, kind, _ in task.report.events) == "worker"
    stages = [Stage[name] for name in task.report.statuses]
    assert stages == sorted(set(stages))
    assert Stage.RUNNING in stages
    told = len(task.report.events)
    await asyncio.sleep(0.2)
    assert len(task.report.events) == told, "nothing is reported after the end"


async def test_the_apps_error_is_raised_and_its_slot_freed(dispatcher: Dispatcher) -> None:
    failed = await dispatcher.start("fail").ended()
    assert isinstance(failed, AppFailed)
    assert "no such thing" in failed.message
    assert failed.code
    assert await dispatcher.start("echo").ended() is None


async def test_what_can_never_run_is_started_and_fails_with_the_reason(dispatcher: Dispatcher) -> None:
    """Queued, it would wait for ever."""
    for _ in range(PLACES + 1):
        failed = await dispatcher.start("impossible").ended()
        assert isinstance(failed, AppFailed | MienError)
        assert failed.message
    assert dispatcher.fit().startable


async def test_a_reservation_counts_immediately_and_can_be_released(dispatcher: Dispatcher) -> None:
    candidates = [dispatcher.candidate() for _ in range(PLACES)]
    for candidate in candidates:
        assert dispatcher.executor.fit(candidate).startable
        dispatcher.executor.reserve(candidate)
    assert dispatcher.fit() is Fit.NO_CAPACITY
    dispatcher.executor.release(candidates[0].id)
    assert dispatcher.fit().startable
    dispatcher.executor.release(candidates[1].id)


async def test_there_is_no_capacity_until_one_ends(dispatcher: Dispatcher) -> None:
    running = [await dispatcher.running("wait") for _ in range(PLACES)]
    assert dispatcher.fit() is Fit.NO_CAPACITY
    running[0].stop()
    await running[0].ended()
    assert await dispatcher.start("echo").ended() is None
    running[1].stop()
    await running[1].ended()


@pytest.mark.parametrize("reason", ["cancelled", "deadline", "superseded", "shutdown"])
async def test_a_stopped_task_ends_within_its_grace(dispatcher: Dispatcher, reason: StopReason) -> None:
    task = await dispatcher.running("wait")
    task.stop(reason, grace=30.0)
    task.stop(reason, grace=20.0)  # again is fine
    assert await task.ended(15) is not None
    assert await dispatcher.start("echo").ended() is None


async def test_one_that_does_not_obey_ends_when_it_is_cancelled_after_its_grace(dispatcher: Dispatcher) -> None:
    task = await dispatcher.running("stubborn")
    task.stop()
    await asyncio.wait({task.work}, timeout=GRACE + AFTER_GRACE)
    task.work.cancel()
    assert await task.ended(15) is not None
    assert await dispatcher.start("echo").ended() is None


async def test_cancelling_its_execution_is_let_through_once_nothing_runs(dispatcher: Dispatcher) -> None:
    task = await dispatcher.running("stubborn")
    task.work.cancel()
    assert isinstance(await task.ended(15), asyncio.CancelledError)
    assert await dispatcher.start("echo").ended() is None


async def test_stopping_what_is_not_there_does_nothing(dispatcher: Dispatcher) -> None:
    task = dispatcher.start("echo")
    await task.ended()
    task.stop()
    dispatcher.executor.stop("unknown", "cancelled", 0.0)
    assert await dispatcher.start("echo").ended() is None


async def test_the_grace_period_is_seconds_or_unset(dispatcher: Dispatcher) -> None:
    for do in ("echo", "impossible"):
        grace = dispatcher.executor.grace(dispatcher.candidate(do))
        assert grace is None or grace >= 0


async def test_reaping_before_the_first_task_returns(dispatcher: Dispatcher) -> None:
    await dispatcher.executor.reap()
    assert await dispatcher.start("echo").ended() is None
