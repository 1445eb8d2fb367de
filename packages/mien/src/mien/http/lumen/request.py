"""Requests of `POST /v1/infer`: every encoding becomes one envelope, and the envelope a request to one service."""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request

from mien.base64 import decode_base64
from mien.decode.budget import Limits as ValueLimits
from mien.decode.json import json_value, kind_of
from mien.decode.msgpack import msgpack_value
from mien.errors import BodyTooLarge, ImageError, ImageTooLarge, InvalidField, RequestError, UnsupportedMediaType
from mien.http.context import context_of
from mien.http.forms import FORM, text_fields
from mien.http.media import BYTES, JSON, MAYBE_JSON, MSGPACK_TYPES, content_type, require_json
from mien.inference.contract import InferRequest, Item, Service
from mien.inference.registry import ServiceRegistry
from mien.inference.sniff import media_type
from mien.nodes.contract import SERVICE_KEY, STREAM_SUFFIX
from mien.settings import Limits

CORRELATION_HEADER = "x-correlation-id"
TIMEOUT_HEADER = "x-timeout-ms"
MAX_ID_LENGTH = 256
MAX_FIELD_BYTES = 1024 * 1024
RAW_TEXT = "text/plain"
TIMEOUT_KEY = "timeout_ms"
PAYLOAD = "payload"
MS_DIGITS = 12
METADATA_LIMITS = ValueLimits(4096, noun="it")
"""Of metadata in text, which is parsed on the event loop."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """A request as it was sent, checked for types only."""

    payloads: tuple[bytes, ...]
    """At least one; an absent payload is one of no bytes."""
    service: str = ""
    task: str = ""
    payload_mime: str = ""
    correlation_id: str = ""
    metadata: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Route:
    """A service and the request to it."""

    service: Service
    request: InferRequest
    stream: bool
    timeout_ms: str
    """As given in the metadata; empty if it is not."""


# --- the body, whatever its encoding


async def read_envelope(request: Request, admitted: ExitStack) -> Envelope:
    """The envelope, with a correlation id. Its bytes count as admitted until `admitted` closes.

    Raises RequestError, InvalidField, UnsupportedMediaType, BodyTooLarge, BodyTooSlow, Overloaded, Unavailable,
    Cancelled.
    """
    kind = content_type(request)
    envelope = await (_from_form(request, admitted) if kind == FORM else _from_body(request, kind, admitted))
    require_few(len(envelope.payloads), context_of(request).settings.limits.max_images)
    if envelope.correlation_id:
        return envelope
    given = checked_id(request.headers.get(CORRELATION_HEADER, "").strip())
    return replace(envelope, correlation_id=given or request.state.request_id)


async def _from_form(request: Request, admitted: ExitStack) -> Envelope:
    """Parts named `payload`, several of them make a batch; the other fields beside them."""
    async with context_of(request).bodies.form(request, admitted, field_bytes=MAX_FIELD_BYTES) as form:
        payloads = await _form_payloads(form)
        fields = {name: value for name, value in text_fields(form).items() if name != PAYLOAD}
    if not payloads:
        raise InvalidField("payload: expected at least one file part of this name")
    return from_strings(fields, tuple(payloads))


async def _form_payloads(form: FormData) -> list[bytes]:
    return [await value.read() if isinstance(value, UploadFile) else value.encode() for value in form.getlist(PAYLOAD)]


async def _from_body(request: Request, kind: str, admitted: ExitStack) -> Envelope:
    is_raw = kind == BYTES or kind.startswith("image/")
    if not (is_raw or kind in (*MAYBE_JSON, JSON, *MSGPACK_TYPES) or kind.endswith("+json")):
        raise UnsupportedMediaType(
            f"Content-Type is {kind[:80]!r}; this route reads {JSON}, {FORM}, {BYTES} and {MSGPACK_TYPES[0]}"
        )
    context = context_of(request)
    body = await context.bodies.read(request, admitted)
    if is_raw:
        query = request.query_params
        declared = query.get("payload_mime") or (kind if kind != BYTES else "")
        return from_strings({**query, "payload_mime": declared}, (body,))
    require_json(body, kind)
    query_fields = dict(request.query_params) if request.url.query else {}
    return await context.bodies.parse(parse, body, kind, query_fields, context.settings.limits)


def parse(body: bytes, kind: str, query: dict[str, str], limits: Limits) -> Envelope:
    """The envelope of a JSON or MessagePack body: a map, or a list of payloads with the fields in the query.

    Fields of the query apply where the body has none. Raises RequestError, InvalidField, BodyTooLarge.
    """
    values = ValueLimits(limits.max_values)
    data = msgpack_value(body, values) if kind in MSGPACK_TYPES else json_value(body, values)
    if isinstance(data, list):
        envelope = from_fields({PAYLOAD: data}, limits)
    elif isinstance(data, dict):
        envelope = from_fields(data, limits)
    else:
        raise RequestError("the body must be an object (a map) with `service` and `payload`, or a list of payloads")
    if not query:
        return envelope
    in_query = from_strings(query, envelope.payloads)
    return replace(
        envelope,
        service=envelope.service or in_query.service,
        task=envelope.task or in_query.task,
        payload_mime=envelope.payload_mime or in_query.payload_mime,
        correlation_id=envelope.correlation_id or in_query.correlation_id,
        metadata=in_query.metadata if envelope.metadata is None else envelope.metadata,
    )


# --- its fields


def from_fields(sent: Mapping[Any, Any], limits: Limits) -> Envelope:
    """The envelope of a JSON or MessagePack map; field names in any case. Raises InvalidField, BodyTooLarge.

    Without `service` but with the `payload_mime` `text/plain`, the payload is the text itself, not base64: later
    versions of the protocol send it so.
    """
    fields = _folded(sent)
    service, mime = _text(fields, "service"), _text(fields, "payload_mime")
    is_raw_text = not service.strip() and mime == RAW_TEXT
    metadata = fields.get("metadata")
    if metadata is None:
        metadata = fields.get("meta")
    return Envelope(
        payloads=payloads_of(fields.get(PAYLOAD), is_raw_text=is_raw_text, limits=limits),
        service=service,
        task=_text(fields, "task"),
        payload_mime=mime,
        correlation_id=checked_id(_text(fields, "correlation_id")),
        metadata=None if metadata is None else _checked_metadata(metadata),
    )


def from_strings(fields: Mapping[str, str], payloads: tuple[bytes, ...]) -> Envelope:
    """The envelope of a form or a query string, where `metadata` is a JSON object in text. Raises InvalidField."""
    return Envelope(
        payloads=payloads,
        service=fields.get("service", ""),
        task=fields.get("task", ""),
        payload_mime=fields.get("payload_mime", ""),
        correlation_id=checked_id(fields.get("correlation_id", "")),
        metadata=_metadata_from_text(fields.get("metadata") or fields.get("meta") or ""),
    )


def checked_id(text: str) -> str:
    """A correlation id of sane length. Raises InvalidField."""
    if len(text) > MAX_ID_LENGTH:
        raise InvalidField(f"correlation_id: expected at most {MAX_ID_LENGTH} characters, got {len(text)}")
    return text


def _metadata_from_text(text: str) -> dict[str, str] | None:
    if not text.strip():
        return None
    try:
        return _checked_metadata(json_value(text.encode(), METADATA_LIMITS))
    except InvalidField:
        raise
    except (RequestError, UnicodeEncodeError) as error:
        raise InvalidField(f"metadata: expected a JSON object of strings: {error}") from None


def _checked_metadata(value: Any) -> dict[str, str]:
    if not isinstance(value, dict):
        raise InvalidField(f"metadata: expected a map of strings, got {kind_of(value)}")
    for key, item in value.items():
        if not isinstance(key, str):
            raise InvalidField(f"metadata: expected string keys, got {kind_of(key)}")
        if not isinstance(item, str):
            raise InvalidField(f"metadata.{key[:80]}: expected a string, got {kind_of(item)}; write it in quotes")
    return value


def _folded(sent: Mapping[Any, Any]) -> dict[str, Any]:
    """Field names in lower case, as the original's decoder matches them; an exact name wins."""
    if not all(isinstance(key, str) for key in sent):
        raise RequestError("the body's map must have string keys")
    return {**{key.lower(): value for key, value in sent.items()}, **{k: v for k, v in sent.items() if k == k.lower()}}


def _text(fields: Mapping[str, Any], name: str) -> str:
    value = fields.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise InvalidField(f"{name}: expected a string, got {kind_of(value)}")
    return value


# --- its payloads


def payloads_of(value: Any, *, is_raw_text: bool, limits: Limits) -> tuple[bytes, ...]:
    """The payloads that a `payload` field holds: one, or several if it is a list of payloads.

    A list of numbers is one payload, its bytes; null or an empty list is one payload of no bytes. Raises InvalidField,
    BodyTooLarge.
    """
    most = limits.max_body_bytes
    if isinstance(value, list) and value and not _is_number(value[0]):
        require_few(len(value), limits.max_images)
        return tuple(
            _payload(item, f"payload[{number}]", is_raw_text=is_raw_text, max_bytes=most)
            for number, item in enumerate(value)
        )
    return (_payload(value, PAYLOAD, is_raw_text=is_raw_text, max_bytes=most),)


def require_few(payloads: int, most: int) -> None:
    """Raise BodyTooLarge for more payloads than one request may have."""
    if payloads > most:
        raise BodyTooLarge(f"{payloads} payloads in one request; this server takes at most {most}")


def _payload(value: Any, where: str, *, is_raw_text: bool, max_bytes: int) -> bytes:
    if value is None:
        return b""
    if isinstance(value, bytes):
        return value
    if isinstance(value, str | memoryview):
        return _utf8(value, where) if is_raw_text else _decoded(value, where, max_bytes)
    if isinstance(value, list) and all(_is_number(item) for item in value):
        try:
            return bytes(value)
        except ValueError:
            raise InvalidField(f"{where}: expected numbers from 0 to 255") from None
    raise InvalidField(f"{where}: expected base64 text, binary data or a list of byte values")


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _decoded(text: str | memoryview, where: str, max_bytes: int) -> bytes:
    try:
        return decode_base64(text, max_bytes=max_bytes)
    except ImageTooLarge as error:
        raise BodyTooLarge(f"{where}: {error.message}") from None
    except ImageError as error:
        raise InvalidField(f"{where}: {error.message}") from None


def _utf8(text: str | memoryview, where: str) -> bytes:
    try:
        return bytes(text) if isinstance(text, memoryview) else text.encode()
    except UnicodeEncodeError:
        raise InvalidField(f"{where}: the text contains an unpaired surrogate") from None


# --- routing


def route(envelope: Envelope, registry: ServiceRegistry, owner: str) -> Route:
    """The request, as one of `owner`'s, with its service: by the envelope's `service`, else by its metadata's, else by
    its task.

    Raises NotFound that lists what exists, InvalidField.
    """
    metadata = dict(envelope.metadata or {})
    timeout_ms = metadata.pop(TIMEOUT_KEY, "")
    asked = envelope.service.strip().lower()
    is_hint = not asked
    if is_hint:  # as later versions of the protocol say it
        asked = metadata.pop(SERVICE_KEY, "").strip().lower()
    name = asked.removesuffix(STREAM_SUFFIX)
    task = envelope.task.strip()
    if not name and not task:
        listed = ", ".join(service.name for service in registry.services()) or "none"
        raise InvalidField(f"service: expected the name of a service; there are: {listed}")
    service, _ = registry.pick(name, task, is_hint=is_hint)
    items = tuple(Item(data, media_type(data, envelope.payload_mime)) for data in envelope.payloads)
    request = InferRequest(items, task, metadata, envelope.correlation_id, owner)
    return Route(service, request, name != asked, timeout_ms)


def deadline_seconds(in_metadata: str, in_header: str, most: float) -> float:
    """Seconds until the deadline: the shortest of what metadata, header and server say. Raises InvalidField."""
    wishes = [most]
    for where, text in ((f"metadata.{TIMEOUT_KEY}", in_metadata.strip()), ("X-Timeout-Ms", in_header.strip())):
        if not text:
            continue
        if not (text.isascii() and text.isdecimal() and len(text) <= MS_DIGITS and int(text) > 0):
            raise InvalidField(f"{where}: expected a positive whole number of milliseconds, got {text[:40]!r}")
        wishes.append(int(text) / 1e3)
    return min(wishes)
