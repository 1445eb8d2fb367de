"""GET routes about the server itself: health, nodes, tasks, metrics, settings."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

import orjson
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.websockets import WebSocket, WebSocketDisconnect

from mien.errors import MienError, NotFound, UpgradeRequired
from mien.http.context import Runtime, authorised, context_of
from mien.http.errors import error_response
from mien.http.lumen import schema
from mien.http.lumen.nodes import active, local_node, now, remote_node, tasks_of, watched_node
from mien.http.media import JSON
from mien.http.openapi.operation import Answer, Enveloped, describe
from mien.http.route import Route
from mien.settings import Settings
from mien.vision.formats.still import most_pixels_of_any

Handler = TypeVar("Handler", bound=Callable[[Request], Awaitable[Response]])
SERVICE = "Lumen REST API"
WATCH_PATH = "/v1/nodes/watch"
GOING_AWAY = 1001

STARTING = Answer("The models are being loaded.", {JSON: Enveloped(schema.Answer, schema.Health)})

router = APIRouter(route_class=Route, tags=["Nodes"])


def get(path: str, data: type, **declared: Any) -> Callable[[Handler], Handler]:
    """Register a GET route that also handles a trailing slash. `data`: what the envelope holds."""

    def add(handler: Handler) -> Handler:
        describe(Enveloped(schema.Answer, data), **declared)(handler)
        router.add_api_route(path, handler, methods=["GET"], name=f"v1_{handler.__name__}", response_model=None)
        router.add_route(f"{path}/", handler, ["GET"], include_in_schema=False)
        return handler

    return add


@get("/v1/health", schema.Health, scope=None, others={503: STARTING})
async def health(request: Request) -> JSONResponse:
    """Whether requests are served. Needs no key."""
    ready = context_of(request).readiness.runtime is not None
    data: schema.Health = {"service": SERVICE, "status": "healthy" if ready else "starting"}
    return JSONResponse(
        {**envelope(data), "success": ready}, 200 if ready else 503, None if ready else {"Retry-After": "2"}
    )


@get("/v1/nodes", schema.Nodes)
async def nodes(request: Request) -> JSONResponse:
    """This server and the nodes behind it, with what each can do."""
    data: schema.Nodes = {"nodes": all_nodes(authorised(request))}
    return JSONResponse(envelope(data))


@get("/v1/nodes/{node_id}/capabilities", list[schema.NodeCapability], errors=(NotFound,))
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


@get("/v1/tasks", schema.OfferedTasks)
async def tasks(request: Request) -> JSONResponse:
    """Every task with its node, by service: the names that `task` takes."""
    return JSONResponse(envelope(tasks_of(all_nodes(authorised(request)))))


@get("/v1/metrics", schema.InferMetrics)
async def metrics(request: Request) -> JSONResponse:
    """Counts of `/v1/infer`, streams included. `/metrics` has more, for Prometheus."""
    known = all_nodes(authorised(request))
    counts = context_of(request).infer_traffic.shape()
    data: schema.InferMetrics = {**counts, "active_nodes": active(known), "total_nodes": len(known)}
    return JSONResponse(envelope(data))


@get("/v1/config", schema.Config)
async def config(request: Request) -> JSONResponse:
    """Limits and timeouts of this server; no secrets and no paths."""
    return JSONResponse(envelope(configuration(authorised(request).settings)))


def all_nodes(runtime: Runtime) -> list[schema.Node]:
    """This server first, then the nodes behind it."""
    local = local_node(runtime.registry.local(), runtime.settings.limits.queue_images)
    return [local, *map(remote_node, runtime.nodes.nodes)]


# --- a WebSocket that sends the nodes now and at each change


@router.get(WATCH_PATH, name="v1_watch", response_model=None)
@describe({}, scope=None, errors=(UpgradeRequired,))
async def watch_without_upgrade(request: Request) -> Response:
    """A WebSocket: sends `{"type": "snapshot", "nodes": [...]}` at once and at each change."""
    error = UpgradeRequired("this route requires a WebSocket connection")
    response = error_response(error, request.state.request_id)
    response.headers.update({"Upgrade": "websocket", "Connection": "Upgrade"})
    return response


@router.websocket(WATCH_PATH)
async def watch(socket: WebSocket) -> None:
    """Snapshots until either side goes away."""
    try:
        runtime = authorised(socket)
    except MienError as error:
        await socket.send_denial_response(error_response(error, secrets.token_hex(8)))
        return
    await socket.accept()
    sending = asyncio.create_task(_send(socket, runtime))
    try:
        while True:  # whatever the client sends is ignored; its close ends the wait
            await socket.receive_text()
    except (WebSocketDisconnect, KeyError):
        pass
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)


async def _send(socket: WebSocket, runtime: Runtime) -> None:
    async for nodes in snapshots(runtime):
        await socket.send_text(orjson.dumps({"type": "snapshot", "nodes": nodes}).decode())
    await socket.close(GOING_AWAY)


async def snapshots(runtime: Runtime) -> AsyncIterator[list[dict[str, Any]]]:
    """The nodes behind this server now, and again after each change that can be seen here."""
    last = None
    async for nodes in runtime.nodes.changes():
        if (seen := [watched_node(node) for node in nodes]) != last:
            yield seen
        last = seen


# --- the data of the responses


def envelope(data: Any) -> schema.Answer:
    """The envelope of every response of this API."""
    return {"success": True, "data": data, "timestamp": now()}


def configuration(settings: Settings) -> schema.Config:
    """Under the original's keys, durations in nanoseconds, limits beside them."""
    return {
        "server": {
            "rest": {
                "enabled": True,
                "host": settings.listening.host,
                "port": settings.listening.port or 8080,
                "cors": bool(settings.listening.cors_origins),
                "timeout": _nanoseconds(settings.limits.request_timeout),
            }
        },
        "discovery": {
            "enabled": settings.nodes.mdns_browse,
            "service_type": "_lumen._tcp",
            "domain": "local",
            "scan_interval": _nanoseconds(settings.nodes.mdns_scan_seconds),
            "node_timeout": _nanoseconds(settings.nodes.node_forget_seconds),
            "max_nodes": settings.nodes.node_limit,
        },
        "load_balancer": {
            "strategy": "least_outstanding_requests",
            "health_check": settings.nodes.node_health_seconds > 0,
            "check_interval": _nanoseconds(settings.nodes.node_health_seconds),
        },
        "chunk": {
            "enable_auto": settings.nodes.chunk_auto,
            "threshold": settings.nodes.chunk_threshold,
            "max_chunk_bytes": settings.nodes.chunk_max_bytes,
        },
        "limits": {
            "max_body_bytes": settings.limits.max_body_bytes,
            "max_image_bytes": settings.limits.max_image_bytes,
            "max_items": settings.limits.max_images,
            "max_pixels": most_pixels_of_any(settings.limits.max_pixels),
            "queue_items": settings.limits.queue_images,
            "queue_bytes": settings.limits.queue_bytes,
        },
        "models": {"providers": list(settings.execution.providers), "offline": settings.models.offline},
        "logging": {"level": settings.logging.log_level, "format": settings.logging.log_format},
    }


def _nanoseconds(seconds: float) -> int:
    return round(seconds * 1e9)
