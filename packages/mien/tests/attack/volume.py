"""Rows 3 to 6, 8 and 9: what is large, long or slow."""

import contextlib
import resource
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx2

from benchmarks import images
from packages.mien.tests.attack.stage import JSON, Stage, Trial
from testing.hostile_bodies import KINDS, attacks
from testing.waiting import eventually

MiB = 1024 * 1024
SLACK_MB = 96.0
"""What a server may take besides a multiple of what it was sent: pools and arenas that were never used before."""
DEAREST = ("jpeg-progressive", "png-rgba", "png-la", "png-16", "tiff-one-strip", "webp-alpha")
"""Images within the limits, the dearest of their formats."""
DECODED_MB = 64 * 14.0
"""Of 64 megapixels, at most: the documented bytes per pixel, and no more than one at a time here."""
GLUTTONS = (
    r"^(\w+\s?)*$", r"^(a+)+$", r"^(([a-z])+.)+[A-Z]([a-z])+$", r"(x+x+)+y", r"^(a|a)*$", r"^(a|aa)+$", r"(.*a){25}",
    r"^(?:(?:a{1,99}){1,99}){1,99}$", r"(?=(a+)+b)", r"(a*)\1*b",
)  # fmt: skip


def bodies(stage: Stage, trial: Trial) -> None:
    """Every kind of hostile body: of 1 MB to every route, of 63 MB to one."""
    server = stage.open
    largest = 0.0
    with stage.watched(trial, server):
        for name, path, (kind, body, headers) in attacks(MiB):
            _post(trial, server, name, path, kind, body, headers)
        for name, make in KINDS.items():
            kind, body, headers = make(63 * MiB)
            largest = max(largest, len(body) / 1e6)
            path = "/multipart/extract" if kind.startswith("multipart") else "/extract"
            _post(trial, server, name, path, kind, body, headers)
    _require_memory(trial, 2 * largest)


def _post(trial: Trial, server: Any, name: str, path: str, kind: str, body: bytes, headers: dict[str, str]) -> None:
    trial.sent_mb += len(body) / 1e6
    with httpx2.Client(base_url=server.url, timeout=120, trust_env=False) as client:
        try:
            answer = client.post(path, content=body, headers={"Content-Type": kind, **headers})
        except httpx2.WriteError:  # refused before all of it was sent
            trial.expect(True, "")
            return
        except httpx2.TransportError as error:
            trial.expect(isinstance(error, httpx2.ReadError | httpx2.RemoteProtocolError), f"{name} {path}: {error!r}")
            return
    trial.expect(answer.status_code < 500, f"{name} to {path}: {answer.status_code} {answer.text[:100]}")
    trial.expect(len(answer.content) < 64 * 1024, f"{name} to {path}: {len(answer.content)} bytes of an answer")


def _require_memory(trial: Trial, most: float) -> None:
    trial.expect(trial.grown_mb <= most + SLACK_MB, f"{trial.grown_mb:.0f} MB of memory, over {most:.0f}")


def costly_images(stage: Stage, trial: Trial) -> None:
    """Those beyond the limits are refused, those within them decoded, and those who went away are not waited for."""
    server = stage.open
    path = "/v1/infer?service=face_detection"
    with stage.watched(trial, server):
        for build in images.HOSTILE.values():
            data = build()
            trial.sent_mb += len(data) / 1e6
            trial.answered(server.client.post(path, content=data, headers={"Content-Type": "application/octet-stream"}))
        for name in DEAREST:
            data = images.HONEST[name]()
            trial.sent_mb += len(data) / 1e6
            kind = {"Content-Type": "application/octet-stream"}
            trial.answered(server.client.post(path, content=data, headers=kind, timeout=120), 200)
        data = images.HONEST["jpeg-64-scans"]()
        for _ in range(4):
            with contextlib.suppress(httpx2.ReadTimeout):
                server.client.post(path, content=data, headers={"Content-Type": "image/jpeg"}, timeout=1.0)
        started = time.monotonic()
        answer = server.client.post(path, content=stage.photo, headers={"Content-Type": "image/jpeg"}, timeout=120)
        trial.answered(answer, 200)
        waited = time.monotonic() - started
        trial.expect(waited < 54, f"an honest image waited {waited:.0f} s for senders that are gone")
    _require_memory(trial, 2 * DECODED_MB)  # one decodes, and what another has left is not returned yet


CHUNKED = (
    b"POST /extract HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
)
ENDLESS = {
    "header lines": (b"GET / HTTP/1.1\r\nHost: localhost\r\n", b"x: y\r\n", (431,)),
    "folded header lines": (b"GET / HTTP/1.1\r\nHost: localhost\r\nx: y\r\n", b" y\r\n", (400, 431)),
    "one header": (b"GET / HTTP/1.1\r\nHost: localhost\r\nx: ", b"y" * 64, (400, 431)),
    "a header's name": (b"GET / HTTP/1.1\r\nHost: localhost\r\nx", b"y" * 64, (400, 431)),
    "URL": (b"GET /", b"x" * 64, (400, 414)),
    "query": (b"GET /?", b"x=y&" * 16, (400, 414)),
    "method": (b"G", b"E" * 64, (400, 414, 431)),
    "blank lines": (b"", b"\r\n" * 32, (400, 408, 431)),
    "spaces": (b"GET ", b" " * 64, (400, 414, 431)),
    "chunk extension": (CHUNKED + b"1;", b"x" * 64, (400, 401, 408, 413, 431)),
    "chunk size": (CHUNKED, b"0" * 64, (400, 401, 408, 413, 431)),
    "trailers": (CHUNKED + b"0\r\n", b"x: y\r\n" * 10, (400, 401, 408, 413, 422, 431)),
    "chunks of one byte": (CHUNKED, b"1\r\nx\r\n" * 10, (400, 401, 408, 413, 422)),
}
"""How a request begins, what it goes on with for ever, and the statuses that may end it."""


def headers(stage: Stage, trial: Trial) -> None:
    """To a server with keys, before any key is looked at."""
    keyed = stage.keyed
    sent: list[float] = []
    with stage.watched(trial, keyed.server, keyed.infer["X-API-Key"]):
        for name, (start, unit, statuses) in ENDLESS.items():
            _endless(trial, keyed.server, name, start, unit, statuses, sent)
        for count, statuses in ((101, (431,)), (5000, (431,))):
            lines = "".join(f"x-{number}: y\r\n" for number in range(count)).encode()
            with socket.create_connection(("127.0.0.1", keyed.server.port), timeout=30) as connection:
                connection.sendall(b"GET /info HTTP/1.1\r\nHost: localhost\r\n")
                with contextlib.suppress(OSError):
                    connection.sendall(lines + b"\r\n")
                trial.expect(_status(connection) in (*statuses, None), f"{count} headers")
    trial.sent_mb += sum(sent)
    _require_memory(trial, 2 * max(sent))


def _endless(
    trial: Trial, server: Any, name: str, start: bytes, unit: bytes, statuses: tuple[int, ...], sent: list[float]
) -> None:
    """Send until the server does not want any more, 64 MB at most."""
    piece, total, over = unit * (65536 // len(unit)), 0, None
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        try:
            connection.sendall(start)
            while total < 64 * MiB:
                connection.sendall(piece)
                total += len(piece)
        except TimeoutError:
            over = "was neither answered nor closed"
        except OSError:
            pass
        sent.append(total / 1e6)
        status = None if over else _status(connection)
        trial.expect(over is None, f"endless {name} {over}")
        trial.expect(status is None or status in statuses, f"endless {name}: {status}")


def _status(connection: socket.socket) -> int | None:
    """None: the connection was closed or reset before an answer could be read."""
    try:
        received = connection.recv(65536)
    except TimeoutError:
        return 0
    except OSError:
        return None
    return int(received.split(b" ", 2)[1]) if received.startswith(b"HTTP/") else None


OPENINGS = {
    "silent": b"",
    "half a line": b"GE",
    "half a head": b"GET / HTTP/1.1\r\nx: ",
    "half a body": b"POST /extract HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\n{",
    "idle": b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01",
}
FEW_DESCRIPTORS = "import resource\nresource.setrlimit(resource.RLIMIT_NOFILE, (512, 1024))\nimport mien.__main__\n"
CROWD = 1500


@contextmanager
def _many_descriptors() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(before[1], CROWD + 1000), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def idle_connections(stage: Stage, trial: Trial) -> None:
    """A server that may open 1,024 files, and more connections than that."""
    server = stage.serve(program=("-c", FEW_DESCRIPTORS), **stage.light)
    with _many_descriptors(), stage.watched(trial, server):
        for name, opening in OPENINGS.items():
            with ExitStack() as stack:
                for _ in range(CROWD):
                    connection = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=30))
                    with contextlib.suppress(OSError):
                        connection.sendall(opening)
                        if name == "idle":
                            connection.recv(4096)
                for path in ("/livez", "/readyz", "/info") * 3:
                    if name != "half a body" or path != "/info":  # bodies wait before they give way
                        trial.expect(_fresh(server, path) == 200, f"{path} beside {CROWD} connections: {name}")
    stage.forget(server)
    server.stop()


def _fresh(server: Any, path: str) -> int:
    """The status on a connection of its own; 0 without an answer."""
    try:
        return httpx2.get(f"{server.url}{path}", timeout=30, trust_env=False).status_code
    except httpx2.TransportError:
        return 0


PATTERN_APP = """
from pydantic import Field
from infsh import BaseApp, BaseAppInput, BaseAppOutput

class AppInput(BaseAppInput):
    text: str = Field("", json_schema_extra={"pattern": PATTERN})

class App(BaseApp):
    async def run(self, given: AppInput) -> BaseAppOutput:
        return BaseAppOutput()
"""


def patterns(stage: Stage, trial: Trial) -> None:
    """Apps whose patterns take other engines ages."""
    api, client = stage.api, stage.open.client
    texts = ("a" * 27 + "!", "a" * 100_000 + "!", "x" * 30, "a " * 5000 + "\0")
    with stage.watched(trial, stage.open):
        for number, pattern in enumerate(GLUTTONS):
            code = PATTERN_APP.replace("PATTERN", repr(pattern))
            answer = client.post("/apps", content=api.packed(f"glutton{number}", code), timeout=120)
            trial.answered(answer, 200, 422)
            if answer.status_code != 200:
                continue
            for text in texts:
                started = time.monotonic()
                body = {"app": f"test/glutton{number}", "input": {"text": text}, "run_at": "2100-01-01T00:00:00Z"}
                answer = client.post("/run", json=body, timeout=60)
                trial.answered(answer, 200, 422)
                seconds = time.monotonic() - started
                trial.expect(seconds < 8, f"{pattern} took {seconds:.1f} s")
                if answer.status_code == 200:
                    client.post(f"/tasks/{answer.json()['data']['id']}/cancel")


def bodies_of_tasks(stage: Stage, trial: Trial) -> None:
    """`/run` and its like count into the limits of all bodies, and do not stall the loop."""
    server = stage.serve(queue_bytes=64 * MiB, **stage.light)
    length, count = 4_900_000, 80
    with stage.watched(trial, server):
        for route in ("/run", "/apps/run", "/tasks/list", "/files"):
            with ExitStack() as stack:
                head = f"POST {route} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                head += f"Content-Length: {length}\r\n\r\n"
                connections = []
                for _ in range(count):
                    connection = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=30))
                    with contextlib.suppress(OSError):
                        connection.sendall(head.encode() + b" " * (length - 10))
                        trial.sent_mb += length / 1e6
                    connection.settimeout(2)
                    connections.append(connection)
                statuses = [_status(connection) for connection in connections]
                refused = sum(status in (429, 413, None) for status in statuses)
                trial.expect(refused >= count - 2 * 64 * MiB // length, f"{refused} of {count} refused at {route}")
                trial.expect(not {500, 502, 503} & set(statuses), f"{route}: {statuses}")
            eventually(lambda route=route: _accepts(server, route))
        for route in ("/run", "/apps/run", "/tasks/list", "/files"):
            for unit in (b"[],", b"{},", b'"",', b"1,", b'{"a":[]},'):
                body = b'{"app":"mien/faces","input":[' + unit * (4_000_000 // len(unit)) + b"1]}"
                trial.sent_mb += len(body) / 1e6
                trial.answered(server.client.post(route, content=body, headers=JSON))
    _require_memory(trial, 2 * 64 * MiB / 1e6)
    stage.forget(server)
    server.stop()


def _accepts(server: Any, route: str) -> bool:
    status: int = server.client.post(route, content=b"{}" + b" " * 100_000, headers=JSON).status_code
    return status != 429


ROWS: dict[int, Callable[[Stage, Trial], None]] = {
    3: bodies,
    4: costly_images,
    5: headers,
    6: idle_connections,
    8: patterns,
    9: bodies_of_tasks,
}
