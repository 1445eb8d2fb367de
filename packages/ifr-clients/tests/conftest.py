"""Real servers and real clients: Mien itself, a scripted HTTP server, and both clients behind one interface."""

import asyncio
import contextlib
import http.server
import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ormsgpack
import pytest

from ifr_clients import IFRClient, IFRClientAsync
from testing.ports import free_port

PHOTOS = Path(__file__).parents[2] / "mien/tests/photos"
EMPTY = {"took": {"total_ms": 0.1}, "data": []}


@pytest.fixture(scope="session")
def photos() -> Path:
    """Folder of real photos with one face each."""
    return PHOTOS


# --- both clients behind one interface


class Blocking:
    """An IFRClientAsync whose methods block, so that one test serves both clients."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        self.client = IFRClientAsync(*args, **settings)
        self._runner = asyncio.Runner()

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.client, name)
        if not callable(method):
            return method
        return lambda *args, **keywords: self._runner.run(self._awaited(method(*args, **keywords)))

    async def _awaited(self, result: Any) -> Any:
        return [item async for item in result] if hasattr(result, "__aiter__") else await result

    def shut(self) -> None:
        self._runner.run(self.client.close())
        self._runner.close()


@pytest.fixture(params=["sync", "async"])
def client_factory(request: pytest.FixtureRequest) -> Iterator[Callable[..., Any]]:
    """Makes clients of one of the two kinds and closes them; a test that uses it runs once for each kind."""
    made: list[Any] = []

    def make(*args: Any, **settings: Any) -> Any:
        made.append(IFRClient(*args, **settings) if request.param == "sync" else Blocking(*args, **settings))
        return made[-1]

    yield make
    for client in made:
        client.close() if isinstance(client, IFRClient) else client.shut()


# --- a server that answers by script


@dataclass
class Seen:
    """A request that the scripted server got."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    peer: tuple[str, int]


@dataclass
class Reply:
    """One answer of the scripted server."""

    body: Any = field(default_factory=lambda: EMPTY)
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0
    """Seconds before it."""
    cut: bool = False
    """Promise more than is sent, and hang up."""
    drip: float = 0.0
    """Seconds between its bytes."""

    def encoded(self, seen: Seen) -> tuple[bytes, str]:
        if isinstance(self.body, bytes):
            return self.body, "application/octet-stream"
        if seen.headers.get("accept") == "application/x-msgpack" and self.status < 300:
            return ormsgpack.packb(self.body), "application/x-msgpack"
        return json.dumps(self.body).encode(), "application/json"


class Scripted:
    """Answers requests from `script` in order, then with `otherwise`; keeps what it saw."""

    def __init__(self) -> None:
        self.script: list[Reply] = []
        self.otherwise: Reply | Callable[[Seen], Reply] = Reply()
        self.seen: list[Seen] = []
        self.server: http.server.ThreadingHTTPServer
        self.scheme = "http"

    @property
    def host(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.server.server_address[1]}"

    def reply_to(self, seen: Seen) -> Reply:
        self.seen.append(seen)
        if self.script:
            return self.script.pop(0)
        return self.otherwise(seen) if callable(self.otherwise) else self.otherwise


class QuietServer(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):  # clients leave; everything else is a test's mistake
            super().handle_error(request, client_address)


def _handler(scripted: Scripted) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def answer(self) -> None:
            length = int(self.headers.get("content-length", 0))
            body = self.rfile.read(length)
            if len(body) < length:  # the client has left
                return
            names = {name.lower(): value for name, value in self.headers.items()}
            seen = Seen(self.command, self.path, names, body, self.client_address)
            reply = scripted.reply_to(seen)
            content, kind = reply.encoded(seen)
            time.sleep(reply.delay)
            with contextlib.suppress(OSError):
                self.send_response(reply.status)
                for name, value in {"Content-Type": kind, **reply.headers}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content) + (10 if reply.cut else 0)))
                self.end_headers()
                self.send_content(content, reply)
            self.close_connection = self.close_connection or reply.cut

        def send_content(self, content: bytes, reply: Reply) -> None:
            for start in range(0, len(content), 1 if reply.drip else max(1, len(content))):
                self.wfile.write(content[start:] if not reply.drip else content[start : start + 1])
                self.wfile.flush()
                time.sleep(reply.drip)

        do_GET = do_POST = answer  # noqa: N815

        def log_message(self, *_: Any) -> None:
            pass

    return Handler


@pytest.fixture
def scripted_factory() -> Iterator[Callable[..., Scripted]]:
    """Starts scripted servers."""
    running: list[Scripted] = []

    def start(wrap: Callable[[socket.socket], socket.socket] | None = None, port: int = 0) -> Scripted:
        scripted = Scripted()
        server = QuietServer(("127.0.0.1", port), _handler(scripted))
        if wrap is not None:
            server.socket = wrap(server.socket)
            scripted.scheme = "https"
        scripted.server = server
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        running.append(scripted)
        return scripted

    yield start
    for scripted in running:
        scripted.server.shutdown()
        scripted.server.server_close()


@pytest.fixture
def scripted(scripted_factory: Callable[..., Scripted]) -> Scripted:
    """A server that answers by script."""
    return scripted_factory()


@pytest.fixture
def reply() -> type[Reply]:
    """What scripts are made of."""
    return Reply


# --- Mien


@contextlib.contextmanager
def running_mien(folder: Path, port: int, ready: bool, **environment: str) -> Iterator[str]:
    """`mien serve` on that port, with its models loaded if `ready`; its address."""
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", port)) == 0:
            pytest.fail(f"port {port} is taken: stop what listens there (`ss -ltnp`), these tests need that very port")
    log = folder / f"mien-{port}.log"
    variables = {**os.environ, "MIEN_DATA_DIR": str(folder / "data"), **environment}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "mien", "serve", "--port", str(port)],
            env=variables,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        if ready:
            _until_ready(f"http://127.0.0.1:{port}/readyz", process, log)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


def _until_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5):
            return
        time.sleep(0.1)
    pytest.fail(f"Mien did not become ready:\n{log.read_text()[-4000:]}")


@pytest.fixture(scope="session")
def mien_factory(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., contextlib.AbstractContextManager[str]]:
    """Starts Mien servers: `with mien_factory(port=None, ready=True, MIEN_…='…') as address`."""

    def start(
        port: int | None = None, *, ready: bool = True, **environment: str
    ) -> contextlib.AbstractContextManager[str]:
        return running_mien(tmp_path_factory.mktemp("mien"), port or free_port(), ready, **environment)

    return start


@pytest.fixture(scope="session")
def mien(mien_factory: Callable[..., contextlib.AbstractContextManager[str]], photos: Path) -> Iterator[str]:
    """Address of a running Mien server that may fetch from this machine and reads paths under the photos' folder."""
    with mien_factory(MIEN_FETCH_PRIVATE="true", MIEN_IMAGES_ROOT=str(photos)) as address:
        yield address
