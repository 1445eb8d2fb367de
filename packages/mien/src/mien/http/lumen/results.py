"""A whole result as an answer: base64 in JSON, or its bare bytes for those who accept its type."""

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

import orjson
import pybase64
from starlette.responses import Response

from mien.inference.contract import InferResult

RAW = "application/octet-stream"
_VISIBLE = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) != "%")


def answer(result: InferResult, correlation_id: str, *, wanted: Sequence[str], decode: bool) -> Response:
    """The answer in the form that the caller wants most. `wanted` as `accept.accepted` returns it."""
    if _wants_bytes(result, wanted):
        return _bare(result, correlation_id)
    data: dict[str, Any] = {
        "correlation_id": correlation_id,
        "is_final": True,
        "result": pybase64.b64encode_as_string(result.data),
        "meta": dict(result.meta),
        "seq": 0,
        "total": 1,
        "offset": 0,
        "result_mime": result.mime,
        "result_schema": result.schema,
    }
    if decode:
        data["result_json"] = decoded(result)
    body = orjson.dumps({"success": True, "data": data})
    return Response(body, headers=correlation(correlation_id), media_type="application/json")


def decoded(result: InferResult) -> Any:
    """What a JSON result says; None for results of other types."""
    if result.mime.partition(";")[0].strip() != "application/json":
        return None
    try:
        return orjson.loads(result.data)
    except orjson.JSONDecodeError:
        return None


def correlation(correlation_id: str) -> dict[str, str]:
    """The header that echoes the id; what a header cannot hold is percent-encoded."""
    return {"X-Correlation-Id": quote(correlation_id, safe=_VISIBLE)}


def _wants_bytes(result: InferResult, wanted: Sequence[str]) -> bool:
    own = result.mime.replace(" ", "").lower()
    for kind in wanted:
        if kind in (RAW, own) and kind != "application/json":
            return True
        if kind in ("application/json", "application/*", "*/*"):
            return False
    return False


def _bare(result: InferResult, correlation_id: str) -> Response:
    headers = {
        **correlation(correlation_id),
        "Content-Type": result.mime if result.mime.isascii() and result.mime.isprintable() and result.mime else RAW,
        "X-Result-Schema": quote(result.schema, safe=_VISIBLE),
        "X-Result-Meta": quote(orjson.dumps(dict(result.meta)), safe=_VISIBLE),
    }
    return Response(result.data, headers=headers)
