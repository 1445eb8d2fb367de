"""What every handler of this API starts with and ends with: the caller, the dialect, envelopes and errors."""

from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import orjson
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response

from mien.errors import InvalidField, MienError
from mien.http.body import chunks_to_disk
from mien.http.codecs import json_object
from mien.http.context import TaskParts, context_of, task_parts
from mien.http.errors import error_body, error_response
from mien.http.inferencesh.dialect import Dialect, read_dialect
from mien.keys import Scope

ERROR_TYPES = "https://errors.mien.invalid/errors/"


@dataclass(frozen=True, slots=True)
class Caller:
    """One request: who asks, how to answer, and the parts that do the work."""

    request: Request
    parts: TaskParts
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
    key = None if scope is None else context_of(request).auth.require(request, scope)
    parts = task_parts(request)
    base = parts.links.public_url or f"{request.url.scheme}://{request.url.netloc}"
    return Caller(request, parts, dialect_of(request), "" if key is None else key.id, base)


async def read_object(request: Request, limit: int) -> dict[str, Any]:
    """The body as a JSON object. Raises RequestError, BodyTooLarge, BodyTooSlow, Cancelled."""
    body = bytearray()
    async for chunk in chunks_to_disk(request, limit):
        body += chunk
    return json_object(body)


def dialect_of(request: Request) -> Dialect:
    """The dialect that the request shows."""
    forced = getattr(request.state, "status_table", None)
    return read_dialect(request.headers, request.url.path, forced, context_of(request).settings.api.status_table)


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


class TaskRoute(APIRoute):
    """A route whose errors have this API's form."""

    @staticmethod
    def render_error(request: Request, error: MienError) -> Response:
        """See `problem`."""
        return problem(request, error)
