"""The thread pool runs work in order, drops work whose scope is over, and never cancels a thread."""

import asyncio
import threading
from collections.abc import Iterator

import pytest

from mien.engine.cancellation import CancelScope
from mien.engine.threads import ThreadPool
from mien.errors import Cancelled, DeadlineExceeded


@pytest.fixture
def pool() -> Iterator[ThreadPool]:
    made = ThreadPool(1)
    yield made
    made.close()


async def test_work_runs_in_a_thread_of_the_pool(pool: ThreadPool) -> None:
    name = await pool.run(CancelScope(), lambda: threading.current_thread().name)
    assert name.startswith("mien-work")


async def test_errors_of_the_work_reach_the_caller(pool: ThreadPool) -> None:
    with pytest.raises(ZeroDivisionError):
        await pool.run(CancelScope(), lambda: 1 / 0)


async def test_work_is_first_come_first_served(pool: ThreadPool) -> None:
    order: list[int] = []
    await asyncio.gather(*(pool.run(CancelScope(), order.append, n) for n in range(20)))
    assert order == list(range(20))


async def test_work_whose_turn_comes_too_late_is_not_started(pool: ThreadPool) -> None:
    hold, started = threading.Event(), []
    first = asyncio.create_task(pool.run(CancelScope(), hold.wait, 5))
    call = CancelScope(0.05)
    late = asyncio.create_task(pool.run(call, started.append, 1))
    gone = CancelScope()
    cancelled = asyncio.create_task(pool.run(gone, started.append, 2))
    await asyncio.sleep(0.1)
    gone.cancel()
    hold.set()
    await first
    with pytest.raises(DeadlineExceeded):
        await late
    with pytest.raises(Cancelled):
        await cancelled
    assert started == []


async def test_cancelling_the_awaiting_task_cancels_the_scope(pool: ThreadPool) -> None:
    hold, call = threading.Event(), CancelScope()
    task = asyncio.create_task(pool.run(call, hold.wait, 5))
    await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert call.cancelled
    hold.set()
