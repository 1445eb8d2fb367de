"""Serving the application: addresses, sockets, signals, and graceful shutdown on SIGTERM."""

import signal
import socket
import ssl

import structlog
import uvicorn

from mien.app import create_app
from mien.connections.limits import ConnectionLimits
from mien.connections.server import HttpServer
from mien.connections.tls import server_context
from mien.engine.malloc import limit_malloc_arenas
from mien.errors import CannotListen
from mien.hosts import is_loopback
from mien.http.context import Context
from mien.keys import FileKeyStore
from mien.settings import Settings

log = structlog.get_logger()


def require_safe_host(settings: Settings) -> None:
    """Raise CannotListen for a non-loopback address without API keys, unless `--no-auth` allows it."""
    hosts = [settings.listening.host, *([settings.node_host] if settings.nodes.grpc_port is not None else [])]
    reachable = next((host for host in hosts if not is_loopback(host)), None)
    if reachable is None or not settings.listening.auth or FileKeyStore(settings.locations.data_dir).all():
        return
    raise CannotListen(
        f"{reachable} is reachable from other machines and there are no API keys: create one with "
        "`mien keys create NAME`, or pass --no-auth to allow access without a key"
    )


def open_sockets(settings: Settings) -> list[socket.socket]:
    """One bound socket per port. Raises CannotListen naming the port."""
    hint = "; choose another with --port" if settings.listening.port is None else ""
    opened: list[socket.socket] = []
    try:
        opened.extend(_listener(settings.listening.host, port, hint) for port in settings.listening.ports)
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
    """Raise CannotListen if the gRPC port is in use: better now than after the models are loaded."""
    if settings.nodes.grpc_port:
        _listener(settings.node_host, settings.nodes.grpc_port, "; choose another with --grpc-port").close()


class _Server(HttpServer):
    """Stops if the application could not start, and drains tasks while it drains connections."""

    def __init__(
        self, config: uvicorn.Config, limits: ConnectionLimits, context: Context, tls: ssl.SSLContext | None
    ) -> None:
        super().__init__(config, limits, context.metrics, tls)
        self._readiness = context.readiness

    async def on_tick(self, counter: int) -> bool:
        self.should_exit = self.should_exit or self._readiness.failure is not None
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # Task streams end with their tasks, and uvicorn waits for open streams before it ends the lifespan: a drain
        # that began only there would wait for itself.
        self._readiness.begin_drain()
        await super().shutdown(sockets)


def serve(settings: Settings, *, apis: bool = True) -> None:
    """Listen until SIGTERM or SIGINT, then drain. Raises CannotListen, TlsInvalid, and ModelError if the models do not
    load."""
    limit_malloc_arenas()
    require_safe_host(settings)
    require_free_grpc_port(settings)
    limits, tls = ConnectionLimits.from_settings(settings.listening), server_context(settings.listening)
    sockets = open_sockets(settings)
    app = create_app(settings, apis=apis)
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # the application's own middleware reads them, from MIEN_TRUSTED_PROXIES
        timeout_graceful_shutdown=max(1, round(settings.listening.drain_seconds)),
    )
    context: Context = app.state.context
    server = _Server(config, limits, context, tls)
    # Once drained, uvicorn re-raises the signal to the previous handler. That is this one, so that a server that was
    # asked to stop, and did, exits with status 0.
    for kind in (signal.SIGTERM, signal.SIGINT):
        signal.signal(kind, server.handle_exit)
    for listener in sockets:
        host, port = listener.getsockname()[:2]
        log.info("listening", url=settings.listening.url(host, port))
    try:
        server.run(sockets=sockets)
    finally:
        for listener in sockets:
            listener.close()
    if context.readiness.failure is not None:
        raise context.readiness.failure
