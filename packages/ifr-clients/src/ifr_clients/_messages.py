"""Requests and responses as values, and their bodies as JSON or MessagePack. No I/O."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import ormsgpack
from pydantic_core import from_json

from ifr_clients.errors import IFRResponseInvalid

T = TypeVar("T")
JSON = "application/json"
MSGPACK = "application/msgpack"
MSGPACK_TYPES = (MSGPACK, "application/x-msgpack", "application/vnd.msgpack")
# Original servers recognise MessagePack by exactly these types, one per direction.
ACCEPT_MSGPACK = "application/x-msgpack"


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request."""

    method: str
    url: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Response:
    """One HTTP response; the names of headers are in lower case."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)

    @property
    def media_type(self) -> str:
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    @property
    def request_id(self) -> str | None:
        return self.headers.get("x-request-id")

    def invalid(self, message: str) -> IFRResponseInvalid:
        """An error about this response."""
        return IFRResponseInvalid(message, self.request_id, self.body)


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """A request, and the parser of its 2xx response."""

    request: Request
    parse: Callable[[Response], T]


def encode(body: Mapping[str, Any], *, msgpack: bool) -> bytes:
    """A map as JSON or MessagePack; JSON does not support bytes. Raises TypeError for a value that cannot be sent."""
    if msgpack:
        return ormsgpack.packb(body, default=_plain)
    return json.dumps(body, separators=(",", ":"), ensure_ascii=False, default=_plain).encode()


def _plain(value: Any) -> Any:
    """A scalar of numpy as a number of Python. Raises TypeError for everything else."""
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:
        return value.item()
    raise TypeError(f"{type(value).__name__} cannot be sent: {value!r:.80}")


def content_headers(*, msgpack: bool) -> dict[str, str]:
    """The headers for a body and its response."""
    if msgpack:
        return {"Content-Type": MSGPACK, "Accept": ACCEPT_MSGPACK}
    return {"Content-Type": JSON, "Accept": JSON}


def decode(response: Response) -> dict[str, Any]:
    """The map in a response's body. Raises IFRResponseInvalid."""
    kind = response.media_type
    try:
        body = ormsgpack.unpackb(response.body) if kind in MSGPACK_TYPES else from_json(response.body)
    except ValueError as error:
        shown = kind or "no content type"
        raise response.invalid(
            f"the response ({shown}, {len(response.body)} bytes) cannot be parsed: {error}"
        ) from error
    if not isinstance(body, dict):
        raise response.invalid(f"the response must be a map; got {type(body).__name__}")
    return body
