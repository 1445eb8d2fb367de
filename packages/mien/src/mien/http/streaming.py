"""Responses that are sent in pieces, to clients that may stall or disconnect."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Mapping

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from mien.http.disconnect import disconnected


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
        """Send a piece, once the client has taken most of those before. One that reads nothing is disconnected."""
        await self._send({"type": "http.response.body", "body": data, "more_body": more})
