"""Liveness, readiness, metrics."""

from typing import Literal, NotRequired, TypedDict

from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from mien.errors import InternalError
from mien.http.context import context_of
from mien.http.media import JSON
from mien.http.openapi.operation import Answer, Binary, describe
from mien.http.route import Route


class Live(TypedDict):
    """Answer of `GET /livez`."""

    status: Literal["ok"]


class Ready(TypedDict):
    """Answer of `GET /readyz`."""

    status: Literal["ready", "loading", "failing"]
    reason: NotRequired[str]
    """Why every request is refused."""


router = APIRouter(route_class=Route, tags=["Operations"])


@router.get("/livez")
@describe(Live, scope=None)
async def livez() -> JSONResponse:
    """200 while the process answers at all."""
    live: Live = {"status": "ok"}
    return JSONResponse(live)


@router.get("/readyz")
@describe(
    Ready,
    scope=None,
    others={503: Answer("The models are being loaded, or the API keys cannot be read.", {JSON: Ready})},
)
async def readyz(request: Request) -> JSONResponse:
    """200 once requests will be served: every model is loaded and warm. 503 before that, and while keys cannot be
    read."""
    try:
        context_of(request).auth.check()
    except InternalError as error:
        return JSONResponse(Ready(status="failing", reason=error.message), 503)
    if context_of(request).readiness.runtime is None:
        return JSONResponse(Ready(status="loading"), 503, {"Retry-After": "2"})
    return JSONResponse(Ready(status="ready"))


@router.get("/metrics")
@describe({"text/plain": Binary("The metrics.")})
async def metrics(request: Request) -> Response:
    """Metrics in Prometheus' text format."""
    context = context_of(request)
    context.auth.require(request, "infer")
    return Response(context.metrics.render(), media_type=CONTENT_TYPE_LATEST)
