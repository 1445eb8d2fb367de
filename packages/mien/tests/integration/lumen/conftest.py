"""/v1/infer over real HTTP with small services of known behaviour behind it, no models."""

import asyncio
import json
import logging
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx2
import pytest
import structlog
import uvicorn

from mien import errors
from mien.app import create_app
from mien.connections.limits import ConnectionLimits
from mien.connections.server import HttpServer
from mien.engine.cancellation import CancelScope
from mien.inference.contract import InferRequest, InferResult, TaskInfo
from mien.inference.registry import ServiceRegistry
from mien.nodes.pool import NodePool
from mien.settings import Settings

JSON_V1 = "application/json;schema=echo_v1"


@dataclass
class Service:
    """What all of these share: a name and one task."""

    name: str
    seen: list[InferRequest] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)
    """Set when the service was told that nobody listens any more, or came to its end."""
    ended_at: float = 0.0
    finished: bool = False

    def tasks(self) -> Sequence[TaskInfo]:
        return [TaskInfo(f"{self.name}_task", ("*/*",), (JSON_V1,), model="none", aliases=(f"{self.name}_v1",))]

    async def infer(self, request: InferRequest, call: CancelScope, *, stream: bool) -> AsyncIterator[InferResult]:
        self.seen.append(request)
        self.ended.clear()
        try:
            async for message in self.messages(request, call, stream):
                yield message
            self.finished = True
        finally:
            self.ended_at = time.monotonic()
            self.ended.set()

    def messages(self, request: InferRequest, call: CancelScope, stream: bool) -> AsyncIterator[InferResult]:
        raise NotImplementedError


class Echo(Service):
    """Answers at once with what it was asked."""

    async def messages(self, request: InferRequest, call: CancelScope, stream: bool) -> AsyncIterator[InferResult]:
        said = {
            "items": [{"hex": item.data.hex(), "mime": item.mime} for item in request.items],
            "task": request.task,
            "metadata": dict(request.metadata),
            "correlation_id": request.correlation_id,
            "seconds": call.timeout,
        }
        yield InferResult(json.dumps(said).encode(), JSON_V1, "echo_v1", {"n": str(len(request.items))}, True, total=1)


class Stepper(Service):
    """`steps` early looks, `ms` apart, then the final message. Waits without a look at its call."""

    async def messages(self, request: InferRequest, call: CancelScope, stream: bool) -> AsyncIterator[InferResult]:
        steps, pause = int(request.metadata.get("steps", "3")), int(request.metadata.get("ms", "30")) / 1e3
        for step in range(steps):
            yield InferResult(str(step).encode(), "text/plain", meta={"sent": str(time.monotonic())}, seq=step)
            await asyncio.sleep(pause)
        yield InferResult(b"done", "text/plain", is_final=True, seq=steps)


class Failing(Service):
    """Raises the error class named by metadata `error`, after `after` messages."""

    async def messages(self, request: InferRequest, call: CancelScope, stream: bool) -> AsyncIterator[InferResult]:
        for _ in range(int(request.metadata.get("after", "0"))):
            yield InferResult(b"part", "text/plain")
        kind = request.metadata["error"]
        if kind == "bug":
            raise ZeroDivisionError("a secret of the server")
        if kind != "none":
            raise getattr(errors, kind)(f"failed as asked: {kind}", **_retry(request))


def _retry(request: InferRequest) -> dict[str, float]:
    text = request.metadata.get("retry_after")
    return {"retry_after": float(text)} if text else {}


class Pieces(Service):
    """Answers with the pieces that metadata `pieces` lists as `[[data, seq, total, offset, is_final], ...]`."""

    async def messages(self, request: InferRequest, call: CancelScope, stream: bool) -> AsyncIterator[InferResult]:
        for data, seq, total, offset, is_final in json.loads(request.metadata["pieces"]):
            yield InferResult(data.encode(), "text/plain", "", {"seq": str(seq)}, is_final, seq, total, offset)


@dataclass
class Api:
    """A running server, a client for it, and the services behind it."""

    url: str
    port: int
    client: httpx2.Client
    services: dict[str, Any]
    app: Any

    def infer(self, **fields: Any) -> httpx2.Response:
        return self.client.post("/v1/infer", json=fields)


@contextmanager
def running(folder: Path, **settings: Any) -> Iterator[Api]:
    """The application without models on a free port, in a thread of this process."""
    chosen = Settings(data_dir=folder / "data", cache_dir=folder / "cache", **settings)
    app = create_app(chosen)
    services = [Echo("echo"), Stepper("stepper"), Failing("failing"), Pieces("pieces")]
    registry = ServiceRegistry()
    for service in services:
        registry.add(service)
    app.state.context.readiness.runtime = SimpleNamespace(
        settings=chosen,
        metrics=app.state.context.metrics,
        registry=registry,
        nodes=NodePool.from_settings(chosen.nodes),
    )
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        config = uvicorn.Config(app, lifespan="off", log_config=None, access_log=False)
        limits = ConnectionLimits.from_settings(chosen.listening)
        server = HttpServer(config, limits, app.state.context.metrics)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.005)
        url = f"http://127.0.0.1:{port}"
        with httpx2.Client(base_url=url, timeout=30, trust_env=False) as client:
            yield Api(url, port, client, {service.name: service for service in services}, app)
        server.should_exit = True
        thread.join(10)
    app.state.context.codec_threads.close()


@pytest.fixture(scope="package", autouse=True)
def quiet() -> Iterator[None]:
    """Rendering tracebacks for people takes seconds, in the server's own thread."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with running(tmp_path_factory.mktemp("api")) as started:
        yield started


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Api]]:
    """Starts a server with settings of its own."""
    with ExitStack() as stack:
        yield lambda **settings: stack.enter_context(running(tmp_path, **settings))
