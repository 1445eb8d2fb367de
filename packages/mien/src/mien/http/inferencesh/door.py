"""What every handler of this door starts with and ends with: the caller, the dialect, envelopes and errors."""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import orjson
import structlog
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response

from mien.errors import InvalidField, MienError, RequestError, Unavailable
from mien.http.errors import error_body, error_response
from mien.http.inferencesh.dialect import Dialect, read_dialect
from mien.keys import Scope
from mien.tasks.platform import Platform

log = structlog.get_logger()
STARTING_SECONDS = 1.0
ERROR_TYPES = "https://errors.mien.invalid/errors/"
MOST_NESTED = 64


@dataclass(frozen=True, slots=True)
class Caller:
    """One request: who asks, how to answer, and the parts that do the work."""

    request: Request
    platform: Platform
    dialect: Dialect
    owner: str
    """Id of the API key; "" while none are configured."""
    base: str
    """Where the caller reaches this server."""

    def answer(self, data: Any, *, status: int = 200, headers: dict[str, str] | None = None) -> Response:
        """The payload as the caller's dialect wraps it."""
        body = data if self.dialect.bare else {"success": True, "status": status, "data": data}
        return Response(orjson.dumps(body), status, headers, media_type="application/json")


def caller(request: Request, scope: Scope | None = "infer") -> Caller:
    """Raises Unauthorized, Forbidden, Unavailable while the server starts. `scope` None: the URL is the right."""
    key = None if scope is None else request.app.state.auth.require(request, scope)
    platform: Platform | None = request.app.state.platform
    if platform is None:
        raise Unavailable("the server is starting", retry_after=STARTING_SECONDS)
    base = platform.links.public_url or f"{request.url.scheme}://{request.url.netloc}"
    return Caller(request, platform, dialect_of(request), "" if key is None else key.id, base)


def dialect_of(request: Request) -> Dialect:
    """The dialect that the request shows."""
    forced = getattr(request.state, "status_table", None)
    return read_dialect(request.headers, request.url.path, forced, request.app.state.settings.status_table)


class DoorRoute(APIRoute):
    """A route whose errors have this door's form."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            try:
                return await handler(request)
            except MienError as error:
                request.app.state.metrics.errors.labels(error.code).inc()
                if error.status >= 500 and error.status != 503:
                    log.error("request failed", code=error.code, exc_info=error)
                return problem(request, error.without_frames())

        return handle


def problem(request: Request, error: MienError) -> Response:
    """The error for clients of every age: our own body, and the fields of RFC 9457."""
    response = error_response(error, request.state.request_id)
    body = error_body(error, request.state.request_id) | {
        "type": f"{ERROR_TYPES}{error.code}",
        "title": HTTPStatus(error.status).phrase if error.status != 499 else "Client Closed Request",
        "status": error.status,
        "detail": error.message,
    }
    if isinstance(error, InvalidField) and error.fields:
        body["fields"] = list(error.fields)
    kind = "application/problem+json" if dialect_of(request).problems else "application/json"
    headers = {
        name: value for name, value in response.headers.items() if name not in ("content-length", "content-type")
    }
    return Response(orjson.dumps(body), error.status, headers, media_type=kind)


def parse_object(body: bytes | bytearray) -> dict[str, Any]:
    """A JSON object. An empty body is an empty one. Raises RequestError."""
    if not body.strip():
        return {}
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise RequestError(f"the body is no JSON: {error}") from None
    if not isinstance(value, dict):
        raise RequestError(f"the body is {_kind(value)}; expected a JSON object")
    check_depth(value)
    return value


def check_depth(value: Any) -> None:
    """Raise RequestError for JSON that is nested too deeply to be handled."""
    level = [value]
    for _ in range(MOST_NESTED):
        level = [
            inner
            for item in level
            for inner in (item.values() if isinstance(item, dict) else item if isinstance(item, list) else ())
            if isinstance(inner, dict | list)
        ]
        if not level:
            return
    raise RequestError(f"the body is nested more than {MOST_NESTED} levels deep")


def _kind(value: Any) -> str:
    names = {list: "an array", str: "a string", bool: "a boolean", int: "a number", float: "a number"}
    return names.get(type(value), "null")
