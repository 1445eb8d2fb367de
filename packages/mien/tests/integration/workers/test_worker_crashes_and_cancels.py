"""What happens when an app dies, hangs, exceeds its memory or refuses to stop. Every loop and fork here is bounded."""

import asyncio
import os
import time
from pathlib import Path
from typing import Any

import pytest

from mien.errors import AppBroken
from mien.tasks.executor import AppFailed, WorkerLost
from mien.workers.fit import Fit

SLACK = 1.0
"""Seconds after the grace period within which a slot must be free."""


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


CRASHES = {
    "os._exit(3)": "the worker exited with status 3",
    "import ctypes; ctypes.string_at(0)": r"the worker was killed by SIGSEGV \(a crash in native code\)",
    "os.abort()": r"the worker was killed by SIGABRT \(a crash in native code\)",
    "os.kill(os.getpid(), 9)": "the worker was killed by SIGKILL",
    "os.kill(os.getppid(), 9); time.sleep(20)": "the worker was killed by SIGKILL",
}


async def test_a_crash_is_reported_and_the_worker_replaced(probe: Any) -> None:
    server, app = await probe("exec(app_input.do)")
    await server.run(app)
    for do, reason in CRASHES.items():
        with pytest.raises(WorkerLost, match=reason):
            await server.run(app, {"do": do})
        assert server.pool.slots == (), do
        assert list((server.settings.locations.data_dir / "workers").glob("*/worker-*")) == [], do
        output, report = await server.run(app)
        assert output["text"] == "1 ", do
        assert "SETTING_UP" in report.statuses, do


async def test_a_worker_that_dies_while_idle_is_not_used_again(probe: Any) -> None:
    server, app = await probe("import threading; threading.Timer(1.5, os._exit, (5,)).start()")
    await server.run(app)
    assert server.fit(app) is Fit.WARM
    for _ in range(400):
        if not server.pool.slots:
            break
        await asyncio.sleep(0.05)
    assert server.pool.slots == ()
    assert server.fit(app) is Fit.ENVIRONMENT


async def test_memory_is_limited(probe: Any) -> None:
    body = "hog = []\nfor _ in range(80):\n    hog.append(b'x' * (10 << 20))\n    time.sleep(0.01)"
    server, app = await probe(body, app_memory=256 << 20)
    with pytest.raises(WorkerLost, match=r"ran out of memory: it exceeded its limit of 0\.25 GiB"):
        await server.run(app)
    assert server.fit(app) is not Fit.NO_CAPACITY


@pytest.mark.full
async def test_children_count_as_the_workers_memory_and_die_with_it(probe: Any, tmp_path: Path) -> None:
    body = (
        f"for number in range(4):\n"
        f"    if os.fork() == 0:\n"
        f"        os.setsid()\n"
        f"        open('{tmp_path}/' + str(os.getpid()), 'w').close()\n"
        f"        hog = b'x' * (90 << 20)\n"
        f"        time.sleep(20)\n"
        f"        os._exit(0)\n"
        f"await asyncio.sleep(20)"
    )
    server, app = await probe(body, app_memory=256 << 20)
    with pytest.raises(WorkerLost, match="ran out of memory"):
        await server.run(app)
    pids = [int(path.name) for path in tmp_path.iterdir() if path.name.isdigit()]
    assert pids
    assert [pid for pid in pids if alive(pid)] == []


COOPERATIVE = """
import asyncio
from infsh import BaseApp, BaseAppInput, BaseAppOutput

class App(BaseApp):
    async def setup(self):
        self.stop = asyncio.Event()

    async def run(self, app_input: BaseAppInput) -> BaseAppOutput:
        await self.stop.wait()
        return BaseAppOutput()

    async def on_cancel(self):
        self.logger.info("asked to stop")
        self.stop.set()
"""


async def test_an_app_that_cancels_cooperatively_keeps_its_worker(app_server: Any, app_folder: Any) -> None:
    server = app_server()
    app = await server.deploy(app_folder("polite", code=COOPERATIVE))
    task_id, report, work = server.submit(app)
    await report.until("status", "RUNNING")
    await asyncio.sleep(0.1)
    started = time.monotonic()
    server.executor.stop(task_id, "cancelled", 10.0)
    await asyncio.wait({work})
    assert time.monotonic() - started < 4  # after 5 s it would be cancelled, not asked
    work.exception()
    assert "INFO: asked to stop" in report.lines
    assert server.fit(app) is Fit.WARM


@pytest.mark.parametrize(("body", "grace"), [
    ("sum(range(3 * 10**9))", 0.3),  # C code that holds the GIL for a minute
    ("time.sleep(30)", 0.0),
    ("import signal; signal.signal(15, signal.SIG_IGN); signal.signal(2, signal.SIG_IGN); time.sleep(30)", 0.3),
    ("for _ in range(300):\n    try:\n        await asyncio.sleep(0.1)\n    except asyncio.CancelledError: pass", 0.3),
    ("import subprocess; subprocess.run(['sleep', '30'])", 0.3),
], ids=["c-code", "blocking", "ignores-sigterm", "swallows-cancel", "subprocess"])  # fmt: skip
async def test_an_app_that_does_not_stop_frees_its_slot_in_time(probe: Any, body: str, grace: float) -> None:
    server, app = await probe(body, app_workers=1)
    task_id, report, work = server.submit(app)
    await report.until("status", "RUNNING")
    await asyncio.sleep(0.2)
    pid = server.pool.slots[0].worker.pid
    started = time.monotonic()
    server.executor.stop(task_id, "cancelled", grace)
    await asyncio.wait({work})
    took = time.monotonic() - started
    assert work.exception() is not None
    assert took < grace + SLACK
    assert not alive(pid)
    assert server.fit(app) in (Fit.ENVIRONMENT, Fit.COLD)


@pytest.mark.full
async def test_a_kill_reaches_children_in_sessions_of_their_own(probe: Any, tmp_path: Path) -> None:
    body = (
        f"for number in range(5):\n"
        f"    if os.fork() == 0:\n"
        f"        os.setsid()\n"
        f"        if os.fork():\n"
        f"            os._exit(0)\n"
        f"        open('{tmp_path}/' + str(os.getpid()), 'w').close()\n"
        f"        time.sleep(20)\n"
        f"        os._exit(0)\n"
        f"await asyncio.sleep(20)"
    )
    server, app = await probe(body)
    task_id, report, work = server.submit(app)
    await report.until("status", "RUNNING")
    await asyncio.sleep(0.3)
    pids = [int(path.name) for path in tmp_path.iterdir() if path.name.isdigit()]
    assert len([pid for pid in pids if alive(pid)]) == 5
    server.executor.stop(task_id, "cancelled", 0.0)
    await asyncio.wait({work})
    work.exception()
    assert [pid for pid in pids if alive(pid)] == []


async def test_a_task_is_stopped_while_its_setup_runs(app_server: Any, app_folder: Any) -> None:
    code = COOPERATIVE.replace("self.stop = asyncio.Event()", "print('setting up'); await asyncio.sleep(20)")
    server = app_server()
    app = await server.deploy(app_folder("slow", code=code))
    task_id, report, work = server.submit(app)
    await report.until("log", "setting up")
    started = time.monotonic()
    server.executor.stop(task_id, "cancelled", 15.0)
    await asyncio.wait({work})
    assert time.monotonic() - started < 10  # and not the grace
    assert isinstance(work.exception(), AppFailed)
    assert server.pool.slots == ()


@pytest.mark.full
async def test_setup_has_a_time_limit(app_server: Any, app_folder: Any) -> None:
    code = COOPERATIVE.replace("self.stop = asyncio.Event()", "import time; time.sleep(20)")
    server = app_server(app_setup_seconds=0.3)
    app = await server.deploy(app_folder("slow", code=code))
    with pytest.raises(AppFailed, match=r"did not finish its setup within 0\.3 s"):
        await server.run(app)
    assert server.pool.slots == ()


@pytest.mark.full
async def test_the_last_resort_kills_the_worker(probe: Any) -> None:
    server, app = await probe("time.sleep(20)")
    _, report, work = server.submit(app)
    await report.until("status", "RUNNING")
    pid = server.pool.slots[0].worker.pid
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert not alive(pid)
    assert server.pool.slots == ()


@pytest.mark.full
async def test_an_app_that_crashes_again_and_again_gets_a_pause(probe: Any) -> None:
    server, app = await probe("os._exit(7)", app_crashes=2)
    for _ in range(2):
        with pytest.raises(WorkerLost, match="exited with status 7"):
            await server.run(app)
    with pytest.raises(AppBroken, match="2 times in a row.*exited with status 7") as caught:  # noqa: RUF043
        await server.run(app)
    assert caught.value.retry_after is not None
    assert server.pool.slots == ()


@pytest.mark.full
async def test_an_app_that_is_redeployed_is_started_again_immediately(
    probe: Any, app_folder: Any, tmp_path: Path
) -> None:
    cause = tmp_path / "cause"
    cause.touch()
    body = f"if os.path.exists('{cause}'): os._exit(7)"
    server, app = await probe(body, app_crashes=1)
    with pytest.raises(WorkerLost):
        await server.run(app)
    with pytest.raises(AppBroken):
        await server.run(app)
    cause.unlink()
    again = await server.deploy(tmp_path / "sources" / "probe")
    assert again.version.version == app.version.version
    output, _ = await server.run(app)
    assert output["text"] == "1 "


@pytest.mark.full
async def test_neighbours_are_not_disturbed(probe: Any) -> None:
    server, app = await probe("if app_input.do: os._exit(1)\nawait asyncio.sleep(0.4)")
    _, report, well = server.submit(app, {"text": "well"})
    await report.until("status", "RUNNING")
    with pytest.raises(WorkerLost):
        await server.run(app, {"do": "die"})
    assert (await well)["text"] == "1 well"


@pytest.mark.full
async def test_output_floods_do_not_block_or_fill_the_server(probe: Any) -> None:
    server, app = await probe("sys.stdout.write('x' * 3_000_000); print(); print('after')")
    _, report = await server.run(app)
    assert "after" in report.lines
    assert max(len(line) for line in report.lines) <= 16_384 * 4


def test_pids_that_do_not_exist_are_not_alive() -> None:
    assert alive(os.getpid())
    assert not alive(2**22 + 1)
