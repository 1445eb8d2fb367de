"""Streamed answers: every message is an event, sent at once, and the last event is final whatever happens."""

import asyncio
from contextlib import ExitStack

import structlog
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from mien.engine.call import Call
from mien.errors import Cancelled, InternalError, MienError
from mien.http.lumen.framing import Framing, error_event, result_event
from mien.http.lumen.messages import Messages
from mien.http.lumen.results import correlation
from mien.http.lumen.traffic import Outcome
from mien.inference.contract import InferResult
from mien.metrics import Metrics

log = structlog.get_logger()
HEARTBEAT_SECONDS = 15.0
STALLED_SECONDS = 30.0  # a client that takes no bytes for so long is given up
AHEAD = 4  # messages that a service may be ahead of its client


class Pump:
    """Reads a service's messages in one task of its own, so that whoever waits for them can do other things too."""

    def __init__(self, messages: Messages) -> None:
        self._messages = messages
        self._queue: asyncio.Queue[InferResult | MienError] = asyncio.Queue(AHEAD)
        self._task = asyncio.create_task(self._run())

    async def next(self) -> InferResult:
        """The next message. Raises MienError."""
        item = await self._queue.get()
        if isinstance(item, MienError):
            raise item
        return item

    async def close(self) -> None:
        """End the service's work."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        try:
            message = InferResult()
            while not message.is_final:
                message = await self._messages.next()
                await self._queue.put(message)
        except MienError as error:
            await self._queue.put(error.without_frames())
        except Exception as error:
            log.error("the service failed", exc_info=error)
            await self._queue.put(InternalError("the server failed; its log has the details under the request id"))
        finally:
            await self._messages.close()


class EventStream(Response):
    """The answer to a `_stream` request whose first message is there already."""

    def __init__(
        self,
        first: InferResult,
        pump: Pump,
        call: Call,
        *,
        framing: Framing,
        correlation_id: str,
        decode: bool,
        metrics: Metrics,
    ) -> None:
        headers = {
            **correlation(correlation_id),
            "Content-Type": framing.media_type,
            "Cache-Control": "no-cache",
            "X-Accel-Buffering": "no",
        }
        super().__init__(headers=headers)
        del self.headers["content-length"]
        self._first, self._pump, self._call = first, pump, call
        self._framing, self._correlation_id, self._decode = framing, correlation_id, decode
        self._metrics = metrics
        self._room = ExitStack()
        self._number = 0
        self._good = False

    def take(self, room: ExitStack, outcome: Outcome) -> None:
        """Hold the request's room, and its place in the counts, until the stream has ended."""
        self._room = room
        self._room.callback(lambda: outcome.finish(good=self._good))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        watcher = asyncio.create_task(self._watch(receive))
        try:
            with self._room:
                await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
                self._good = await self._send_events(send)
        finally:
            watcher.cancel()
            self._call.cancel()
            await self._pump.close()

    async def _watch(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._call.cancel()

    async def _send_events(self, send: Send) -> bool:
        """Whether all events were sent and none was an error."""
        message = self._first
        try:
            while True:
                event = result_event(
                    message, number=self._number, correlation_id=self._correlation_id, decode=self._decode
                )
                await self._write(send, self._framing.encode(event, self._number), more=not message.is_final)
                if message.is_final:
                    return True
                self._number += 1
                message = await self._next(send)
        except Cancelled:
            return False
        except TimeoutError:
            log.warning("the client takes no bytes: stream given up", seconds=STALLED_SECONDS)
            raise
        except MienError as error:
            self._metrics.errors.labels(error.code).inc()
            event = error_event(error.without_frames(), number=self._number, correlation_id=self._correlation_id)
            await self._write(send, self._framing.encode(event, self._number), more=False)
            return False

    async def _next(self, send: Send) -> InferResult:
        if not self._framing.heartbeat:
            return await self._pump.next()
        waiting = asyncio.ensure_future(self._pump.next())
        try:
            while not (await asyncio.wait({waiting}, timeout=HEARTBEAT_SECONDS))[0]:
                await self._write(send, self._framing.heartbeat, more=True)
            return waiting.result()
        finally:
            waiting.cancel()

    async def _write(self, send: Send, data: bytes, *, more: bool) -> None:
        async with asyncio.timeout(STALLED_SECONDS):
            await send({"type": "http.response.body", "body": data, "more_body": more})
