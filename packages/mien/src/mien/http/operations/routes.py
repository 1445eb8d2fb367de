"""Liveness, readiness, metrics."""

from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from mien.http.context import context_of

router = APIRouter(tags=["Operations"])


@router.get("/livez")
async def livez() -> JSONResponse:
    """200 while the process answers at all."""
    return JSONResponse({"status": "ok"})


@router.get("/readyz")
async def readyz(request: Request) -> JSONResponse:
    """200 once requests will be served: every model is loaded and warm. 503 before that."""
    if context_of(request).readiness.runtime is None:
        return JSONResponse({"status": "loading"}, 503, {"Retry-After": "2"})
    return JSONResponse({"status": "ready"})


@router.get("/metrics")
async def metrics(request: Request) -> Response:
    """Metrics in Prometheus' text format."""
    context = context_of(request)
    context.auth.require(request, "infer")
    return Response(context.metrics.render(), media_type=CONTENT_TYPE_LATEST)
