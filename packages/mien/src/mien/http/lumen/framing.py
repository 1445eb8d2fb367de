"""How events lie on the wire: bare JSON and a blank line, real Server-Sent Events, or JSON lines. Pure functions."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import orjson
import pybase64

from mien.errors import MienError
from mien.http.lumen.results import decoded
from mien.inference.contract import InferResult


def result_event(result: InferResult, *, number: int, correlation_id: str, decode: bool) -> dict[str, Any]:
    """One message as an event. `seq` is its place among pieces where it is one, else the number of the event."""
    event: dict[str, Any] = {
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
        event["result_json"] = decoded(result)
    return event


def error_event(error: MienError, *, number: int, correlation_id: str) -> dict[str, Any]:
    """The final event of an answer that failed under way."""
    event = result_event(InferResult(is_final=True), number=number, correlation_id=correlation_id, decode=False)
    return {**event, "error": {"code": error.code, "message": error.message}}


class Framing(ABC):
    """One way of writing events."""

    media_type: str
    heartbeat: bytes = b""
    """What keeps a silent connection alive; empty where the framing has no room for it."""

    @abstractmethod
    def encode(self, event: dict[str, Any], number: int) -> bytes:
        """The event's bytes, its end included."""


class BareJson(Framing):
    """The default: a compact JSON object and a blank line. Readers split at the blank line and parse each part."""

    media_type = "text/event-stream"  # the original's; bodies are for readers that split, not for EventSource

    def encode(self, event: dict[str, Any], number: int) -> bytes:
        return orjson.dumps(event) + b"\n\n"


class ServerSentEvents(Framing):
    """As the WHATWG's specification has them, for EventSource-like readers."""

    media_type = "text/event-stream; charset=utf-8"
    heartbeat = b": waiting\n\n"

    def encode(self, event: dict[str, Any], number: int) -> bytes:
        name = b"failure" if event["error"] else b"message"
        return b"id: %d\nevent: %b\ndata: %b\n\n" % (number, name, orjson.dumps(event))


class JsonLines(Framing):
    """One JSON object a line."""

    media_type = "application/x-ndjson"

    def encode(self, event: dict[str, Any], number: int) -> bytes:
        return orjson.dumps(event) + b"\n"


FRAMINGS: dict[str, Framing] = {
    "text/event-stream": ServerSentEvents(),
    "application/x-ndjson": JsonLines(),
    "application/ndjson": JsonLines(),
}
DEFAULT = BareJson()


def framing_for(wanted: Sequence[str]) -> Framing:
    """The framing of the first media type in `wanted` that says something about framing."""
    for kind in wanted:
        bare = kind.partition(";")[0]
        if bare in FRAMINGS:
            return FRAMINGS[bare]
        if bare in ("*/*", "application/json"):
            return DEFAULT
    return DEFAULT
