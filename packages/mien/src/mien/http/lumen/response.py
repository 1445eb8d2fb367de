"""Responses of `POST /v1/infer`: a whole result, or a stream of events whose last one is final whatever happens."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any
from urllib.parse import quote

import orjson
import pybase64
import structlog
from starlette.responses import Response

from mien.engine.cancellation import CancelScope
from mien.errors import InternalError, MienError
from mien.http.codecs import json_response
from mien.http.lumen.messages import PrefetchingReader
from mien.http.lumen.schema import InferAnswer, InferData, InferEvent
from mien.http.lumen.traffic import Outcome
from mien.http.media import BYTES, EVENT_STREAM, JSON, NDJSON, NDJSON_TYPES, bare
from mien.http.streaming import StreamedResponse
from mien.http.untrusted import untrusted_headers
from mien.inference.contract import InferResult
from mien.metrics import Metrics

log = structlog.get_logger()
HEARTBEAT_SECONDS = 15.0
_VISIBLE = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) != "%")


# --- a whole result


def whole_response(result: InferResult, correlation_id: str, *, wanted: Sequence[str], decode: bool) -> Response:
    """The result in the form that the client wants most: base64 in JSON, or the bare bytes.

    `wanted`: as `media.parse_accept` ranks it. `decode`: add the decoded value of a JSON result.
    """
    if _wants_bytes(result, wanted):
        return _bytes_response(result, correlation_id)
    data: InferData = {
        "correlation_id": correlation_id,
        "is_final": True,
        "result": pybase64.b64encode_as_string(result.data),
        "meta": dict(result.meta),
        "seq": 0,
        "total": 1,
        "offset": 0,
        "result_mime": result.mime,
        "result_schema": result.schema,
    }
    if decode:
        data["result_json"] = _decoded(result)
    answer: InferAnswer = {"success": True, "data": data}
    return json_response(answer, headers=correlation(correlation_id))


def correlation(correlation_id: str) -> dict[str, str]:
    """The header that echoes the id; what a header cannot hold is percent-encoded."""
    return {"X-Correlation-Id": quote(correlation_id, safe=_VISIBLE)}


def _decoded(result: InferResult) -> Any:
    """The value of a JSON result; None for results of other types."""
    if bare(result.mime) != JSON:
        return None
    try:
        return orjson.loads(result.data)
    except orjson.JSONDecodeError:
        return None


def _wants_bytes(result: InferResult, wanted: Sequence[str]) -> bool:
    own = result.mime.replace(" ", "").lower()
    for kind in wanted:
        if kind in (BYTES, own) and kind != JSON:
            return True
        if kind in (JSON, "application/*", "*/*"):
            return False
    return False


def _bytes_response(result: InferResult, correlation_id: str) -> Response:
    mime = result.mime
    headers = {
        **correlation(correlation_id),
        **untrusted_headers(mime if mime and mime.isascii() and mime.isprintable() else BYTES),
        "X-Result-Schema": quote(result.schema, safe=_VISIBLE),
        "X-Result-Meta": quote(orjson.dumps(dict(result.meta)), safe=_VISIBLE),
    }
    return Response(result.data, headers=headers)


# --- events


def result_event(result: InferResult, *, number: int, correlation_id: str, decode: bool) -> InferEvent:
    """One message as an event. `seq` is its place among pieces where it is one, else the number of the event."""
    event: InferEvent = {
        "correlation_id": correlation_id,
        "is_final": result.is_final,
        "meta": dict(result.meta),
        "result_b64": pybase64.b64encode_as_string(result.data),
        "seq": result.seq if result.total > 1 else number,
        "total": result.total,
        "offset": result.offset,
        "result_mime": result.mime,
        "result_schema": result.schema,
        "error": None,
    }
    if decode:
        event["result_json"] = _decoded(result)
    return event


def error_event(error: MienError, *, number: int, correlation_id: str) -> InferEvent:
    """The final event of a stream that failed midway."""
    event = result_event(InferResult(is_final=True), number=number, correlation_id=correlation_id, decode=False)
    return {**event, "error": {"code": error.code, "message": error.message}}


class Framing(ABC):
    """One way to write events to a stream."""

    media_type: str
    heartbeat: bytes = b""
    """Keeps a silent connection alive; empty if the framing has no way to say nothing."""

    @abstractmethod
    def encode(self, event: InferEvent, number: int) -> bytes:
        """The event's bytes, its terminator included."""


class BareJson(Framing):
    """The default: a compact JSON object and a blank line. Readers split at the blank line and parse each part."""

    media_type = EVENT_STREAM  # the original's; bodies are for readers that split, not for EventSource

    def encode(self, event: InferEvent, number: int) -> bytes:
        return orjson.dumps(event) + b"\n\n"


class ServerSentEvents(Framing):
    """As specified by the WHATWG, for readers like EventSource."""

    media_type = f"{EVENT_STREAM}; charset=utf-8"
    heartbeat = b": waiting\n\n"

    def encode(self, event: InferEvent, number: int) -> bytes:
        name = b"failure" if event["error"] else b"message"
        return b"id: %d\nevent: %b\ndata: %b\n\n" % (number, name, orjson.dumps(event))


class JsonLines(Framing):
    """One JSON object per line."""

    media_type = NDJSON

    def encode(self, event: InferEvent, number: int) -> bytes:
        return orjson.dumps(event) + b"\n"


FRAMINGS: dict[str, Framing] = {EVENT_STREAM: ServerSentEvents(), **dict.fromkeys(NDJSON_TYPES, JsonLines())}
DEFAULT = BareJson()


def framing_for(wanted: Sequence[str]) -> Framing:
    """The framing of the first media type in `wanted` that says something about framing."""
    for kind in wanted:
        if bare(kind) in FRAMINGS:
            return FRAMINGS[bare(kind)]
        if bare(kind) in ("*/*", JSON):
            return DEFAULT
    return DEFAULT


# --- a stream of them


class EventStream(StreamedResponse):
    """The response to a `_stream` request whose first message has already arrived."""

    def __init__(
        self,
        first: InferResult,
        reader: PrefetchingReader,
        scope: CancelScope,
        *,
        framing: Framing,
        correlation_id: str,
        decode: bool,
        metrics: Metrics,
    ) -> None:
        super().__init__(framing.media_type, {**correlation(correlation_id), "Cache-Control": "no-cache"})
        self._first, self._reader, self._scope = first, reader, scope
        self._framing, self._correlation_id, self._decode = framing, correlation_id, decode
        self._metrics = metrics
        self._admitted = ExitStack()
        self._number = 0
        self._good = False

    def hold(self, admitted: ExitStack, outcome: Outcome) -> None:
        """Keep the request admitted, and its outcome uncounted, until the stream has ended."""
        self._admitted = admitted
        self._admitted.callback(lambda: outcome.finish(good=self._good))

    def on_disconnect(self) -> None:
        self._scope.cancel()

    async def send_body(self) -> None:
        with self._admitted:
            self._good = await self._send_events()

    async def close(self) -> None:
        self._admitted.close()
        self._scope.cancel()
        await self._reader.close()

    async def _send_events(self) -> bool:
        """Whether all events were sent and none was an error."""
        message = self._first
        try:
            while True:
                await self.write(self._encoded(message), more=not message.is_final)
                if message.is_final:
                    return True
                self._number += 1
                message = await self._next()
        except MienError as error:
            if self.disconnected.done():  # nobody reads it
                return False
            self._metrics.errors.labels(error.code).inc()
            event = error_event(error.without_frames(), number=self._number, correlation_id=self._correlation_id)
            await self.write(self._framing.encode(event, self._number), more=False)
            return False

    def _encoded(self, message: InferResult) -> bytes:
        """The message as an event. Raises InternalError for a service whose message cannot be one."""
        try:
            event = result_event(message, number=self._number, correlation_id=self._correlation_id, decode=self._decode)
            return self._framing.encode(event, self._number)
        except (TypeError, ValueError) as error:
            log.error("a service's message cannot be encoded", exc_info=error)
            raise InternalError("the server failed; its log has the details under the request id") from None

    async def _next(self) -> InferResult:
        if not self._framing.heartbeat:
            return await self._reader.next()
        waiting = asyncio.ensure_future(self._reader.next())
        try:
            while not (await asyncio.wait({waiting}, timeout=HEARTBEAT_SECONDS))[0]:
                await self.write(self._framing.heartbeat)
            return waiting.result()
        finally:
            waiting.cancel()
