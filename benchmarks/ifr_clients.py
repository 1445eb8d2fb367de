"""`IFRClient.extract` beside a bare HTTP POST of the very same bytes, in one run.

    python benchmarks/ifr_clients.py [--rounds 60] [--json results.json]

Two servers answer: Mien, which finds the faces, and one that sends a recorded answer of Mien at once. Against Mien the
ratio of medians is what a program feels; the recorded answer leaves nothing but the client's own work, in milliseconds.
The bare POST goes through the same HTTP library on one kept connection; its body was built before the clock started
and its answer is not read as anything. Every call is interleaved with its rivals, in random order.
"""

import argparse
import contextlib
import http.server
import json
import multiprocessing
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import httpx2
from rivals import medians

HERE = Path(__file__).resolve().parent
sys.path[:] = [path for path in sys.path if Path(path).resolve() != HERE]  # this file has the name of the library


from ifr_clients import IFRClient, _calls  # noqa: E402
from ifr_clients._messages import Request  # noqa: E402

PHOTOS = sorted((HERE.parent / "packages/mien/tests/photos").glob("person_*.jpg"))
GOAL = 1.2


@dataclass(frozen=True)
class Row:
    """Medians of one load, in milliseconds."""

    images: int
    wire: str
    request_kb: float
    answer_kb: float
    post_ms: float
    client_ms: float
    recorded_post_ms: float
    recorded_client_ms: float

    @property
    def ratio(self) -> float:
        return self.client_ms / self.post_ms

    @property
    def overhead_ms(self) -> float:
        return self.recorded_client_ms - self.recorded_post_ms


@contextlib.contextmanager
def mien(folder: Path) -> Iterator[str]:
    """Address of a fresh server."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, "MIEN_DATA_DIR": str(folder), "MIEN_LOG_LEVEL": "warning"}
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


def _play(listener: socket.socket, kind: str, answer: bytes) -> None:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        wbufsize = -1

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler, bind_and_activate=False)
    server.socket = listener
    server.serve_forever()


@contextlib.contextmanager
def recorded(kind: str, answer: bytes) -> Iterator[str]:
    """Address of a server, in a process of its own, that answers every POST with `answer`."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        process = multiprocessing.get_context("fork").Process(target=_play, args=(listener, kind, answer), daemon=True)
        process.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            process.terminate()
            process.join()


@contextlib.contextmanager
def rivals(server: str, images: list[bytes], wires: list[str]) -> Iterator[dict[str, Callable[[], object]]]:
    """Post and client for each wire format, named `post msgpack` and so on."""
    with IFRClient(server) as client, httpx2.Client(timeout=120) as http:
        named: dict[str, Callable[[], object]] = {}
        for wire in wires:
            msgpack = wire == "msgpack"
            request = prepared(client, images, msgpack=msgpack)
            named[f"post {wire}"] = partial(http.post, request.url, content=request.body, headers=request.headers)
            named[f"client {wire}"] = partial(client.extract, images, mode="data", use_msgpack=msgpack)
        yield named


def prepared(client: IFRClient, images: list[bytes], *, msgpack: bool) -> Request:
    """The request that `client.extract(images, mode='data')` sends."""
    options: _calls.ExtractOptions = {
        "threshold": 0.6,
        "extract_embedding": True,
        "return_face_data": False,
        "return_landmarks": False,
        "embed_only": False,
        "limit_faces": 0,
        "min_face_size": 0,
        "img_req_headers": None,
        "extract_ga": False,
        "detect_masks": False,
        "verbose_timings": False,
    }
    return _calls.extract(client._settings, images, options, msgpack=msgpack, raw=True).request


def measure(server: str, count: int, rounds: int) -> list[Row]:
    """Rows for MessagePack and JSON with `count` images."""
    images = [PHOTOS[number % len(PHOTOS)].read_bytes() for number in range(count)]
    wires = ["msgpack", "json"]
    with rivals(server, images, wires) as named:
        real = medians(named, rounds)
        answers = {wire: named[f"post {wire}"]() for wire in wires}
    rows = []
    for wire in wires:
        answer = answers[wire]
        assert isinstance(answer, httpx2.Response)
        assert answer.status_code == 200
        with (
            recorded(answer.headers["content-type"], answer.content) as player,
            rivals(player, images, [wire]) as named,
        ):
            plain = medians(named, 5 * rounds)
        request = answer.request
        rows.append(
            Row(
                count,
                wire,
                len(request.content) / 1e3,
                len(answer.content) / 1e3,
                real[f"post {wire}"],
                real[f"client {wire}"],
                plain[f"post {wire}"],
                plain[f"client {wire}"],
            )
        )
    return rows


def table(rows: list[Row]) -> str:
    """Markdown."""
    lines = [
        "| images | wire | request kB | answer kB | POST ms | client ms | ratio | recorded POST | client | own ms |",
        "|---:|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {row.images} | {row.wire} | {row.request_kb:.0f} | {row.answer_kb:.1f} | {row.post_ms:.2f} | "
        f"{row.client_ms:.2f} | {row.ratio:.3f} | {row.recorded_post_ms:.2f} | {row.recorded_client_ms:.2f} | "
        f"{row.overhead_ms:.2f} |"
        for row in rows
    ]
    return "\n".join(lines)


def main() -> int:
    """Exit code 1 if a ratio is over the goal."""
    parser = argparse.ArgumentParser(description="Overhead of IFRClient over a bare POST.")
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--json", type=Path, help="write the rows here, too")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, mien(Path(folder)) as server:
        rows = measure(server, 1, arguments.rounds) + measure(server, 16, max(4, arguments.rounds // 4))
    print(table(rows))
    print(
        f"\nPython {platform.python_version()}, httpx2 {httpx2.__version__}, {os.cpu_count()} cores for both sides"
        f", load {os.getloadavg()[0]:.1f}, {arguments.rounds} rounds, photos of {len(PHOTOS)} files"
        f" ({statistics.mean(photo.stat().st_size for photo in PHOTOS) / 1e3:.0f} kB each), one face each."
    )
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(row) for row in rows], indent=1))
    return 0 if all(row.ratio <= GOAL for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
