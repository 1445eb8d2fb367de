"""Builds the application and listens: the only place where everything is wired together."""

import asyncio
import gc
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
import uvicorn
from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from starlette.middleware.cors import CORSMiddleware

from mien import __version__
from mien.engine.malloc import limit_malloc_arenas
from mien.errors import CannotListen, InternalError, MienError
from mien.http.auth import Auth, is_loopback
from mien.http.errors import install_error_handlers
from mien.http.inferencesh.dialect import CompatPaths
from mien.http.inferencesh.frames import FrameCache
from mien.http.inferencesh.routes import router as inferencesh
from mien.http.inferencesh.webhook import webhook_body
from mien.http.insightface.routes import router as insightface
from mien.http.lumen.routes import InferFirst
from mien.http.lumen.routes import router as lumen
from mien.http.lumen.traffic import Traffic
from mien.http.observe import Observe
from mien.http.operations.routes import router as operations
from mien.http.origin import OriginGuard
from mien.keys import FileKeyStore
from mien.metrics import Metrics
from mien.nodes.authorise import by_keys
from mien.nodes.network import Network
from mien.runtime import build_runtime
from mien.settings import DEFAULT_PORTS, Settings
from mien.tasks.platform import Platform

log = structlog.get_logger()
EXPOSED_HEADERS = ("Retry-After", "X-Correlation-Id", "X-Request-Id", "X-Result-Meta", "X-Result-Schema")


def create_app(settings: Settings, *, doors: bool = True) -> FastAPI:
    """The application with all doors. Models load when it starts; `/readyz` tells when they are ready.

    Not `doors`: only liveness, readiness and metrics over HTTP, for a server that is asked over gRPC.
    """
    metrics = Metrics()
    keys = FileKeyStore(settings.locations.data_dir)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        open_without_keys = not settings.listening.auth or is_loopback(settings.node_host)
        network = Network(settings, metrics, by_keys(keys, open_without=open_without_keys))
        await network.start()
        loading = asyncio.create_task(_load(app, settings, metrics, network, doors=doors))
        try:
            yield
        finally:
            loading.cancel()
            await asyncio.gather(loading, return_exceptions=True)
            if app.state.platform is not None:
                await app.state.platform.stop()
            await network.stop(settings.listening.drain_seconds)
            if app.state.runtime is not None:
                await app.state.runtime.close()

    app: FastAPI = FastAPIOffline(
        title="Mien",
        version=__version__,
        lifespan=lifespan,
        description="One engine, three doors: faces, images and your own Python models.",
    )
    app.state.settings = settings
    app.state.metrics = metrics
    app.state.auth = Auth(settings.listening, keys)
    app.state.infer_traffic = Traffic()
    app.state.runtime = None
    app.state.platform = None
    app.state.task_frames = FrameCache()
    app.state.failure = None
    app.state.on_failure = None
    install_error_handlers(app)
    app.include_router(operations)
    if doors:
        app.include_router(insightface)
        app.include_router(lumen)
        app.include_router(inferencesh)
        app.add_middleware(InferFirst)
    app.add_middleware(OriginGuard, listening=settings.listening, has_keys=lambda: bool(keys.all()))
    if doors:
        app.add_middleware(CompatPaths)
    app.add_middleware(Observe, metrics=metrics)
    if settings.listening.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.listening.cors_origins,
            allow_methods=["GET", "POST", "PUT", "DELETE"],
            allow_headers=["*"],
            expose_headers=EXPOSED_HEADERS,
        )
    return app


async def _load(app: FastAPI, settings: Settings, metrics: Metrics, network: Network, *, doors: bool) -> None:
    """Start tasks, then build the runtime, beside the running server, so that liveness can be asked meanwhile."""
    try:
        if doors:
            app.state.platform = await Platform.start(settings, metrics, webhook_body)
        runtime = await asyncio.to_thread(build_runtime, settings, metrics)
    except MienError as error:
        _give_up(app, error)
    except Exception as error:  # whatever else it is, the server must not stay up and never be ready
        log.error("unexpected error", exc_info=error)
        _give_up(app, InternalError("the server could not start; its log has the details"))
    else:
        runtime.nodes = network.pool
        app.state.runtime = runtime
        if app.state.platform is not None:
            app.state.platform.attach(runtime.registry, runtime.fetcher)
        await network.ready(runtime.registry)
        # What is here stays: the collector need not look at it again and again.
        gc.collect()
        gc.freeze()
        log.info("ready", models=app.state.runtime.models.names())


def _give_up(app: FastAPI, error: MienError) -> None:
    app.state.failure = error
    log.error("the server could not start", code=error.code, reason=error.message)
    if app.state.on_failure is not None:
        app.state.on_failure()


def require_safe_host(settings: Settings) -> None:
    """Raise CannotListen for an address beyond loopback without API keys, unless `--no-auth` says so."""
    hosts = [settings.listening.host, *([settings.node_host] if settings.nodes.grpc_port is not None else [])]
    reachable = next((host for host in hosts if not is_loopback(host)), None)
    if reachable is None or not settings.listening.auth or FileKeyStore(settings.locations.data_dir).all():
        return
    raise CannotListen(
        f"{reachable} is reachable from other machines and there are no API keys: make one with "
        "`mien keys create NAME`, or pass --no-auth to let anyone in"
    )


def open_sockets(settings: Settings) -> list[socket.socket]:
    """Listening sockets, one for each port. Raises CannotListen that names the port."""
    ports = DEFAULT_PORTS if settings.listening.port is None else (settings.listening.port,)
    hint = "; choose another with --port" if settings.listening.port is None else ""
    opened: list[socket.socket] = []
    try:
        opened.extend(_listener(settings.listening.host, port, hint) for port in ports)
    except CannotListen:
        for listener in opened:
            listener.close()
        raise
    return opened


def _listener(host: str, port: int, hint: str) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        raise CannotListen(f"cannot listen on {host} port {port}: {error.strerror}{hint}") from error
    return listener


def require_free_grpc_port(settings: Settings) -> None:
    """Raise CannotListen if the port to be a node on is taken: better now than after the models are loaded."""
    if settings.nodes.grpc_port:
        _listener(settings.node_host, settings.nodes.grpc_port, "; choose another with --grpc-port").close()


class _Server(uvicorn.Server):
    """Lets tasks drain while connections do: streams of tasks end when their tasks have."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        state = getattr(self.config.app, "state", None)
        if state is not None and state.platform is not None:
            state.platform.begin_drain()
        await super().shutdown(sockets)


def serve(settings: Settings, *, doors: bool = True) -> None:
    """Listen until SIGTERM or SIGINT, then drain. Raises CannotListen, and ModelError if the models do not load."""
    limit_malloc_arenas()
    require_safe_host(settings)
    require_free_grpc_port(settings)
    sockets = open_sockets(settings)
    app = create_app(settings, doors=doors)
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=max(1, round(settings.listening.drain_seconds)),
    )
    server = _Server(config)
    app.state.on_failure = lambda: setattr(server, "should_exit", True)
    # Once drained, uvicorn raises the signal again for the handler that was here before: this one, so that a server
    # that was told to stop and did ends with status 0.
    for kind in (signal.SIGTERM, signal.SIGINT):
        signal.signal(kind, server.handle_exit)
    for listener in sockets:
        host, port = listener.getsockname()[:2]
        log.info("listening", url=f"http://{host}:{port}")
    try:
        server.run(sockets=sockets)
    finally:
        for listener in sockets:
            listener.close()
    if app.state.failure is not None:
        raise app.state.failure
