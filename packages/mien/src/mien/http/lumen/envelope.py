"""The one form that every encoding of a request is read into, and the checks that all of them share."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from mien.errors import InvalidField, RequestError
from mien.http.lumen.payloads import payloads_of

MAX_ID_LENGTH = 256
RAW_TEXT = "text/plain"


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


def from_fields(sent: Mapping[Any, Any], *, max_bytes: int) -> Envelope:
    """The envelope of a JSON or MessagePack map; field names in any case. Raises InvalidField, BodyTooLarge.

    Without `service` but with the `payload_mime` `text/plain`, the payload is the text itself, not base64: later
    versions of the protocol send it so.
    """
    fields = _folded(sent)
    service, mime = _text(fields, "service"), _text(fields, "payload_mime")
    is_raw_text = not service.strip() and mime == RAW_TEXT
    return Envelope(
        payloads=payloads_of(fields.get("payload"), is_raw_text=is_raw_text, max_bytes=max_bytes),
        service=service,
        task=_text(fields, "task"),
        payload_mime=mime,
        correlation_id=checked_id(_text(fields, "correlation_id")),
        metadata=_metadata(fields),
    )


def from_strings(fields: Mapping[str, str], payloads: tuple[bytes, ...]) -> Envelope:
    """The envelope of a form or a query string, where `metadata` is a JSON object in text. Raises InvalidField."""
    return Envelope(
        payloads=payloads,
        service=fields.get("service", ""),
        task=fields.get("task", ""),
        payload_mime=fields.get("payload_mime", ""),
        correlation_id=checked_id(fields.get("correlation_id", "")),
        metadata=metadata_from_text(fields.get("metadata") or fields.get("meta") or ""),
    )


def metadata_from_text(text: str) -> dict[str, str] | None:
    """Metadata written as a JSON object; None for no text. Raises InvalidField."""
    if not text.strip():
        return None
    try:
        return checked_metadata(msgspec.json.decode(text))
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError) as error:
        raise InvalidField(f"metadata: expected a JSON object of strings: {error}") from None


def checked_metadata(value: Any) -> dict[str, str]:
    """A map of strings to strings. Raises InvalidField that names the key which is not."""
    if not isinstance(value, dict):
        raise InvalidField(f"metadata: expected a map of strings, got {_kind(value)}")
    for key, item in value.items():
        if not isinstance(key, str):
            raise InvalidField(f"metadata: expected string keys, got {_kind(key)}")
        if not isinstance(item, str):
            raise InvalidField(f"metadata.{key[:80]}: expected a string, got {_kind(item)}; write it in quotes")
    return value


def checked_id(text: str) -> str:
    """A correlation id of sane length. Raises InvalidField."""
    if len(text) > MAX_ID_LENGTH:
        raise InvalidField(f"correlation_id: expected at most {MAX_ID_LENGTH} characters, got {len(text)}")
    return text


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
        raise InvalidField(f"{name}: expected a string, got {_kind(value)}")
    return value


def _metadata(fields: Mapping[str, Any]) -> dict[str, str] | None:
    value = fields.get("metadata")
    if value is None:
        value = fields.get("meta")
    return None if value is None else checked_metadata(value)


def _kind(value: Any) -> str:
    """What a JSON or MessagePack value is, in the words of JSON."""
    if value is None:
        return "null"
    names = {bool: "a boolean", int: "a number", float: "a number", str: "a string", list: "a list", dict: "a map"}
    return names.get(type(value), "binary data")
