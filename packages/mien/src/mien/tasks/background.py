"""Background loops that must survive any error: all tasks depend on them."""

import asyncio
from collections.abc import Awaitable
from contextlib import suppress

import structlog

from mien.errors import MienError

log = structlog.get_logger()

PAUSE_AFTER_FAILURE = 0.2
PAUSE_AFTER_BUG = 1.0
"""Long enough that a bug which recurs at once neither floods the log nor uses up the CPU."""


async def guarded(what: str, work: Awaitable[object]) -> None:
    """Await `work`; log its exception instead of raising it. Neither a disk that is full for a while nor a bug in the
    placement of one task may end the loop that runs all others."""
    try:
        await work
    except MienError as error:
        log.error("the task store failed and is tried again", while_=what, error=error.message)
        await asyncio.sleep(PAUSE_AFTER_FAILURE)
    except Exception as error:
        log.error("the scheduler failed and goes on", while_=what, exc_info=error)
        await asyncio.sleep(PAUSE_AFTER_BUG)


async def stopped(loop: "asyncio.Task[None]") -> None:
    """Cancel the loop and wait for its end."""
    loop.cancel()
    with suppress(asyncio.CancelledError):
        await loop
