"""A client that hangs up cancels its work."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.requests import Request

from mien.engine.call import Call


@asynccontextmanager
async def cancelled_by_disconnect(request: Request, call: Call) -> AsyncIterator[None]:
    """While the block runs, cancel `call` when the client disconnects. The body must have been read."""

    async def watch() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        call.cancel()

    watcher = asyncio.create_task(watch())
    try:
        yield
    finally:
        watcher.cancel()
