"""Draining: begun once, by whoever is first; streams end when it is over, and the context waits for it."""

import asyncio

from mien.tasks.draining import Drain


class Tasks:
    """A scheduler whose tasks end when the test says so."""

    def __init__(self) -> None:
        self.drained: list[float] = []
        self.over = asyncio.Event()

    async def drain(self, seconds: float) -> None:
        self.drained.append(seconds)
        await self.over.wait()


async def test_streams_end_when_tasks_have_and_not_before() -> None:
    tasks = Tasks()
    drain = Drain(tasks, 30.0)  # type: ignore[arg-type]
    draining = drain.begin()
    drain.begin()
    await asyncio.sleep(0)
    assert tasks.drained == [30.0]
    assert not drain.stopping.is_set()
    tasks.over.set()
    await draining
    assert drain.stopping.is_set()


async def test_the_context_waits_for_tasks_whether_or_not_the_drain_was_begun() -> None:
    tasks = Tasks()

    async def server() -> None:
        async with Drain(tasks, 5.0):  # type: ignore[arg-type]
            pass

    stopping = asyncio.create_task(server())
    await asyncio.sleep(0.01)
    assert tasks.drained == [5.0]
    assert not stopping.done()
    tasks.over.set()
    await stopping
