"""The task client beside bare HTTP requests, in one run against one server.

    python benchmarks/inferencesh.py [--rounds 300] [--json results.json]

1. Overhead: `get_task`, `run(wait=False)` and `run` against the very same requests sent through the same HTTP library
   on one kept connection, their bodies made before the clock starts and their answers read as JSON. Rivals alternate.
2. Stream latency: from the bytes of an event leaving a server to the client's update.
3. Uploads: eight files of 4 MB to a server that takes 50 ms for each, side by side and one after the other.
"""

import argparse
import asyncio
import contextlib
import http.server
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
from rivals import medians

HERE = Path(__file__).resolve().parent
sys.path[:] = [path for path in sys.path if Path(path).resolve() != HERE]  # this file has the name of the library


from inferencesh import AsyncInference, Inference  # noqa: E402

GOAL = 1.25
APP = """
from infsh import BaseApp, BaseAppInput, BaseAppOutput
class AppInput(BaseAppInput):
    key: str
class AppOutput(BaseAppOutput):
    text: str
class App(BaseApp):
    async def run(self, app_input: AppInput) -> AppOutput:
        return AppOutput(text=app_input.key)
"""


@contextlib.contextmanager
def mien(folder: Path) -> Iterator[str]:
    """Address of a fresh server with the app `noop`."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, "MIEN_DATA_DIR": str(folder / "data"), "MIEN_LOG_LEVEL": "warning"}
    app = folder / "noop"
    app.mkdir()
    (app / "inf.yml").write_text("name: noop\n")
    (app / "inference.py").write_text(APP)
    subprocess.run([sys.executable, "-m", "mien", "apps", "deploy", str(app)], env=environment, check=True)
    process = subprocess.Popen([sys.executable, "-m", "mien", "serve", "--port", str(port)], env=environment)
    try:
        for _ in range(600):
            with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz"):
                break
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def overhead(url: str, rounds: int) -> dict[str, Any]:
    """Milliseconds of the client's calls and of the requests that they make."""
    params = {"app": "noop", "input": {"key": "value"}}
    body = json.dumps(params).encode()
    sent = {"Content-Type": "application/json", "Authorization": "Bearer x"}
    with Inference(api_key="x", base_url=url) as client, httpx2.Client(timeout=60) as http:
        task_id = client.run(params)["id"]

        def bare_run() -> str:
            headers = {**sent, "Idempotency-Key": uuid.uuid4().hex}
            answer = http.post(f"{url}/run", content=body, headers=headers).json()
            found: str = answer["data"]["id"]
            return found

        def bare_whole() -> None:
            with http.stream("GET", f"{url}/tasks/{bare_run()}/stream", headers=sent) as stream:
                for line in stream.iter_lines():
                    if line.startswith("data:") and json.loads(line[5:])["status"] >= 9:
                        return

        pairs: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
            "get_task": (
                lambda: http.get(f"{url}/tasks/{task_id}", headers=sent).json(),
                lambda: client.get_task(task_id),
            ),
            "run, wait=False": (bare_run, lambda: client.run(params, wait=False)),
            "run to its end": (bare_whole, lambda: client.run(params)),
        }
        rows = {}
        for name, (bare, ours) in pairs.items():
            found = medians({"bare": bare, "client": ours}, rounds)
            rows[name] = {**found, "ratio": found["client"] / found["bare"]}
    return rows


class Ticker(http.server.BaseHTTPRequestHandler):
    """A stream of events that carry the time at which they were sent, and a taker of files."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    count = 200

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for number in range(self.count + 1):
            time.sleep(0.005)
            task = {"id": "t", "status": 9 if number == self.count else 7, "output": number, "at": time.perf_counter()}
            event = f"id: {number}\ndata: {json.dumps(task)}\n\n".encode()
            self.wfile.write(b"%x\r\n%s\r\n" % (len(event), event))
        self.wfile.write(b"0\r\n\r\n")

    def do_POST(self) -> None:
        files = json.loads(self.rfile.read(int(self.headers["content-length"]))).get("files")
        self.answer([{"uri": f"u{n}", "upload_url": f"/put/{n}"} for n, _ in enumerate(files or ())] or {"id": "t"})

    def do_PUT(self) -> None:
        left = int(self.headers["content-length"])
        while left:
            left -= len(self.rfile.read(min(left, 1 << 20)))
        time.sleep(0.05)
        self.answer({})

    def answer(self, data: Any) -> None:
        body = json.dumps({"success": True, "data": data}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def ticking() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Ticker)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def stream_latency(url: str) -> dict[str, Any]:
    """Milliseconds from an event's sending to the update, in both clients."""
    found: dict[str, list[float]] = {"sync": [], "async": []}
    with Inference(api_key="x", base_url=url) as client:
        found["sync"] += [(time.perf_counter() - update["at"]) * 1e3 for update in client.stream_task("t")]

    async def run() -> None:
        async with AsyncInference(api_key="x", base_url=url) as client:
            async for update in client.stream_task("t"):
                found["async"].append((time.perf_counter() - update["at"]) * 1e3)

    asyncio.run(run())
    return {
        name: {"p50": statistics.median(values), "p99": statistics.quantiles(values, n=100)[98]}
        for name, values in found.items()
    }


def uploads(url: str, folder: Path) -> dict[str, float]:
    """Seconds for eight files."""
    paths = [folder / f"{number}.bin" for number in range(8)]
    for path in paths:
        path.write_bytes(os.urandom(4 << 20))
    seconds = {}
    for at_once in (1, 4):
        with Inference(api_key="x", base_url=url, upload_concurrency=at_once) as client:
            times = []
            for _ in range(5):
                started = time.perf_counter()
                client.run({"app": "a", "input": paths}, wait=False)
                times.append(time.perf_counter() - started)
        seconds[f"{at_once} at once"] = statistics.median(times)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with mien(folder) as url:
            calls = overhead(url, options.rounds)
        with ticking() as url:
            results = {"calls_ms": calls, "stream_ms": stream_latency(url), "uploads_s": uploads(url, folder)}
    print(f"{'call':<18}{'bare ms':>10}{'client ms':>11}{'ratio':>8}   (goal {GOAL})")
    for call, row in calls.items():
        print(f"{call:<18}{row['bare']:>10.2f}{row['client']:>11.2f}{row['ratio']:>8.2f}")
    for kind, latency in results["stream_ms"].items():
        print(f"stream, {kind:<10}{latency['p50']:>10.2f} ms p50{latency['p99']:>8.2f} ms p99")
    for kind, seconds in results["uploads_s"].items():
        print(f"8 uploads, {kind:<10}{seconds:>7.2f} s")
    if options.json:
        about = {"python": platform.python_version(), "machine": platform.machine(), "cores": os.cpu_count()}
        options.json.write_text(json.dumps({**about, "rounds": options.rounds, **results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
