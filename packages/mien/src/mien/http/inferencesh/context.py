"""What the handlers of this API share: the context of a request, its response envelope and the form of its errors."""

from contextlib import ExitStack
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Any, NotRequired, TypedDict, cast

import orjson
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from mien.decode.json import json_object
from mien.errors import InvalidField, MienError
from mien.http.context import TaskParts, context_of, task_parts
from mien.http.errors import ErrorCode, FieldError, error_body, error_response
from mien.http.inferencesh.dialect import Dialect, read_dialect
from mien.http.media import JSON
from mien.http.proxies import base_url, path_of
from mien.http.route import Route
from mien.keys import Scope

ERROR_TYPES = "https://errors.mien.invalid/errors/"
PROBLEM = "application/problem+json"


class Envelope(TypedDict):
    """What most clients of this API expect around every response. `X-API-Version: 2` asks for `data` alone."""

    success: bool
    status: Annotated[int, Meta(description="The HTTP status.")]
    data: Any


class DialectHeaders(TypedDict):
    """The header that tells which answers a client expects, besides its User-Agent."""

    x_api_version: NotRequired[Annotated[str, Meta(description="`2`: answers without the envelope.")]]


class Problem(TypedDict):
    """Every error: the body that all APIs send, together with the fields of RFC 9457."""

    success: bool
    error: ErrorCode
    message: str
    detail: str
    request_id: Annotated[str, Meta(description="As in the header `X-Request-Id` and in the server's log.")]
    type: Annotated[str, Meta(description="A URI that stands for the code.")]
    title: str
    status: int
    fields: NotRequired[Annotated[list[FieldError], Meta(description="Every field that is wrong.")]]


@dataclass(frozen=True, slots=True)
class RequestContext:
    """One authorised request: its dialect, its owner, and the parts of the server that do the work."""

    request: Request
    parts: TaskParts
    dialect: Dialect
    owner: str
    """The owner of what the request makes; "" where the URL's signature is checked instead of a key."""
    reach: str | None
    """The owner whose tasks, files and sessions the request can name; None: everyone's. All others do not exist."""
    base: str
    """The base URL under which the client reaches this server."""

    def respond(self, data: Any, *, status: int = 200, headers: dict[str, str] | None = None) -> Response:
        """`data` in the envelope of the client's dialect."""
        whole: Envelope = {"success": True, "status": status, "data": data}
        return Response(orjson.dumps(data if self.dialect.bare else whole), status, headers, media_type=JSON)

    async def read_object(self, limit: int, admitted: ExitStack) -> dict[str, Any]:
        """The body as a JSON object. Its bytes count as admitted until `admitted` closes.

        Raises RequestError, BodyTooLarge, BodyTooSlow, Overloaded, Unavailable, Cancelled.
        """
        bodies = context_of(self.request).bodies
        body = await bodies.read(self.request, admitted, limit=limit, refuse_small=False)
        return await bodies.parse(json_object, body, bodies.values)


def request_context(request: Request, scope: Scope | None = "infer") -> RequestContext:
    """The context of a request whose API key has `scope`; None: the handler checks the signature of the URL instead.

    Raises Unauthorized, Forbidden, Unavailable while the server starts.
    """
    caller = None if scope is None else context_of(request).auth.require(request, scope)
    owner, reach = ("", "") if caller is None else (caller.owner, caller.reach)
    parts = task_parts(request)
    base = parts.links.public_url or base_url(request)
    return RequestContext(request, parts, dialect_of(request), owner, reach, base)


def dialect_of(request: Request) -> Dialect:
    """The dialect that the client speaks, by the request's prefix and headers."""
    forced = getattr(request.state, "status_table", None)
    return read_dialect(request.headers, path_of(request.scope), forced, context_of(request).settings.api.status_table)


def problem(request: Request, error: MienError) -> Response:
    """The error for clients of every version: this server's own body together with the fields of RFC 9457."""
    response = error_response(error, request.state.request_id)
    known = error_body(error, request.state.request_id)
    body: Problem = {
        "success": known["success"],
        "error": known["error"],
        "message": known["message"],
        "detail": error.message,
        "request_id": known["request_id"],
        "type": f"{ERROR_TYPES}{error.code}",
        "title": HTTPStatus(error.status).phrase if error.status != 499 else "Client Closed Request",
        "status": error.status,
    }
    if isinstance(error, InvalidField) and error.fields:
        body["fields"] = cast(list[FieldError], list(error.fields))
    kind = PROBLEM if dialect_of(request).problems else JSON
    headers = {
        name: value for name, value in response.headers.items() if name not in ("content-length", "content-type")
    }
    return Response(orjson.dumps(body), error.status, headers, media_type=kind)


class TaskRoute(Route):
    """A route whose errors have this API's form."""

    envelope = Envelope
    headers = DialectHeaders
    error_type = Problem
    error_media_types = (JSON, PROBLEM)

    @staticmethod
    def render_error(request: Request, error: MienError) -> Response:
        """See `problem`."""
        return problem(request, error)
