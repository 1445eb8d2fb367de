"""Media types: what a body is declared as, and what the client accepts."""

from codecs import BOM_UTF8
from collections.abc import Mapping

from starlette.requests import HTTPConnection

from mien.errors import UnsupportedMediaType

JSON = "application/json"
MSGPACK = "application/x-msgpack"
MSGPACK_TYPES = (MSGPACK, "application/msgpack", "application/vnd.msgpack")
JSON_BEGINS = 1024
"""Bytes within which the first character of JSON is looked for."""
NDJSON = "application/x-ndjson"
NDJSON_TYPES = (NDJSON, "application/ndjson", "application/jsonl")
EVENT_STREAM = "text/event-stream"
BYTES = "application/octet-stream"
URLENCODED = "application/x-www-form-urlencoded"
MAYBE_JSON = ("", URLENCODED)
"""What JSON is sent as by clients that were not told its type: `curl -d` says that it were a form."""


def bare(kind: str) -> str:
    """A media type without its parameters, in lower case."""
    return kind.partition(";")[0].strip().lower()


def content_type(request: HTTPConnection) -> str:
    """The bare Content-Type; "" where there is none."""
    return bare(request.headers.get("content-type", ""))


def require_json(body: bytes, kind: str) -> None:
    """Raise UnsupportedMediaType for a form where JSON is read, whatever JSON was sent as."""
    if kind == URLENCODED and not body[:JSON_BEGINS].removeprefix(BOM_UTF8).lstrip().startswith((b"{", b"[")):
        raise UnsupportedMediaType(f"Content-Type is {URLENCODED!r}, and the body is no JSON, which this route reads")


def accepted(request: HTTPConnection) -> list[str]:
    """The types that the client accepts, as `parse_accept` ranks them."""
    return parse_accept(",".join(request.headers.getlist("accept")))


def parse_accept(header: str) -> list[str]:
    """Media types of an Accept header in order of preference, in lower case and without spaces; without refused ones.

    Parameters other than the quality are kept: `application/json;schema=face_v1` is a type of its own here.
    """
    ranked: list[tuple[float, str]] = []
    for part in header.split(","):
        kind, *parameters = (piece.strip().lower() for piece in part.split(";"))
        quality = 1.0
        kept = []
        for parameter in parameters:
            if parameter.startswith("q="):
                quality = _quality(parameter[2:])
            elif parameter:
                kept.append(parameter)
        if kind and quality > 0:
            ranked.append((-quality, ";".join([kind, *kept])))
    ranked.sort(key=lambda pair: pair[0])
    return [kind for _, kind in ranked]


def accepted_codings(headers: Mapping[str, str]) -> dict[str, float]:
    """The quality of each content coding in Accept-Encoding; `*` stands for gzip unless that is named."""
    found: dict[str, float] = {}
    for part in headers.get("accept-encoding", "").split(","):
        coding, *parameters = (piece.strip().lower() for piece in part.split(";"))
        found[coding] = next((_quality(one[2:]) for one in parameters if one.startswith("q=")), 1.0)
    if "*" in found:
        found.setdefault("gzip", found["*"])
    return found


def accepts(headers: Mapping[str, str], *kinds: str) -> bool:
    """Whether the Accept header names one of `kinds` itself; wildcards do not count."""
    return any(bare(kind) in kinds for kind in parse_accept(headers.get("accept", "")))


def _quality(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0
