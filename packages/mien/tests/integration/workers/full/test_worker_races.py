"""Races: a worker that dies, or a cancellation that arrives, between two steps."""

import asyncio
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mien.apps.process import GuardedProcess, ProcessLimits
from mien.encoded import Encoded
from mien.tasks.executor import AppFailed, WorkerLost
from mien.tasks.records import Attempt, candidate_of
from mien.workers.files import NoFiles, OutputFile
from mien.workers.fit import Fit
from testing.waiting import eventually_async

from ..conftest import Report, task_of

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")

MANY = "name: many\nconcurrency: 4\n"


def reserved(server: Any, app: Any, number: int) -> Callable[[], Any]:
    """Reserve a slot for a task now; the returned function executes it."""
    task = task_of(app, {}, number)
    server.executor.reserve(candidate_of(task))
    return lambda: server.executor.execute(Attempt(task, "test", time.time() + 60), Report())


async def test_a_reservation_whose_worker_dies_gets_a_new_one_that_stays_warm(probe: Any) -> None:
    server, app = await probe(app_workers=1)
    await server.run(app)
    execute = reserved(server, app, 7)
    worker = server.pool.slots[0].worker
    os.kill(worker.pid, 9)
    await eventually_async(worker.gone.is_set)
    assert (await execute())["text"] == "1 "
    assert server.fit(app) is Fit.WARM
    assert (await server.run(app))[0]["text"] == "2 "


async def test_several_reservations_whose_worker_dies_share_the_new_one(app_server: Any, app_folder: Any) -> None:
    server = app_server(app_workers=1)
    app = await server.deploy(app_folder("many", inf=MANY))
    await server.run(app)
    waiting = [reserved(server, app, number) for number in (7, 8, 9)]
    worker = server.pool.slots[0].worker
    os.kill(worker.pid, 9)
    await eventually_async(worker.gone.is_set)
    outputs = await asyncio.gather(*[execute() for execute in waiting])
    assert sorted(output["text"] for output in outputs) == ["1 ", "2 ", "3 "]
    assert server.fit(app) is Fit.WARM


async def test_a_crash_counts_once_however_many_runs_it_takes_along(app_server: Any, app_folder: Any) -> None:
    server = app_server(app_crashes=2)
    body = "if app_input.do: os._exit(7)\nawait asyncio.sleep(20 if app_input.text == 'long' else 0)"
    app = await server.deploy(app_folder("many", body=body, inf=MANY))
    await server.run(app)
    works = [server.submit(app, {"text": "long"}) for _ in range(3)]
    for _, report, _ in works:
        await report.until("status", "RUNNING")
    with pytest.raises(WorkerLost):
        await server.run(app, {"do": "die"})
    for _, _, work in works:
        with pytest.raises(WorkerLost):
            await work
    assert (await server.run(app))[0]["text"] == "1 "


async def test_a_stop_that_comes_after_the_end_of_a_run_does_not_touch_the_worker(probe: Any) -> None:
    server, app = await probe("if app_input.do: raise ValueError('no')")
    for seconds in (5.0, 0.0):
        with pytest.raises(AppFailed):
            await server.run(app, {"do": "fail"})
        worker = server.pool.slots[0].worker
        worker.cancel("task0000000000000000000001.1", seconds)
    assert (await server.run(app))[0]["text"] == "3 "


class Gate(NoFiles):
    """A file gate so slow that the worker is dead before the files are ready."""

    def __init__(self, *, dies_at: str) -> None:
        self.dies_at = dies_at
        self.pid = 0

    async def fetch(self, task_id: str, owner: str, given: Encoded, folder: Path) -> Encoded:
        if self.dies_at == "fetch" and self.pid:
            os.kill(self.pid, 9)
            await eventually_async(lambda: not folder.exists())
            (folder / "input").write_text("x")
        return given

    async def store(self, task_id: str, owner: str, file: OutputFile) -> Any:
        os.kill(self.pid, 9)
        await eventually_async(lambda: not file.path.exists())
        return file.path.read_text()


@pytest.mark.parametrize("step", ["fetch", "store"])
async def test_a_worker_that_dies_while_files_are_moved_is_lost_and_no_fault_of_the_task(
    app_server: Any, app_folder: Any, step: str
) -> None:
    code = (
        "from infsh import BaseApp, BaseAppInput, BaseAppOutput, File\n"
        "class Input(BaseAppInput):\n    make: bool = False\n"
        "class Output(BaseAppOutput):\n    file: File | None = None\n"
        "class App(BaseApp):\n"
        "    def run(self, given: Input) -> Output:\n"
        "        open('made', 'w').close()\n"
        "        return Output(file=File(path='made') if given.make else None)\n"
    )
    gate = Gate(dies_at=step)
    server = app_server(files=gate)
    app = await server.deploy(app_folder("files", code=code))
    await server.run(app)
    gate.pid = server.pool.slots[0].worker.pid
    with pytest.raises(WorkerLost, match="SIGKILL"):
        await server.run(app, {"make": step == "store"})
    assert server.pool.slots == ()


async def test_capacity_is_not_reused_before_the_worker_that_held_it_is_gone(app_server: Any, app_folder: Any) -> None:
    slow = (
        "import time\n"
        "from infsh import BaseApp, BaseAppInput, BaseAppOutput\n"
        "class App(BaseApp):\n"
        "    def run(self, given: BaseAppInput) -> BaseAppOutput: return BaseAppOutput()\n"
        "    def unload(self): time.sleep(1.5)\n"
    )
    server = app_server(app_workers=1)
    first = await server.deploy(app_folder("first", code=slow))
    second = await server.deploy(app_folder("second"))
    await server.run(first)
    worker = server.pool.slots[0].worker
    task_id, report, work = server.submit(second)  # evicts the worker of the first
    await report.until("status", "PREPARING")
    server.executor.stop(task_id, "cancelled", 5.0)
    with pytest.raises(AppFailed):
        await work
    assert not worker.gone.is_set()
    assert server.fit(second) is Fit.NO_CAPACITY
    await eventually_async(lambda: server.fit(second) is not Fit.NO_CAPACITY)
    assert worker.gone.is_set()
    await server.run(second)
    assert server.pool.slots[0].predecessors == []


async def test_being_cancelled_twice_does_not_leave_a_worker_behind(probe: Any) -> None:
    server, app = await probe("time.sleep(20)")
    _, report, work = server.submit(app)
    await report.until("status", "RUNNING")
    worker = server.pool.slots[0].worker
    for _ in range(3):
        work.cancel()
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await work
    assert worker.gone.is_set()
    assert server.pool.slots == ()


async def test_a_process_that_exited_by_itself_is_not_reported_as_killed(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "go")
    process = await GuardedProcess.start(
        ["/bin/sh", "-c", "read -r line < go; exit 3"], environment={}, folder=tmp_path, limits=ProcessLimits(2**30)
    )
    await eventually_async(lambda: process.pid)
    os.kill(process._guardian.pid, 19)  # the guardian sleeps through both: the end, and the order to kill
    (tmp_path / "go").write_text("\n")
    await eventually_async(lambda: "Z" in Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2])
    process.kill()
    await asyncio.sleep(0.1)
    os.kill(process._guardian.pid, 18)
    ended = await process.wait()
    assert (ended.status, ended.reason) == (3, "")
