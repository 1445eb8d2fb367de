"""A client that hangs up cancels its work. For requests that are mostly over before anybody could hang up."""

import asyncio
from types import TracebackType

from starlette.requests import Request

from mien.engine.call import Call

PATIENCE_SECONDS = 0.05  # until the connection is looked at: most answers are out by then, and need no task for it


class Hangup:
    """Context manager: while the block runs, `call` is cancelled when the client disconnects. The body must be read."""

    def __init__(self, request: Request, call: Call) -> None:
        self._request = request
        self._call = call
        self._task: asyncio.Task[None] | None = None

    def __enter__(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(PATIENCE_SECONDS, self._begin)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._timer.cancel()
        if self._task is not None:
            self._task.cancel()

    def _begin(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._watch())

    async def _watch(self) -> None:
        while (await self._request.receive())["type"] != "http.disconnect":
            pass
        self._call.cancel()
