"""Chores run immediately and then periodically, survive failures, and end with their context."""

import asyncio

import pytest

from mien.errors import StorageFull
from mien.housekeeping import Chore, housekeeping


@pytest.mark.parametrize("failure", [StorageFull("no room"), OSError("gone")])
async def test_a_failing_chore_is_tried_again_and_holds_back_no_other(failure: Exception) -> None:
    failed = asyncio.Semaphore(0)
    done = asyncio.Semaphore(0)

    async def fails() -> None:
        failed.release()
        raise failure

    async def works() -> None:
        done.release()

    async with housekeeping([Chore(fails, 0.001, "it failed"), Chore(works, 0.001, "unused")]):
        async with asyncio.timeout(10):
            for _ in range(3):
                await failed.acquire()
                await done.acquire()


async def test_chores_end_with_their_context() -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def lasts() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with housekeeping([Chore(lasts, 60, "unused")]):
        await begun.wait()
        assert not ended.is_set()
    assert ended.is_set()
