"""Rows 7, 10, 12, 13 and 16 to 18, 22: what an answer says, and whether one bad input spoils the answers of others."""

import asyncio
import gzip
import io
import json
import random
import tarfile
import threading
import zipfile
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import grpc
import httpx2

from mien.engine.cancellation import CancelScope
from mien.errors import ImageError
from mien.inference.contract import InferRequest, InferResult, TaskInfo
from mien.nodes.contract import INFER
from mien.nodes.proto.inference_pb2 import InferRequest as Message
from mien.nodes.server import NodeServer
from packages.mien.tests.acceptance.lumen.deadlines import tried
from packages.mien.tests.attack.stage import JSON, Stage, Trial
from packages.mien.tests.mutations import damaged
from testing.ports import free_port
from testing.waiting import eventually

FACES = {"app": "mien/faces", "input": {"image": "data:,x"}}
FAR = "2100-01-01T00:00:00Z"
WITH_TEXTS = {"age_model": "none", "gender_model": "none", "mask_model": "none"}
TIMES: tuple[Any, ...] = (
    "9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59.999999999Z", "0001-01-01T00:00:00Z",
    "9999-12-31T24:00:00Z", "2016-12-31T23:59:60Z", "2100-01-01", "2100-01-01T00:00:00", "", "x", "-1", "1e400", "NaN",
    0, -1, 1e18, -1e18, 1e308, 253402300799, 253402300800, -62135596801, 2**63, 2**64, True, [], {},
    "2100-02-30T00:00Z",
)  # fmt: skip
SECONDS: tuple[Any, ...] = (0, -1, 1e-300, 1e9, 1.1e9, 1e18, 1e308, 2**63, 2**64, "1", True, [])
VALUES: dict[str, tuple[Any, ...]] = {
    "run_at": TIMES,
    "deadline": TIMES,
    "timeout": SECONDS,
    "session_timeout": SECONDS,
    "retries": (-1, 0, 2**31, 2**63, 2**64, 1.5, "1", True),
    "priority": (-(2**63), -101, 101, 2**63, 2**64, 0.5, "high"),
    "metadata": ({"a": 2**64}, {"a": 1e308}, {"": {"": []}}, {"a": "\u0000"}, {"\u2028": "\uffff"}, [], "x"),
    "idempotency_key": ("", "\u0000", "x" * 200, "x" * 201, "\u202e", 5),
    "webhook": ("", "x", "http://", "http://[::1", "http://127.0.0.1/", "file:///etc/passwd", "http://x/" + "y" * 9000),
    "session": ("", "x", "new ", "../..", "\u0000"),
    "workers": ([], ["x"] * 1000, [""], "x", [5]),
    "variant": ("", "\u0000", "x" * 10_000),
    "function": ("", "__init__", "\u0000"),
    "version": ("", "../..", "\u0000", "0" * 64),
    "app": ("", "/", "a/b@c:d:e", "../x", "x" * 10_000, "\u0000", "mien/faces@", 5),
}
LISTS = ("/tasks", "/tasks?limit=1", "/compat/latest/tasks", "/files", "/sessions", "/apps", "/v1/tasks", "/metrics")
RAW = (
    b'{"app":"mien/faces","run_at":NaN}', b'{"app":"mien/faces","timeout":Infinity}', b'{"app":"\\ud800"}',
    b'{"app":"mien/faces","run_at":1e999}', b'{"app":"mien/faces","metadata":{"a":"\\udfff"}}', b'{"app":"mien/faces"',
    b'{"app":"mien/faces","app":"mien/faces","input":{"image":"data:,x"},"run_at":"9999-12-31T23:59:59-23:59"}',
)  # fmt: skip


def poison(stage: Stage, trial: Trial) -> None:
    """Odd values in every field of a task, and in every filter of lists."""
    client = stage.open.client
    with stage.watched(trial, stage.open):
        odd_fields(trial, client)
        for name in ("created_after", "created_before", "limit", "cursor", "status"):
            for value in (*TIMES, 2**64, "x" * 10_000):
                trial.answered(client.post("/tasks/list", json={name: value}), 200, 400, 413, 422)
                if isinstance(value, str | int | float):
                    trial.answered(client.get("/tasks", params={name: str(value)}), 200, 400, 413, 414, 422)


def odd_fields(trial: Trial, client: httpx2.Client) -> None:
    """Each value is refused, or shown by every listing."""
    bodies = [json.dumps({**FACES, "run_at": FAR, name: value}).encode() for name in VALUES for value in VALUES[name]]
    for body in (*bodies, *RAW):
        trial.sent_mb += len(body) / 1e6
        answer = client.post("/run", content=body, headers=JSON)
        trial.answered(answer, 200, 400, 404, 413, 422)
        if answer.status_code != 200:
            continue
        task = answer.json()["data"]["id"]
        for path in (*LISTS, *(f"/tasks/{task}{kind}" for kind in ("", "/status", "/logs", "/files"))):
            shown = client.get(path)
            trial.expect(
                shown.status_code == 200, f"{path} after {body[:200]!r}: {shown.status_code} {shown.text[:99]}"
            )
        client.post(f"/tasks/{task}/cancel")


def deadlines(stage: Stage, trial: Trial) -> None:
    """The first reason wins, in one server and through a gateway, by real services; then row 22 on the same two."""
    node, gateway = _pair(stage)
    photos = [stage.photo]
    with stage.watched(trial, gateway):
        for seed in range(5):
            for server in (node, gateway):
                found = tried(server.client, photos, 20, seed=seed, most_ms=250)
                for outcome, count in found.items():
                    for _ in range(count):
                        trial.expect(outcome in ("ok", "deadline_exceeded"), outcome)
    for server in (node, gateway):
        trial.expect(server.metric("mien_errors_total", code="cancelled") == 0, "a deadline counted as a cancellation")
        trial.expect("Traceback" not in server.log, "a traceback in the log")


def capacity(stage: Stage, trial: Trial) -> None:
    """200 requests at once, to a node, and to a gateway in front of it."""
    node, gateway = _pair(stage)

    async def statuses(url: str) -> Counter[int]:
        limits = httpx2.Limits(max_connections=200)
        async with httpx2.AsyncClient(base_url=url, timeout=80, limits=limits, trust_env=False) as client:
            kind, path = {"Content-Type": "image/jpeg"}, "/v1/infer?service=face_detection"
            asked = [client.post(path, content=stage.photo, headers=kind) for _ in range(200)]
            return Counter(response.status_code for response in await asyncio.gather(*asked))

    with stage.watched(trial, gateway):
        for server, name in ((node, "alone"), (gateway, "gateway"), (gateway, "gateway, again")):
            found = asyncio.run(statuses(server.url))
            for _ in range(200):
                trial.expect(found == {200: 200}, f"{name}: {dict(found)}")
            trial.sent_mb += 200 * len(stage.photo) / 1e6


def _pair(stage: Stage) -> tuple[Any, Any]:
    if stage.pair is None:
        port = free_port()
        node = stage.serve("--grpc-port", str(port), data_dir=stage.folder / "node", **WITH_TEXTS)
        options = {"nodes": f"127.0.0.1:{port}", "prefer_remote": "true", "data_dir": stage.folder / "gateway"}
        gateway = stage.serve(**options, **WITH_TEXTS)
        eventually(lambda: gateway.client.get("/v1/nodes").json()["data"]["nodes"][1]["status"] == "active")
        stage.pair = node, gateway
    return stage.pair


def scheduled(stage: Stage, trial: Trial) -> None:
    """Tasks of the far future fill neither the queue nor anybody's patience."""
    server = stage.serve(task_queue=20, task_scheduled=50, **stage.light)
    client = server.client
    with stage.watched(trial, server):
        found = Counter(client.post("/run", json={**FACES, "run_at": FAR}).status_code for _ in range(200))
        trial.expect(found == {200: 50, 429: 150}, f"of 200 scheduled tasks: {dict(found)}")
        refused = client.post("/run", json={**FACES, "run_at": FAR})
        trial.expect("run_at" in refused.text, f"the refusal does not say why: {refused.text}")
        for deadline in (None, FAR):
            for _ in range(20):
                trial.answered(client.post("/run?wait=true", json={**FACES, "deadline": deadline}), 200)
    stage.forget(server)
    server.stop()


def _tar(header: dict[str, str]) -> bytes:
    packed = io.BytesIO()
    info = tarfile.TarInfo("inference.py")
    info.pax_headers, info.size = header, 1300
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar:
        tar.addfile(info, io.BytesIO(b"not a number\n" * 100))
    return packed.getvalue()


def _links(kind: bytes, target: str) -> bytes:
    packed = io.BytesIO()
    info = tarfile.TarInfo("inf.yml")
    info.type, info.linkname = kind, target
    with tarfile.open(fileobj=packed, mode="w") as tar:
        tar.addfile(info)
    return packed.getvalue()


def _zip(manifest: str, name: str = "inf.yml", code: str = "class App: ...") -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, manifest)
        archive.writestr("inference.py", code)
    return packed.getvalue()


_ALIASES = "l0: &l0 [x]\n" + "\n".join(f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]" for n in range(1, 10))
ARCHIVES = {
    "sparse": lambda: _tar({"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}),
    "sparse map": lambda: _tar({"GNU.sparse.map": "1,x,3"}),
    "sparse size": lambda: _tar({"GNU.sparse.size": "-1"}),
    "pax size": lambda: _tar({"size": "-1"}),
    "pax mtime": lambda: _tar({"mtime": "nan"}),
    "link": lambda: _links(tarfile.SYMTYPE, "/etc/passwd"),
    "hard link": lambda: _links(tarfile.LNKTYPE, "/etc/passwd"),
    "device": lambda: _links(tarfile.CHRTYPE, ""),
    "fifo": lambda: _links(tarfile.FIFOTYPE, ""),
    "lists": lambda: _zip("name: " + "[" * 20_000),
    "mappings": lambda: _zip("a: " + "{a: " * 20_000),
    "blocks": lambda: _zip("\n".join(" " * n + "a:" for n in range(3000))),
    "aliases": lambda: _zip(f"name: x\n{_ALIASES}"),
    "digits": lambda: _zip("name: x\nversion: " + "9" * 100_000),
    "a date": lambda: _zip("name: x\ndescription: 2030-99-99"),
    "a tag": lambda: _zip("name: !!python/object/apply:os.system [id]"),
    "another folder": lambda: _zip("name: x", name="../../inf.yml"),
    "bomb": lambda: _zip("name: x\nnamespace: y", code="x" * (400 << 20)),
    "nothing": lambda: b"",
    "gzip of nothing": lambda: gzip.compress(bytes(10 << 20)),
}


def unbounded(stage: Stage, trial: Trial) -> None:
    """Items without number, nesting without end, archives that lie."""
    client = stage.open.client
    with stage.watched(trial, stage.open):
        for statuses in ([1] * 500_000, ["completed"] * 500_000, ["completed"] * 101, [[]], [{}], "1," * 400_000):
            body = json.dumps({"status": statuses}).encode()
            trial.sent_mb += len(body) / 1e6
            trial.answered(client.post("/tasks/list", content=body, headers=JSON), 400, 413, 422)
        trial.answered(client.get("/tasks?" + "&".join(["status=1"] * 800)), 200, 400, 414, 422)
        files = [{"filename": "x"}] * 100_000
        trial.answered(client.post("/files", json={"files": files}, timeout=120), 400, 413, 422)
        for depth in (200, 20_000, 1_000_000):
            for before, after in ((b"[", b"]"), (b'{"a":', b"}")):
                body = b'{"app":"mien/faces","input":' + before * depth + b"1" + after * depth + b"}"
                trial.sent_mb += len(body) / 1e6
                for path in ("/run", "/tasks/list", "/files", "/extract", "/v1/infer"):
                    trial.answered(client.post(path, content=body, headers=JSON), 400, 413, 422)
        lying_archives(trial, client)


def lying_archives(trial: Trial, client: httpx2.Client) -> None:
    """Archives and manifests that are not what they say, or cost more than they show."""
    for name, make in ARCHIVES.items():
        data = make()
        trial.sent_mb += len(data) / 1e6
        answer = client.post("/apps", content=data, timeout=120)
        trial.expect(400 <= answer.status_code < 500, f"archive, {name}: {answer.status_code} {answer.text[:200]}")


class _Hostile:
    """A service of a node: an error of 100 kB, or a page in the place of a result."""

    name = "hostile"

    def tasks(self) -> Sequence[TaskInfo]:
        return [TaskInfo("hostile_v1", ("*/*",), ("*/*",), "none")]

    async def infer(
        self, request: InferRequest, call: CancelScope, *, stream: bool
    ) -> AsyncGenerator[InferResult, None]:
        if not request.metadata.get("mime"):
            raise ImageError("\x1b[31mx\r\n<script>" * 8000)
        yield InferResult(b"<script>alert(1)</script>", request.metadata["mime"], is_final=True, total=1)


@contextmanager
def _hostile_node() -> Iterator[str]:
    """Its address; it runs in a thread."""
    started, loop, over, port = threading.Event(), asyncio.new_event_loop(), asyncio.Event(), [0]

    async def run() -> None:
        node = NodeServer(lambda: [_Hostile()])
        port[0] = await node.start("127.0.0.1", 0)
        await node.set_ready()
        started.set()
        await over.wait()
        await node.stop(1.0)

    thread = threading.Thread(target=lambda: loop.run_until_complete(run()))
    thread.start()
    started.wait(30)
    try:
        yield f"127.0.0.1:{port[0]}"
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join(30)
        loop.close()


def nodes(stage: Stage, trial: Trial) -> None:
    """Damaged messages to a node, and what a node of somebody else's sends."""
    server, chance = stage.open, random.Random(7)
    base = Message(task="face_detect", payload=stage.photo[:300], payload_mime="image/jpeg", meta={"max_faces": "1"})
    faults = (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.DATA_LOSS)
    with stage.watched(trial, server), grpc.insecure_channel(f"127.0.0.1:{stage.grpc_port}") as channel:
        ask: Any = channel.stream_stream(INFER, None, None)
        for number in range(1500):
            body = damaged(base.SerializeToString(), chance) if number % 3 else chance.randbytes(chance.randrange(200))
            code = grpc.StatusCode.OK
            try:
                list(ask(iter([body]), timeout=30))
            except grpc.RpcError as error:
                code = error.code()  # type: ignore[attr-defined]
            trial.sent_mb += len(body) / 1e6
            trial.expect(code not in (*faults, grpc.StatusCode.DEADLINE_EXCEEDED), f"{body!r}: {code}")
    trial.expect("Traceback" not in server.log, "a traceback in the log")
    with _hostile_node() as address:
        _from_node(trial, stage.serve(nodes=address, data_dir=stage.folder / "of-hostile", **stage.light))


def _from_node(trial: Trial, gateway: Any) -> None:
    eventually(lambda: gateway.client.get("/v1/nodes").json()["data"]["nodes"][1]["status"] == "active")
    refused = gateway.client.post("/v1/infer", json={"service": "hostile", "payload": "QQ=="})
    trial.expect(len(refused.content) < 4096, f"{len(refused.content)} bytes of a node's error")
    trial.expect(refused.status_code < 500 or refused.json()["error"]["code"] == "node_failed", refused.text)
    trial.expect(
        "\\u001b" not in refused.text and "\\r" not in refused.text, f"control characters: {refused.text[:200]}"
    )
    for mime in (
        "text/html",
        "TEXT/HTML; charset=x",
        "image/svg+xml",
        "application/xhtml+xml",
        "text/javascript",
        "x",
        "a\nb",
    ):
        for accept in ("application/octet-stream", "text/html", "*/*", "application/json", "image/svg+xml"):
            body = {"service": "hostile", "payload": "QQ==", "metadata": {"mime": mime}}
            answer = gateway.client.post("/v1/infer", json=body, headers={"Accept": accept})
            kind, harmless = (
                answer.headers.get("content-type", ""),
                ("application/json", "text/plain", "text/event-stream"),
            )
            guarded = answer.headers.get("x-content-type-options") == "nosniff" and (
                "sandbox" in answer.headers.get("content-security-policy", "")
            )
            trial.expect(guarded or kind.startswith(harmless), f"{mime} for {accept}: {dict(answer.headers)}")
    trial.expect("Traceback" not in gateway.log, "a traceback in the log of the gateway")
    gateway.stop()


HEADS = (
    "/livez",
    "/readyz",
    "/health",
    "/v1/health",
    "/info",
    "/docs",
    "/redoc",
    "/metrics",
    "/openapi.json",
    "/tasks",
)


def conventions(stage: Stage, trial: Trial) -> None:
    """What monitors, proxies and clients of other makes send."""
    client = stage.open.client
    body = json.dumps({"images": {"data": ["QQ=="]}}).encode()
    with stage.watched(trial, stage.open):
        for path in HEADS:
            answer, whole = client.head(path), client.get(path)
            held = answer.status_code == whole.status_code == 200 and not answer.content
            trial.expect(held, f"HEAD {path}: {answer.status_code}")
        for path in (
            "/extract",
            "/compare",
            "/draw_detections",
            "/v1/infer",
            "/run",
            "/apps/run",
            "/tasks/list",
            "/files",
        ):
            plain = client.post(path, content=body, headers=JSON)
            for coding in ("br", "zstd", "deflate", "compress", "x", "gzip, br"):
                answer = client.post(path, content=body, headers={**JSON, "Content-Encoding": coding})
                trial.expect(answer.status_code == 415, f"{path}, {coding}: {answer.status_code} {answer.text[:200]}")
            for coding in ("gzip", "x-gzip", "GZIP"):
                answer = client.post(path, content=gzip.compress(body), headers={**JSON, "Content-Encoding": coding})
                held = answer.status_code == plain.status_code or (coding == "x-gzip" and answer.status_code == 415)
                trial.expect(held, f"{path}, {coding}: {answer.status_code} {answer.text[:200]}")
            trial.answered(client.post(path, content=b"x", headers={**JSON, "Content-Encoding": "gzip"}), 400, 422)
            answer = client.post(path, content=b"\xef\xbb\xbf" + body, headers=JSON)
            trial.expect(
                answer.status_code == plain.status_code, f"{path}, a BOM: {answer.status_code} {answer.text[:200]}"
            )
            trial.answered(client.post(path, content=b'{"a": "\\ud800"}', headers=JSON), 400, 404, 422)
        for path in ("/openapi.json", "/apps"):
            answer = client.get(path, headers={"Accept-Encoding": "gzip"})
            large = len(answer.content) > 1024
            trial.expect(not large or answer.headers.get("content-encoding") == "gzip", f"{path} is not compressed")


def document(stage: Stage, trial: Trial) -> None:
    """What generators need of the document of a running server."""
    with stage.watched(trial, stage.open):
        described(trial, stage.open.client.get("/openapi.json").json())


def described(trial: Trial, found: dict[str, Any]) -> None:
    for path, methods in found["paths"].items():
        for method, operation in methods.items():
            label, answers = f"{method} {path}", operation["responses"]
            named = {f"{{{p['name']}}}" for p in operation.get("parameters", []) if p["in"] == "path"}
            wanted = {part for part in path.split("/") if part.startswith("{")}
            trial.expect(named == wanted, f"{label}: parameters {named}, of the path {wanted}")
            trial.expect(any(status >= "4" for status in answers), f"{label}: no error")
            good = [answer for status, answer in answers.items() if status < "4" or path.endswith("/watch")]
            trial.expect(bool(good), f"{label}: no answer")
            for content in (content for answer in good for content in answer.get("content", {}).values()):
                trial.expect(bool(content.get("schema")), f"{label}: no schema")
            if path.startswith("/multipart") or (method == "post" and path in ("/files", "/v1/infer")):
                trial.expect("multipart/form-data" in operation["requestBody"]["content"], f"{label}: no form")
    names = {parameter["name"] for parameter in found["paths"]["/tasks"]["get"]["parameters"]}
    trial.expect(len(names) >= 8, f"the filters of tasks: {names}")


ROWS: dict[int, Callable[[Stage, Trial], None]] = {
    7: poison,
    10: deadlines,
    12: scheduled,
    13: unbounded,
    16: nodes,
    17: conventions,
    18: document,
    22: capacity,
}
