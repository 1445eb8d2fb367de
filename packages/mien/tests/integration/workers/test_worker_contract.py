"""The conformance suite of workers. Add another implementation's start function to `STARTS`."""

import asyncio
import itertools
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from mien.apps.environment import EnvironmentSpec
from mien.apps.environments import Environments
from mien.apps.process import ProcessLimits
from mien.encoded import Encoded
from mien.workers.listener import AppError, NullListener, RunCancelled, WorkerGone
from mien.workers.local_process import LocalWorker
from mien.workers.worker import StartWorker, Worker, WorkerSpec

STARTS: list[StartWorker] = [LocalWorker.start]

APP = """
import asyncio, os, time
from infsh import BaseApp, BaseAppInput, BaseAppOutput, File

class AppInput(BaseAppInput):
    do: str = ""

class AppOutput(BaseAppOutput):
    text: str = ""

class App(BaseApp):
    concurrency = 2

    async def setup(self, config: dict):
        if config.get("fail"):
            raise OSError("no weights")
        self.runs = 0

    async def run(self, app_input: AppInput) -> AppOutput:
        self.runs += 1
        print("running", self.runs, flush=True)
        match app_input.do:
            case "raise": raise ValueError("no such thing")
            case "wait": await asyncio.sleep(60)
            case "block": time.sleep(60)
            case "die": os._exit(7)
        return AppOutput(text=str(self.runs))

    async def other(self, app_input: AppInput) -> AppOutput:
        return AppOutput(text="other")
"""


class Lines(NullListener):
    """Records what the app prints."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def log(self, text: str) -> None:
        self.lines.append(text)

    async def until(self, line: str) -> None:
        deadline = time.monotonic() + 30
        while line not in self.lines:
            assert time.monotonic() < deadline, self.lines
            await asyncio.sleep(0.005)


Make = Callable[..., Awaitable[Worker]]


@pytest.fixture(params=STARTS, ids=lambda start: start.__self__.__name__)
async def make(request: pytest.FixtureRequest, tmp_path: Path, apps_cache: Path) -> AsyncIterator[Make]:
    """Starts workers: `await make(code)`; remaining ones are killed."""
    environment = await Environments(apps_cache / "environments").ensure(EnvironmentSpec())
    numbers, workers = itertools.count(1), []

    async def start(code: str = APP, **fields: Any) -> Worker:
        number = next(numbers)
        content = tmp_path / f"content-{number}"
        content.mkdir()
        (content / "inference.py").write_text(code)
        (content / "inf.yml").write_text("name: probe\n")
        spec = WorkerSpec(f"w{number}", environment, content, tmp_path / f"w{number}", ProcessLimits(2**30), **fields)
        worker: Worker = await request.param(spec, NullListener())
        workers.append(worker)
        return worker

    yield start
    for worker in workers:
        await worker.kill_and_wait()


async def ready(make: Make, **fields: Any) -> Worker:
    worker = await make(**fields)
    assert await worker.setup({}, {}, NullListener()) >= 0
    return worker


def run(worker: Worker, number: int, do: str = "", listener: NullListener | None = None) -> "asyncio.Task[Any]":
    given = {"do": do}
    return asyncio.create_task(worker.run(f"r{number}", None, Encoded.of(given), {}, listener or NullListener()))


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_it_runs_functions_in_one_instance_until_it_is_unloaded(make: Make) -> None:
    worker = await ready(make)
    pid = worker.pid
    assert pid is not None
    assert worker.concurrency == 2
    assert (await run(worker, 1))["text"] == "1"
    assert (await run(worker, 2))["text"] == "2"
    assert (await worker.run("r3", "other", Encoded.of({}), {}, NullListener()))["text"] == "other"
    await worker.unload(5)
    assert worker.gone.is_set()
    assert worker.ended
    assert worker.why is not None
    assert worker.why.stop_requested
    assert not alive(pid)
    assert not worker.spec.folder.exists()


async def test_an_import_that_fails_is_the_apps_error_and_leaves_nothing(make: Make, tmp_path: Path) -> None:
    with pytest.raises(AppError, match="no_such_module") as caught:
        await make("import no_such_module")
    assert caught.value.kind == "load"
    assert not (tmp_path / "w1").exists()


async def test_an_import_that_takes_too_long_is_given_up(make: Make, tmp_path: Path) -> None:
    with pytest.raises((AppError, WorkerGone)):
        await make("import time; time.sleep(60)", start_seconds=1.0)
    assert not (tmp_path / "w1").exists()


async def test_a_setup_that_fails_is_the_apps_error_and_ends_the_worker(make: Make) -> None:
    worker = await make()
    with pytest.raises(AppError, match="no weights") as caught:
        await worker.setup({"fail": True}, {}, NullListener())
    assert caught.value.kind == "setup"
    await worker.gone.wait()
    assert worker.ended


async def test_an_error_fails_only_its_run_and_the_worker_survives(make: Make) -> None:
    worker = await ready(make)
    with pytest.raises(AppError, match="no such thing") as caught:
        await run(worker, 1, "raise")
    assert caught.value.kind == "app"
    assert (await run(worker, 2))["text"] == "2"


async def test_what_a_run_prints_is_heard_before_it_ends(make: Make) -> None:
    worker, lines = await ready(make), Lines()
    await run(worker, 1, listener=lines)
    assert lines.lines == ["running 1"]


async def test_runs_of_a_dying_worker_fail_only_once_it_is_gone(make: Make) -> None:
    worker, lines = await ready(make), Lines()
    waiting = run(worker, 1, "wait", lines)
    await lines.until("running 1")
    for failing in (run(worker, 2, "die"), waiting):
        with pytest.raises(WorkerGone, match="status 7") as caught:
            await failing
        assert worker.gone.is_set()
        assert caught.value.kind == "exited"
        assert not caught.value.stop_requested
    with pytest.raises(WorkerGone):
        await run(worker, 3)


async def test_a_cancelled_run_ends_within_its_grace_period_and_the_worker_survives(make: Make) -> None:
    worker, lines = await ready(make), Lines()
    waiting = run(worker, 1, "wait", lines)
    await lines.until("running 1")
    worker.cancel("r1", 30)
    with pytest.raises(RunCancelled):
        await waiting
    assert (await run(worker, 2))["text"] == "2"


@pytest.mark.parametrize("grace", [0.0, 0.3])
async def test_a_run_that_does_not_end_within_its_grace_takes_the_worker_along(make: Make, grace: float) -> None:
    worker, lines = await ready(make), Lines()
    blocked = run(worker, 1, "block", lines)
    await lines.until("running 1")
    worker.cancel("r1", grace)
    with pytest.raises(WorkerGone) as caught:
        await blocked
    assert caught.value.stop_requested
    assert worker.gone.is_set()


async def test_cancelling_what_does_not_run_does_nothing(make: Make) -> None:
    worker = await ready(make)
    await run(worker, 1)
    worker.cancel("r1", 0)
    worker.cancel("unknown", 0)
    assert (await run(worker, 2))["text"] == "2"


async def test_killing_waits_for_the_end_even_when_it_is_cancelled(make: Make) -> None:
    worker = await ready(make)
    killing = asyncio.create_task(worker.kill_and_wait())
    for _ in range(3):
        await asyncio.sleep(0)
        killing.cancel()
    await asyncio.wait({killing})
    assert worker.gone.is_set()
