"""A server with small limits in a thread of this process, and an application that is only there to be reached."""

import asyncio
import json
import logging
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import structlog
import uvicorn
from starlette.types import Receive, Scope, Send

from mien.connections import server as server_module
from mien.connections import table
from mien.connections.limits import ConnectionLimits
from mien.connections.server import HttpServer
from mien.metrics import Metrics
from mien.settings import Listening
from testing.waiting import eventually


@dataclass
class App:
    """`/echo` answers with what it was sent, `/wait` once released, `/large` with much; others with their path."""

    released: threading.Event = field(default_factory=threading.Event)
    scopes: list[Scope] = field(default_factory=list)
    disconnects: int = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await self._websocket(receive, send)
            return
        self.scopes.append(scope)
        path, body = scope["path"], path_bytes(scope)
        if path == "/echo":
            message = await receive()
            body = message.get("body", b"")
            while message.get("more_body"):
                message = await receive()
                body += message.get("body", b"")
            if message["type"] == "http.disconnect":
                self.disconnects += 1
                return
            body = json.dumps({"bytes": len(body), "headers": len(scope["headers"])}).encode()
        elif path == "/wait":
            await asyncio.to_thread(self.released.wait)
        elif path == "/large":
            body = b"x" * 16_000_000
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
        await send({"type": "http.response.body", "body": body})

    @staticmethod
    async def _websocket(receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"]})


def path_bytes(scope: Scope) -> bytes:
    path: str = scope["path"]
    return path.encode()


@dataclass
class Running:
    """The server, for tests that speak to it over sockets of their own."""

    port: int
    app: App
    metrics: Metrics

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)

    def ask(self, request: bytes) -> tuple[int, bytes]:
        """Send these bytes, and read until the server closes the connection: status and body of the first response."""
        with self.connect() as connection:
            connection.sendall(request)
            return answer(connection)

    def ended(self, reason: str) -> float:
        """How many connections the server has ended for this reason."""
        value = self.metrics.registry.get_sample_value("mien_http_connections_ended_total", {"reason": reason})
        return value or 0.0

    @property
    def open(self) -> float:
        return self.metrics.registry.get_sample_value("mien_http_connections") or 0.0


def answer(connection: socket.socket) -> tuple[int, bytes]:
    """All that the server sends until it closes the connection."""
    received = read_all(connection)
    return (int(received.split(b" ", 2)[1]) if received else 0), received.partition(b"\r\n\r\n")[2]


def read_all(connection: socket.socket) -> bytes:
    received = b""
    try:
        while chunk := connection.recv(65536):
            received += chunk
    except (ConnectionResetError, BrokenPipeError):
        pass
    return received


@contextmanager
def running(tls: ssl.SSLContext | None, limits: ConnectionLimits) -> Iterator[Running]:
    app, metrics = App(), Metrics()
    with socket.socket() as listener, pytest.MonkeyPatch.context() as faster:
        faster.setattr(table, "LINGER_SECONDS", 0.2)
        faster.setattr(server_module, "SWEEP_SECONDS", 0.05)
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        config = uvicorn.Config(
            app, lifespan="off", log_config=None, access_log=False, proxy_headers=False, timeout_graceful_shutdown=1
        )
        server = HttpServer(config, limits, metrics, tls)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        eventually(lambda: server.started)
        try:
            yield Running(port, app, metrics)
        finally:
            app.released.set()
            server.should_exit = True
            thread.join(20)


@pytest.fixture
def start() -> Iterator[Callable[..., Running]]:
    """Starts servers: `start(max_connections=…, tls=…)`."""
    with ExitStack() as stack:

        def started(tls: ssl.SSLContext | None = None, **settings: Any) -> Running:
            listening = Listening.model_validate(settings)
            return stack.enter_context(running(tls, ConnectionLimits.from_settings(listening)))

        yield started


@pytest.fixture(scope="module")
def front() -> Iterator[Running]:
    """A server with default limits."""
    with running(None, ConnectionLimits.from_settings(Listening())) as started:
        yield started


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.reset_defaults()
