"""Responses that are sent piece by piece, to clients that may stall or disconnect."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Mapping

import structlog
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from mien.http.disconnect import disconnected

log = structlog.get_logger()
STALLED_SECONDS = 30.0
"""A client that takes no bytes for so long is given up."""


class StreamedResponse(Response, ABC):
    """A response whose length nobody knows when it begins. Subclasses write it."""

    def __init__(self, media_type: str, headers: Mapping[str, str]) -> None:
        # Proxies would otherwise collect a stream before they pass it on.
        super().__init__(headers={**headers, "Content-Type": media_type, "X-Accel-Buffering": "no"})
        del self.headers["content-length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._send = send
        self.disconnected = asyncio.create_task(disconnected(receive))
        self.disconnected.add_done_callback(lambda watch: None if watch.cancelled() else self.on_disconnect())
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            await self.send_body()
        except TimeoutError:
            # Raised on, so that the server closes the connection: the last bytes would be waited for as long again.
            log.warning("the client takes no bytes: stream given up", seconds=STALLED_SECONDS)
            raise
        finally:
            self.disconnected.cancel()
            await self.close()

    @abstractmethod
    async def send_body(self) -> None:
        """Write everything, the end included."""

    @abstractmethod
    async def close(self) -> None:
        """Release what the stream holds, however it ended."""

    def on_disconnect(self) -> None:
        """The client is gone: what still works for it should end."""

    async def write(self, data: bytes, *, more: bool = True) -> None:
        """Send a piece. Raises TimeoutError when the client takes none for half a minute."""
        async with asyncio.timeout(STALLED_SECONDS):
            await self._send({"type": "http.response.body", "body": data, "more_body": more})
