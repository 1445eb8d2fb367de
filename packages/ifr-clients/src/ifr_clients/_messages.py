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
# By these exact words original servers know MessagePack in each direction.
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
        """The error that says so about this response."""
        return IFRResponseInvalid(message, self.request_id, self.body)


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """A request, and what makes a result of its 2xx response."""

    request: Request
    parse: Callable[[Response], T]


def encode(body: Mapping[str, Any], *, msgpack: bool) -> bytes:
    """A map as JSON or MessagePack; JSON takes no bytes."""
    if msgpack:
        return ormsgpack.packb(body)
    return json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()


def content_headers(*, msgpack: bool) -> dict[str, str]:
    """What to say about a body and its answer."""
    if msgpack:
        return {"Content-Type": MSGPACK, "Accept": ACCEPT_MSGPACK}
    return {"Content-Type": JSON, "Accept": JSON}


def decode(response: Response) -> dict[str, Any]:
    """The map in a response's body. Raises IFRResponseInvalid."""
    kind = response.media_type
    try:
        answer = ormsgpack.unpackb(response.body) if kind in MSGPACK_TYPES else from_json(response.body)
    except ValueError as error:
        shown = kind or "of no stated type"
        raise response.invalid(f"the answer ({shown}, {len(response.body)} bytes) does not parse: {error}") from error
    if not isinstance(answer, dict):
        raise response.invalid(f"the answer must be a map; this one is {type(answer).__name__}")
    return answer
