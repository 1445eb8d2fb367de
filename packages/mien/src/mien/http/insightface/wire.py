"""Bodies of this door: JSON or MessagePack in, JSON or MessagePack out."""

from typing import Any, TypeVar

import msgspec
import orjson
import ormsgpack
from pydantic import BaseModel, ValidationError
from starlette.requests import Request
from starlette.responses import Response

from mien.errors import RequestError, UnsupportedMediaType
from mien.http.errors import invalid_fields

JSON = "application/json"
MSGPACK_TYPES = ("application/x-msgpack", "application/msgpack", "application/vnd.msgpack")
M = TypeVar("M", bound=BaseModel)


def media_type(header: str) -> str:
    """The bare type of a Content-Type header, in lower case."""
    return header.partition(";")[0].strip().lower()


def parse(body: bytes | bytearray, content_type: str, model: type[M]) -> M:
    """The validated body. Raises RequestError, UnsupportedMediaType, InvalidField."""
    kind = media_type(content_type)
    try:
        if kind in MSGPACK_TYPES:
            return model.model_validate(_unpacked(body))
        # Clients of the original server may send no content type. The types that a web page of another origin can
        # send without asking first (text/plain, forms) stay out.
        if kind in ("", JSON) or kind.endswith("+json"):
            return model.model_validate_json(body)
    except ValidationError as error:
        raise invalid_fields(error) from None
    raise UnsupportedMediaType(f"Content-Type is {kind[:80]!r}; this route reads {JSON} and {MSGPACK_TYPES[0]}")


def _unpacked(body: bytes | bytearray) -> dict[str, Any]:
    try:
        data = msgspec.msgpack.decode(body)
    except (msgspec.DecodeError, RecursionError, ValueError) as error:
        raise RequestError(f"the body is not valid MessagePack: {error}") from None
    if not isinstance(data, dict):
        raise RequestError(f"the body must be a map; this one is {type(data).__name__}")
    return data


def answer_type(request: Request, *, msgpack: bool) -> str:
    """The media type to answer in: MessagePack if the body asked for it or Accept prefers it, else JSON."""
    header = ",".join(request.headers.getlist("accept")).lower()
    qualities = _accepted(header)
    best = max(MSGPACK_TYPES, key=lambda kind: qualities.get(kind, 0.0))
    if qualities.get(best, 0.0) == 0:
        return MSGPACK_TYPES[0] if msgpack else JSON
    # of equal qualities, the type that stands first
    preference = (qualities[best], -header.index(best))
    rival = (qualities[JSON], -header.index(JSON)) if JSON in qualities else (0.0, 0)
    return best if msgpack or preference > rival else JSON


def _accepted(header: str) -> dict[str, float]:
    """Media types of an Accept header and their qualities."""
    qualities: dict[str, float] = {}
    for part in header.split(","):
        kind, *parameters = (piece.strip() for piece in part.split(";"))
        quality = next((p[2:] for p in parameters if p.startswith("q=")), "1")
        try:
            qualities[kind] = float(quality)
        except ValueError:
            qualities[kind] = 0.0
    return qualities


def render(answer: dict[str, Any], kind: str) -> Response:
    """The answer in `kind`. numpy arrays are written natively, float32 as float32."""
    if kind == JSON:
        return Response(orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY), media_type=JSON)
    return Response(ormsgpack.packb(answer, option=ormsgpack.OPT_SERIALIZE_NUMPY), media_type=kind)
