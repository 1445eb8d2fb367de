"""The request's body, whatever its encoding, as one envelope."""

from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import msgspec
from starlette.requests import Request

from mien.engine.call import Call
from mien.errors import BodyTooLarge, RequestError, UnsupportedMediaType
from mien.http.body import read_body
from mien.http.insightface.wire import JSON, MSGPACK_TYPES, media_type
from mien.http.lumen.envelope import Envelope, checked_id, from_fields, from_strings
from mien.http.lumen.forms import read_form
from mien.runtime import Runtime

LARGE_BODY = 256 * 1024  # bytes: parsing more than this would hold up the event loop
RAW = "application/octet-stream"
FORM = "multipart/form-data"
CORRELATION_HEADER = "x-correlation-id"


async def read_envelope(request: Request, runtime: Runtime, room: ExitStack) -> Envelope:
    """The envelope, with a correlation id. Room for its bytes is held in `room`.

    Raises RequestError, InvalidField, UnsupportedMediaType, BodyTooLarge, BodyTooSlow, Overloaded, Unavailable,
    Cancelled.
    """
    kind = media_type(request.headers.get("content-type", ""))
    envelope = await read_form(request, runtime, room) if kind == FORM else await _read(request, kind, runtime, room)
    if len(envelope.payloads) > (most := runtime.settings.max_images):
        raise BodyTooLarge(f"{len(envelope.payloads)} payloads in one request; this server takes at most {most}")
    if envelope.correlation_id:
        return envelope
    given = checked_id(request.headers.get(CORRELATION_HEADER, "").strip())
    return replace(envelope, correlation_id=given or request.state.request_id)


async def _read(request: Request, kind: str, runtime: Runtime, room: ExitStack) -> Envelope:
    settings = runtime.settings
    is_raw = kind == RAW or kind.startswith("image/")
    # Types that a web page of another origin can send without asking first (text/plain, forms) stay out.
    if not (is_raw or kind in ("", JSON, *MSGPACK_TYPES) or kind.endswith("+json")):
        raise UnsupportedMediaType(
            f"Content-Type is {kind[:80]!r}; this route reads {JSON}, {FORM}, {RAW} and {MSGPACK_TYPES[0]}"
        )
    body = await read_body(request, settings.max_body_bytes, runtime.admission, room, seconds=settings.request_timeout)
    if is_raw:
        query = request.query_params
        declared = query.get("payload_mime") or (kind if kind != RAW else "")
        return from_strings({**query, "payload_mime": declared}, (bytes(body),))
    query_fields = dict(request.query_params) if request.url.query else {}
    if len(body) > LARGE_BODY:
        call = Call(settings.request_timeout)
        return await runtime.parsers.run(call, parse, body, kind, query_fields, settings.max_body_bytes)
    return parse(body, kind, query_fields, settings.max_body_bytes)


def parse(body: bytes | bytearray, kind: str, query: dict[str, str], max_bytes: int) -> Envelope:
    """The envelope of a JSON or MessagePack body: a map, or a list of payloads with the fields in the query.

    What the query says counts where the body says nothing. Raises RequestError, InvalidField, BodyTooLarge.
    """
    data = _unpacked(body, msgpack=kind in MSGPACK_TYPES)
    if isinstance(data, list):
        envelope = from_fields({"payload": data}, max_bytes=max_bytes)
    elif isinstance(data, dict):
        envelope = from_fields(data, max_bytes=max_bytes)
    else:
        raise RequestError("the body must be an object (a map) with `service` and `payload`, or a list of payloads")
    if not query:
        return envelope
    asked = from_strings(query, envelope.payloads)
    return replace(
        envelope,
        service=envelope.service or asked.service,
        task=envelope.task or asked.task,
        payload_mime=envelope.payload_mime or asked.payload_mime,
        correlation_id=envelope.correlation_id or asked.correlation_id,
        metadata=asked.metadata if envelope.metadata is None else envelope.metadata,
    )


def _unpacked(body: bytes | bytearray, *, msgpack: bool) -> Any:
    try:
        return msgspec.msgpack.decode(body) if msgpack else msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, ValueError, TypeError) as error:
        raise RequestError(f"the body is not valid {'MessagePack' if msgpack else 'JSON'}: {error}") from None
