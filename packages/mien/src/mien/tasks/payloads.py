"""A payload and its metadata as the input of an app, by the app's schema. Pure functions, without any I/O."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from mien.decode.budget import Limits
from mien.decode.json import json_object
from mien.errors import BodyTooLarge, InvalidField, RequestError
from mien.inference.contract import Item

JSON = "application/json"
INVALID = (msgspec.DecodeError, ValueError, RecursionError)  # not UTF-8, or nested too deeply, among others
MOST_ALTERNATIVES = 50
"""Of one field's schema: a `$ref` may lead back to where it came from."""


@dataclass(frozen=True, slots=True)
class PayloadLimits:
    """Of JSON that is an app's input."""

    values: int
    """Weighted as `mien.decode.budget` has it."""
    bytes: int


@dataclass(frozen=True, slots=True)
class AppInput:
    """An app's input before its payload is stored."""

    fields: dict[str, Any]
    file_field: str | None = None
    """The field that is still to be given the payload, as a file; None: it is in `fields`, or there is none."""


def app_input(
    schema: Mapping[str, Any], item: Item, metadata: Mapping[str, str], *, service: str, limits: PayloadLimits
) -> AppInput:
    """JSON is the input as it is, and then the metadata is none of the app's. Any other payload goes into the first
    field that is made for it, and metadata into the fields of its names.

    Text goes into the first field of type string. Other payloads become files: in the first field of format `file`,
    else in the first of type string, which then holds the file's URI. Fields that the metadata fills are taken.

    Raises InvalidField for JSON that is no object, and for a payload that no field takes; BodyTooLarge for JSON beyond
    `limits`.
    """
    if item.mime == JSON:
        return AppInput(_json_object(item.data, limits))
    properties: Mapping[str, Any] = schema.get("properties") or {}
    fields = {key: _typed(value, properties[key], schema) for key, value in metadata.items() if key in properties}
    free = [key for key in properties if key not in fields]
    files = [key for key in free if _is_file(properties[key], schema)]
    texts = [key for key in free if key not in files and "string" in _types(properties[key], schema)]
    if item.mime.startswith("text/") and texts:
        return AppInput(fields | {texts[0]: item.data.decode("utf-8", "replace")})
    if files or texts:
        return AppInput(fields, (files or texts)[0])
    if item.data:
        raise InvalidField(f"payload: {service} has no field for one; send {JSON}")
    return AppInput(fields)


def _json_object(data: bytes, limits: PayloadLimits) -> dict[str, Any]:
    if not data.strip():
        raise InvalidField("payload: JSON for an app is an object with its input's fields; this one is empty")
    if len(data) > limits.bytes:
        raise BodyTooLarge(
            f"payload: JSON for an app may have {limits.bytes} bytes; this has {len(data)}. "
            "Upload files and send their URIs"
        )
    try:
        return json_object(data, Limits(limits.values, noun="it"))
    except BodyTooLarge as error:
        raise BodyTooLarge(f"payload: {error.message}") from None
    except RequestError as error:
        raise InvalidField(f"payload: {error.message}") from None


def _typed(text: str, field: Any, schema: Mapping[str, Any]) -> Any:
    """A metadata value in the field's type; the text itself where it is not of that type, so that the app's own
    validation names the field."""
    if not _types(field, schema) - {"string", "null"}:
        return text
    try:
        return msgspec.json.decode(text)
    except INVALID:
        return text


def _is_file(field: Any, schema: Mapping[str, Any]) -> bool:
    return any(one.get("format") == "file" for one in _alternatives(field, schema))


def _types(field: Any, schema: Mapping[str, Any]) -> set[str]:
    return {kind for one in _alternatives(field, schema) if isinstance(kind := one.get("type"), str)}


def _alternatives(field: Any, schema: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """A field's schema and those that it may be instead: `Optional[File]` is a choice of a `$ref` and null."""
    waiting = [field]
    for _ in range(MOST_ALTERNATIVES):
        if not waiting:
            return
        one = waiting.pop()
        if not isinstance(one, Mapping):
            continue
        yield one
        waiting += [*one.get("anyOf", ()), *one.get("oneOf", ()), *one.get("allOf", ())]
        if isinstance(ref := one.get("$ref"), str) and ref.startswith("#/$defs/"):
            waiting.append(schema.get("$defs", {}).get(ref.removeprefix("#/$defs/")))
