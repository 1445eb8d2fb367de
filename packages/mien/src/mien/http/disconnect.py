"""A client that disconnects cancels its work."""

import asyncio
from types import TracebackType

from starlette.requests import Request
from starlette.types import Receive

from mien.engine.cancellation import CancelScope

DELAY_SECONDS = 0.05
"""Until the connection is watched. Most responses have been sent by then, and never need an asyncio task for it."""


async def disconnected(receive: Receive) -> None:
    """Return once the client has disconnected. The body must have been read."""
    while (await receive())["type"] != "http.disconnect":
        pass


class cancel_on_disconnect:  # noqa: N801 - used like a function
    """Context manager: while the block runs, `scope` is cancelled when the client disconnects.

    The body must have been read: two readers of one connection would steal each other's messages.
    """

    def __init__(self, request: Request, scope: CancelScope) -> None:
        self._request = request
        self._scope = scope
        self._watcher: asyncio.Task[None] | None = None

    def __enter__(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(DELAY_SECONDS, self._start)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._timer.cancel()
        if self._watcher is not None:
            self._watcher.cancel()

    def _start(self) -> None:
        self._watcher = asyncio.get_running_loop().create_task(self._watch())

    async def _watch(self) -> None:
        await disconnected(self._request.receive)
        self._scope.cancel()
