"""Responses that are sent in pieces, to clients that may stall or disconnect."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Mapping

import structlog
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from mien.http.disconnect import disconnected

log = structlog.get_logger()
STALLED_SECONDS = 30.0
"""A stream is given up when its client has read nothing for this long."""


class ClientStalled(Exception):
    """The client of a stream reads nothing: its connection is to be closed. No fault of this server."""


class StreamedResponse(Response, ABC):
    """A response whose length is not known when it starts. Subclasses write it."""

    def __init__(self, media_type: str, headers: Mapping[str, str]) -> None:
        # Proxies would otherwise buffer the stream.
        super().__init__(headers={**headers, "Content-Type": media_type, "X-Accel-Buffering": "no"})
        del self.headers["content-length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._send = send
        self.disconnected = asyncio.create_task(disconnected(receive))
        self.disconnected.add_done_callback(lambda watch: None if watch.cancelled() else self.on_disconnect())
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            if scope["method"] == "HEAD":
                await send({"type": "http.response.body", "body": b""})
            else:
                await self.send_body()
        except TimeoutError:
            # Raised, so that the server closes the connection: sending the last bytes would wait as long again.
            log.warning("client stalled: stream given up", seconds=STALLED_SECONDS)
            raise ClientStalled from None
        finally:
            self.disconnected.cancel()
            await self.close()

    @abstractmethod
    async def send_body(self) -> None:
        """Write everything, including the end."""

    @abstractmethod
    async def close(self) -> None:
        """Release what the stream holds, however it ends."""

    def on_disconnect(self) -> None:
        """Called when the client has disconnected: work for it should end."""

    async def write(self, data: bytes, *, more: bool = True) -> None:
        """Send a piece. Raises TimeoutError if the client reads nothing for STALLED_SECONDS."""
        async with asyncio.timeout(STALLED_SECONDS):
            await self._send({"type": "http.response.body", "body": data, "more_body": more})
