"""JSON and MessagePack bodies as plain values, and back."""

from typing import Any

import msgspec
import orjson
import ormsgpack
from starlette.responses import Response

from mien.errors import RequestError
from mien.http.media import JSON

MAX_DEPTH = 64


def json_value(body: bytes | bytearray) -> Any:
    """The value of a JSON body. Raises RequestError."""
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, ValueError) as error:
        raise RequestError(f"the body is not valid JSON: {error}") from None


def msgpack_value(body: bytes | bytearray) -> Any:
    """The value of a MessagePack body. Raises RequestError."""
    try:
        return msgspec.msgpack.decode(body)
    except (msgspec.DecodeError, RecursionError, ValueError, TypeError) as error:
        raise RequestError(f"the body is not valid MessagePack: {error}") from None


def json_object(body: bytes | bytearray) -> dict[str, Any]:
    """A JSON object of limited depth. An empty body is an empty object. Raises RequestError."""
    if not body.strip():
        return {}
    try:
        value = orjson.loads(body)  # integers beyond 64 bits become floats, which the store and all clients can hold
    except orjson.JSONDecodeError as error:
        raise RequestError(f"the body is not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise RequestError(f"the body is {kind_of(value)}; expected a JSON object")
    check_depth(value)
    return value


def check_depth(value: Any) -> None:
    """Raise RequestError for JSON that is nested too deeply."""
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for item in level
            for inner in (item.values() if isinstance(item, dict) else item if isinstance(item, list) else ())
            if isinstance(inner, dict | list)
        ]
        if not level:
            return
    raise RequestError(f"the body is nested more than {MAX_DEPTH} levels deep")


def kind_of(value: Any) -> str:
    """The kind of a decoded value, in the terms of JSON."""
    if value is None:
        return "null"
    names = {bool: "a boolean", int: "a number", float: "a number", str: "a string", list: "a list", dict: "a map"}
    return names.get(type(value), "binary data")


def json_response(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """The value as JSON. numpy arrays are written natively, float32 as float32."""
    body = orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(body, status, headers, media_type=JSON)


def msgpack_response(value: Any, kind: str) -> Response:
    """The value as MessagePack under the media type `kind`."""
    return Response(ormsgpack.packb(value, option=ormsgpack.OPT_SERIALIZE_NUMPY), media_type=kind)
