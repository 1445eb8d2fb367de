"""Metrics of workers."""

from typing import Any

import pytest

from mien.tasks.executor import AppFailed, WorkerLost
from testing.waiting import eventually_async

PROBE = "local/probe"


def value(server: Any, name: str, **labels: str) -> float:
    return server.metrics.registry.get_sample_value(name, {"app": PROBE, **labels}) or 0.0


async def test_workers_are_counted_by_app_and_state(probe: Any) -> None:
    server, app = await probe("await asyncio.sleep(float(app_input.text or 0))", app_idle_seconds=0.3)
    assert "mien_workers{" not in server.metrics.render().decode()
    _, report, work = server.submit(app, {"text": "1.5"})
    assert value(server, "mien_workers", state="starting") == 1
    await report.until("status", "RUNNING")
    assert value(server, "mien_workers", state="busy") == 1
    await work
    assert value(server, "mien_workers", state="idle") == 1
    assert value(server, "mien_worker_starts_total", outcome="ready") == 1
    assert value(server, "mien_worker_setup_seconds_count") == 1
    await eventually_async(lambda: value(server, "mien_worker_evictions_total", reason="idle") == 1)
    await eventually_async(lambda: "mien_workers{" not in server.metrics.render().decode())
    assert value(server, "mien_worker_crashes_total", reason="exited") == 0


async def test_evictions_are_counted_by_reason(probe: Any) -> None:
    server, app = await probe(app_workers=1)
    await server.run(app, setup={"a": 1})
    await server.run(app, setup={"a": 2})
    assert value(server, "mien_worker_evictions_total", reason="room") == 1


CRASHES = [
    ("os._exit(0)", "exited", 1),
    ("os.kill(os.getpid(), 11)", "signal", 1),
    ("os.kill(os.getppid(), 9); time.sleep(20)", "signal", 2),
    ("hog = []\nfor _ in range(80):\n    hog.append(b'x' * (10 << 20))\n    time.sleep(0.01)", "memory", 1),
]


async def test_crashes_are_counted_by_reason(probe: Any) -> None:
    server, app = await probe("exec(app_input.do)", app_memory=256 << 20)
    for do, reason, count in CRASHES:
        with pytest.raises(WorkerLost):
            await server.run(app, {"do": do})
        assert value(server, "mien_worker_crashes_total", reason=reason) == count, do
        await server.run(app)  # else it is not started again for a while


async def test_a_failed_start_is_not_a_crash(app_server: Any, app_folder: Any) -> None:
    code = (
        "from infsh import BaseApp, BaseAppInput, BaseAppOutput\n"
        "class App(BaseApp):\n"
        "    async def setup(self): raise OSError('no weights')\n"
        "    async def run(self, app_input: BaseAppInput) -> BaseAppOutput: return BaseAppOutput()\n"
    )
    server = app_server()
    app = await server.deploy(app_folder("probe", code=code))
    with pytest.raises(AppFailed):
        await server.run(app)
    assert value(server, "mien_worker_starts_total", outcome="failed") == 1
    assert "mien_worker_crashes_total{" not in server.metrics.render().decode()
