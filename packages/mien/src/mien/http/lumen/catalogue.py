"""GET routes about the server itself: health, nodes, tasks, metrics, settings."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from mien.errors import NotFound
from mien.http.context import authorised
from mien.http.lumen.configuration import configuration
from mien.http.lumen.shapes import active, envelope, local_node, tasks_of
from mien.runtime import Runtime

Handler = TypeVar("Handler", bound=Callable[[Request], Awaitable[Response]])
SERVICE = "Lumen REST API"

router = APIRouter(tags=["Nodes"])


def get(path: str) -> Callable[[Handler], Handler]:
    """A GET route that answers HEAD too, with or without a slash at its end."""

    def add(handler: Handler) -> Handler:
        router.add_api_route(path, handler, methods=["GET"], response_model=None)
        for extra in (path, f"{path}/"):
            router.add_route(extra, handler, ["GET", "HEAD"], include_in_schema=False)
        return handler

    return add


@get("/v1/health")
async def health(request: Request) -> JSONResponse:
    """Whether requests are served. Needs no key."""
    ready = request.app.state.runtime is not None
    body = envelope({"service": SERVICE, "status": "healthy" if ready else "starting"})
    return JSONResponse({**body, "success": ready}, 200 if ready else 503, None if ready else {"Retry-After": "2"})


@get("/v1/nodes")
async def nodes(request: Request) -> JSONResponse:
    """This server and the nodes behind it, with what each can do."""
    return JSONResponse(envelope({"nodes": all_nodes(authorised(request))}))


@get("/v1/nodes/{node_id}/capabilities")
async def capabilities(request: Request) -> JSONResponse:
    """What one node can do."""
    runtime = authorised(request)
    wanted = request.path_params["node_id"]
    known = all_nodes(runtime)
    for node in known:
        if wanted in (node["id"], node["name"]):
            return JSONResponse(envelope(node.get("capabilities") or []))
    listed = ", ".join(node["id"] for node in known)
    raise NotFound(f"no node is called {wanted[:80]!r}; there are: {listed}")


@get("/v1/tasks")
async def tasks(request: Request) -> JSONResponse:
    """Every task with its node, by service: the names that `task` takes."""
    return JSONResponse(envelope(tasks_of(all_nodes(authorised(request)))))


@get("/v1/metrics")
async def metrics(request: Request) -> JSONResponse:
    """Counts of `/v1/infer`, streams included. `/metrics` has more, for Prometheus."""
    known = all_nodes(authorised(request))
    counts: dict[str, Any] = request.app.state.infer_traffic.shape()
    return JSONResponse(envelope({**counts, "active_nodes": active(known), "total_nodes": len(known)}))


@get("/v1/config")
async def config(request: Request) -> JSONResponse:
    """Limits and timeouts of this server; no secrets and no paths."""
    return JSONResponse(envelope(configuration(authorised(request).settings)))


def all_nodes(runtime: Runtime) -> list[dict[str, Any]]:
    """This server first, then the nodes behind it."""
    local = local_node(runtime.registry.local(), runtime.settings.queue_images)
    return [local, *(runtime.nodes.snapshot() if runtime.nodes is not None else ())]
