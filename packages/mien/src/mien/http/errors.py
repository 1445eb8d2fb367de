"""Errors on the wire: made from the error's code, status and message, in one place for all APIs."""

import math
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, TypeAlias, TypedDict

import orjson
import structlog
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from msgspec import Meta
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from mien.errors import InternalError, InvalidField, MethodNotAllowed, MienError, NotFound, RequestError
from mien.http.content_encoding import UnsupportedEncoding
from mien.http.methods import allowed_methods
from mien.http.proxies import path_of
from mien.metrics import Metrics

log = structlog.get_logger()

RespondToBug: TypeAlias = Callable[[Request, Exception], Awaitable[Response]]
RenderError: TypeAlias = Callable[[Request, MienError], Response]
_WORDS = {"model_type": "Input should be an object"}
"""Instead of pydantic's words, which name classes."""
_BY_STATUS: dict[int, type[MienError]] = {404: NotFound, 405: MethodNotAllowed}


class ErrorCode(TypedDict):
    """What went wrong, for programs and for people."""

    code: Annotated[str, Meta(description="Stable; see docs/operations.md.")]
    message: Annotated[str, Meta(description="What was given, what was expected, and what to do.")]


class FieldError(TypedDict):
    """One field that is wrong."""

    type: str
    loc: Annotated[list[str | int], Meta(description="Where the field is.")]
    msg: str


class ErrorBody(TypedDict):
    """Every error: clients of FastAPI read `detail`, those of `/v1/infer` read `success` and `error`."""

    success: bool
    error: ErrorCode
    message: str
    detail: Annotated[str | list[FieldError], Meta(description="The message, or every field that is wrong.")]
    request_id: Annotated[str, Meta(description="As in the header `X-Request-Id` and in the server's log.")]


def error_body(error: MienError, request_id: str) -> ErrorBody:
    """The body of an error response."""
    detail: Any = list(error.fields) if isinstance(error, InvalidField) and error.fields else error.message
    return {
        "success": False,
        "error": {"code": error.code, "message": error.message},
        "message": error.message,
        "detail": detail,
        "request_id": request_id,
    }


def _renderer(request: Request) -> RenderError:
    """The matched route's own `render_error`, where its API has one."""
    renderer: RenderError = getattr(request.scope.get("route"), "render_error", render_error)
    return renderer


def render_error(request: Request, error: MienError) -> Response:
    """The response for `error` as most APIs send it."""
    return error_response(error, request.state.request_id)


def error_response(error: MienError, request_id: str) -> Response:
    """The response for `error`, with Retry-After if a retry makes sense."""
    headers = {}
    if error.retry_after is not None:
        headers["Retry-After"] = str(math.ceil(error.retry_after))
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if error.status in (408, 413):  # the rest of the body is not worth reading
        headers["Connection"] = "close"
    if isinstance(error, UnsupportedEncoding):
        headers["Accept-Encoding"] = "gzip"
    body = orjson.dumps(error_body(error, request_id))
    return Response(body, error.status, headers, media_type="application/json")


def invalid_fields(error: ValidationError | RequestValidationError) -> InvalidField:
    """One sentence that names every wrong field, and FastAPI's list of details without echoing inputs."""
    details = tuple(  # models bound their number: lists fail at the first, maps are short
        {"type": item["type"], "loc": list(item["loc"]), "msg": _WORDS.get(item["type"], str(item["msg"]))}
        for item in error.errors()[:20]
    )
    sentences = [f"{'.'.join(str(part) for part in item['loc']) or 'body'}: {item['msg']}" for item in details]
    return InvalidField("; ".join(sentences), details)


def install_error_handlers(app: FastAPI, metrics: Metrics) -> RespondToBug:
    """Count every error of every route, log it if it is a fault, and render it in the form of the route's API.

    Returns the handler of unexpected exceptions, for the outermost middleware: Starlette would raise them again after
    it had responded itself.
    """

    async def mien_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, MienError)  # noqa: S101 - Starlette's signature is wider than its call
        metrics.errors.labels(error.code).inc()
        if error.is_fault:
            log.error("request failed", code=error.code, exc_info=error)
        return _renderer(request)(request, error.without_frames())

    async def http_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101
        kind = _BY_STATUS.get(error.status_code, RequestError)
        known = kind(f"{request.method} {path_of(request.scope)}: {error.detail}")
        response = await mien_error(request, known)
        response.status_code = error.status_code
        response.headers.update(error.headers or {})
        if error.status_code == MethodNotAllowed.status:
            response.headers["Allow"] = ", ".join(allowed_methods(app.routes, request.scope))
        return response

    async def validation_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError | ValidationError)  # noqa: S101
        return await mien_error(request, invalid_fields(error))

    async def bug(request: Request, error: Exception) -> Response:
        log.error("unexpected error", exc_info=error)
        return await mien_error(
            request, InternalError("the server failed; its log has the details under this request id")
        )

    app.add_exception_handler(MienError, mien_error)
    app.add_exception_handler(HTTPException, http_error)
    app.add_exception_handler(RequestValidationError, validation_error)
    return bug
