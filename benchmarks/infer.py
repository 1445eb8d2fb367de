"""`POST /v1/infer` beside a bare Starlette route that only reads the same body: `python benchmarks/infer.py`.

One run. The server is the real application with an echo service in its registry; the bare route runs under the same
uvicorn settings in a process of its own. Rounds are interleaved and the order alternates; medians over the rounds
count. The load generator shares the machine's cores with the servers, which costs both sides the same per request.
"""

import argparse
import asyncio
import base64
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx2
import uvicorn
import uvloop
from rich.console import Console
from rich.table import Table
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mien.app import create_app
from mien.engine.cancellation import CancelScope
from mien.inference.contract import InferRequest, InferResult, TaskInfo
from mien.logs import configure_logs
from mien.settings import Settings

ROUND_SECONDS = 2.0
ROUNDS = 5
MEGABYTE = 1_000_000
TICKS = 400
console = Console()


class Echo:
    """Does nothing: the payload's length is the result."""

    name = "echo"

    def tasks(self) -> Sequence[TaskInfo]:
        return [TaskInfo("echo", ("*/*",), ("text/plain",))]

    async def infer(self, request: InferRequest, call: CancelScope, *, stream: bool) -> AsyncIterator[InferResult]:
        yield InferResult(b"%d" % sum(len(item.data) for item in request.items), "text/plain", is_final=True)


class Ticker:
    """Sends the moment of each message; the monotonic clock is the same in all processes of a machine."""

    name = "ticker"

    def tasks(self) -> Sequence[TaskInfo]:
        return [TaskInfo("ticker", ("*/*",), ("text/plain",))]

    async def infer(self, request: InferRequest, call: CancelScope, *, stream: bool) -> AsyncIterator[InferResult]:
        for tick in range(TICKS):
            await asyncio.sleep(0.005)
            yield InferResult(b"%d" % time.monotonic_ns(), "text/plain", is_final=tick == TICKS - 1)


# --- the servers, each a process of its own


async def read_only(request: Request) -> Response:
    body = await request.body()
    return Response(b'{"success":true,"data":{"result":"%d"}}' % len(body), media_type="application/json")


def serve_bare(port: int) -> None:
    app = Starlette(routes=[Route("/v1/infer", read_only, methods=["POST"])])
    uvicorn.run(app, port=port, log_config=None, access_log=False, server_header=False, lifespan="off")


def serve_mien(port: int, **settings: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        chosen = Settings(data_dir=Path(folder), port=port, log_level="warning", **settings)
        configure_logs(chosen.logging)
        app = create_app(chosen)

        async def run() -> None:
            server = uvicorn.Server(
                uvicorn.Config(app, port=port, log_config=None, access_log=False, server_header=False)
            )
            serving = asyncio.create_task(server.serve())
            readiness = app.state.context.readiness
            while readiness.runtime is None:  # noqa: ASYNC110 - the application offers nothing to wait for
                await asyncio.sleep(0.05)
            for service in (Echo(), Ticker()):
                readiness.runtime.registry.add(service)
            await serving

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(run())


@contextmanager
def process(kind: str, *arguments: str) -> Iterator[int]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MIEN_") or "CACHE" in key}
    child = subprocess.Popen([sys.executable, __file__, "--serve", kind, str(port), *arguments], env=environment)
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not answers(port):
            time.sleep(0.05)
        yield port
    finally:
        child.terminate()
        child.wait(20)


def answers(port: int) -> bool:
    body = {"service": "echo", "payload": "aGk="}
    try:
        return httpx2.post(f"http://127.0.0.1:{port}/v1/infer", json=body, trust_env=False).status_code == 200
    except httpx2.TransportError:
        return False


# --- the load generator: raw sockets, so that it costs little


@dataclass(frozen=True)
class Ask:
    """One HTTP request, ready to be sent again and again."""

    name: str
    head: str
    body: bytes

    def bytes(self) -> bytes:
        return f"POST {self.head}\r\nHost: 127.0.0.1\r\nContent-Length: {len(self.body)}\r\n\r\n".encode() + self.body


def asks() -> list[Ask]:
    tiny = json.dumps({"service": "echo", "payload": base64.b64encode(b"hello").decode()}).encode()
    image = os.urandom(MEGABYTE)
    large = json.dumps({"service": "echo", "payload": base64.b64encode(image).decode()}).encode()
    form = b'--b\r\nContent-Disposition: form-data; name="service"\r\n\r\necho\r\n'
    form += b'--b\r\nContent-Disposition: form-data; name="payload"; filename="i.jpg"\r\n\r\n'
    form += image + b"\r\n--b--\r\n"
    return [
        Ask("tiny JSON", "/v1/infer HTTP/1.1\r\nContent-Type: application/json", tiny),
        Ask("1 MB as JSON", "/v1/infer HTTP/1.1\r\nContent-Type: application/json", large),
        Ask("1 MB as multipart", "/v1/infer HTTP/1.1\r\nContent-Type: multipart/form-data; boundary=b", form),
        Ask("1 MB as bytes", "/v1/infer?service=echo HTTP/1.1\r\nContent-Type: application/octet-stream", image),
    ]


@dataclass(frozen=True)
class Sample:
    """One round. Times in milliseconds."""

    per_second: float
    p50: float
    p95: float
    p99: float


async def load(port: int, ask: Ask, concurrency: int, seconds: float) -> Sample:
    """Keep `concurrency` connections busy for `seconds`."""
    took: list[float] = []
    request = ask.bytes()
    end = time.perf_counter() + seconds

    async def one() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while (start := time.perf_counter()) < end:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(head.decode())
            length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
            await reader.readexactly(length)
            took.append((time.perf_counter() - start) * 1e3)
        writer.close()

    began = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(concurrency)))
    elapsed = time.perf_counter() - began
    return Sample(len(took) / elapsed, *(percentile(took, share) for share in (0.5, 0.95, 0.99)))


def percentile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def median(samples: Sequence[Sample]) -> Sample:
    return Sample(*(statistics.median(column) for column in zip(*(asdict(s).values() for s in samples), strict=True)))


# --- what is measured


def compare(sides: dict[str, int], ask: Ask, concurrency: int) -> dict[str, Sample]:
    """Interleaved rounds against every side; the first round warms up and does not count."""
    samples: dict[str, list[Sample]] = {name: [] for name in sides}
    for number in range(ROUNDS + 1):
        order = list(sides) if number % 2 else list(reversed(sides))
        for name in order:
            sample = asyncio.run(load(sides[name], ask, concurrency, ROUND_SECONDS if number else 0.5))
            if number:
                samples[name].append(sample)
    return {name: median(found) for name, found in samples.items()}


def lags(port: int, accept: str) -> list[float]:
    """Milliseconds from a service's message to the client's event, for each message of one stream."""
    headers = {"Accept": accept}
    found = []
    with (
        httpx2.Client(trust_env=False, timeout=60) as client,
        client.stream(
            "POST", f"http://127.0.0.1:{port}/v1/infer", json={"service": "ticker_stream"}, headers=headers
        ) as response,
    ):
        for chunk in response.iter_bytes():
            arrived = time.monotonic_ns()
            for line in chunk.splitlines():
                text = line.removeprefix(b"data: ")
                if text.startswith(b"{"):
                    found.append((arrived - int(base64.b64decode(json.loads(text)["result_b64"]))) / 1e6)
    return found


def measure() -> dict[str, Any]:
    results: dict[str, Any] = {"machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.python_version()}"}
    with ExitStack() as stack:
        sides = {"mien": stack.enter_context(process("mien")), "bare": stack.enter_context(process("bare"))}
        table = Table("request", "clients", "server", "requests/s", "p50 ms", "p95 ms", "p99 ms", "of bare")
        for ask in asks():
            for concurrency in (1, 16) if ask.name.startswith("tiny") else (1, 8):
                found = compare(sides, ask, concurrency)
                results[f"{ask.name}, {concurrency}"] = {name: asdict(sample) for name, sample in found.items()}
                for name, s in found.items():
                    share = f"{s.per_second / found['bare'].per_second:.2f}" if name == "mien" else ""
                    numbers = (f"{value:.2f}" for value in (s.p50, s.p95, s.p99))
                    table.add_row(ask.name, str(concurrency), name, f"{s.per_second:.0f}", *numbers, share)
        console.print(table)
        lag_table = Table("message to event", "p50 ms", "p95 ms", "p99 ms")
        for name, accept in (("default", "*/*"), ("SSE", "text/event-stream")):
            found_lags = [lag for _ in range(3) for lag in lags(sides["mien"], accept)]
            shares = [percentile(found_lags, share) for share in (0.5, 0.95, 0.99)]
            results[f"lag, {name}"] = shares
            lag_table.add_row(name, *(f"{share:.2f}" for share in shares))
        console.print(lag_table)
    results |= through_a_node()
    return results


def through_a_node() -> dict[str, Any]:
    """The same services on a gRPC node behind a gateway, beside asking the node's own HTTP API."""
    with ExitStack() as stack:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            grpc_port: int = probe.getsockname()[1]
        node = stack.enter_context(process("node", str(grpc_port)))
        gateway = stack.enter_context(process("gateway", f"127.0.0.1:{grpc_port}"))
        table = Table("request", "clients", "way", "requests/s", "p50 ms", "p95 ms", "p99 ms", "of local")
        results: dict[str, Any] = {}
        for ask in (asks()[0], asks()[3]):
            found = compare({"through a node": gateway, "local": node}, ask, 8)
            results[f"node, {ask.name}"] = {name: asdict(sample) for name, sample in found.items()}
            for name, s in found.items():
                share = f"{s.per_second / found['local'].per_second:.2f}" if name != "local" else ""
                numbers = (f"{value:.2f}" for value in (s.p50, s.p95, s.p99))
                table.add_row(ask.name, "8", name, f"{s.per_second:.0f}", *numbers, share)
        console.print(table)
        found_lags = [lag for _ in range(3) for lag in lags(gateway, "*/*")]
        shares = [percentile(found_lags, share) for share in (0.5, 0.95, 0.99)]
        console.print(f"a node's message to the client's event: p50 {shares[0]:.2f}, p99 {shares[2]:.2f} ms")
        return {**results, "lag, through a node": shares}


SERVERS: dict[str, Callable[..., None]] = {
    "bare": serve_bare,
    "mien": serve_mien,
    "node": lambda port, grpc_port: serve_mien(port, grpc_port=int(grpc_port)),
    "gateway": lambda port, address: serve_mien(port, nodes=(address,), prefer_remote=True),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--serve", nargs="+", help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path, help="write the figures there")
    arguments = parser.parse_args()
    if arguments.serve:
        kind, port, *rest = arguments.serve
        SERVERS[kind](int(port), *rest)
        return
    results = measure()
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
