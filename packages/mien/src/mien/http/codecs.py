"""JSON and MessagePack responses."""

from typing import Any

import orjson
import ormsgpack
from starlette.responses import Response

from mien.http.media import JSON


def json_response(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """The value as JSON. numpy arrays are written natively, float32 as float32."""
    body = orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(body, status, headers, media_type=JSON)


def msgpack_response(value: Any, kind: str) -> Response:
    """The value as MessagePack under the media type `kind`."""
    return Response(ormsgpack.packb(value, option=ormsgpack.OPT_SERIALIZE_NUMPY), media_type=kind)
