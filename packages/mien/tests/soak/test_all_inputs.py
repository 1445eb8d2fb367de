"""Over 100,000 inputs, made from the OpenAPI document or damaged by chance, for every API: no 5xx, no hang."""

import json
import random
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import ormsgpack
import pytest

from mien.nodes.contract import INFER
from mien.nodes.proto.inference_pb2 import InferRequest
from packages.mien.tests.fuzzing import HANG_SECONDS, Tally, from_document, post
from packages.mien.tests.mutations import damaged
from testing.ports import free_port

pytestmark = [pytest.mark.soak, pytest.mark.limit(3600)]
EACH = 7_000
DOCUMENT_EXAMPLES = 150
GRPC_INPUTS = 6_000
JSON = {"Content-Type": "application/json"}
MSGPACK = {"Content-Type": "application/msgpack"}
FORM = {"Content-Type": "multipart/form-data; boundary=b"}
FAR = "2100-01-01T00:00:00Z"
GRPC_FAULTS = (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.DATA_LOSS)


def form(*parts: tuple[str, bytes]) -> bytes:
    """A multipart body; the part `file` or `payload` is a file."""
    lines = []
    for name, content in parts:
        file = b'; filename="a.jpg"' if name in ("file", "payload") else b""
        lines.append(
            b'--b\r\nContent-Disposition: form-data; name="%b"%b\r\n\r\n%b\r\n' % (name.encode(), file, content)
        )
    return b"".join(lines) + b"--b--\r\n"


def bases(photo: bytes) -> Iterator[tuple[str, str, bytes, dict[str, str]]]:
    """Valid requests: the API and encoding, the path, the body, its headers."""
    start = photo[:300]
    faces = {"images": {"data": [start, "QQ=="], "urls": []}, "threshold": 0.5, "limit_faces": 3, "msgpack": True}
    text_faces = {**faces, "images": {"data": ["QQ=="], "urls": ["x.jpg"]}}
    infer = {"service": "face_detection", "payload": start, "metadata": {"max_faces": "1"}, "correlation_id": "c"}
    run = {
        "app": "mien/faces",
        "input": {"image": "data:,x", "max_faces": 1},
        "run_at": FAR,
        "metadata": {"a": [1, {}]},
    }
    filters = {"status": [1, "queued"], "app": "mien/faces", "created_after": FAR, "limit": 3, "cursor": "1.x"}
    files = {
        "files": [{"filename": "a.txt", "content_type": "text/plain", "size": 3, "path": "b/a.txt", "public": False}]
    }
    yield "faces, MessagePack", "/extract", ormsgpack.packb(faces), MSGPACK
    yield "faces, MessagePack", "/compare", ormsgpack.packb(faces), MSGPACK
    yield "faces, JSON", "/extract", json.dumps(text_faces).encode(), JSON
    yield "faces, JSON", "/draw_detections", json.dumps(text_faces).encode(), JSON
    yield "faces, multipart", "/multipart/extract", form(("threshold", b"0.5"), ("file", start)), FORM
    yield "infer, MessagePack", "/v1/infer", ormsgpack.packb(infer), MSGPACK
    yield "infer, JSON", "/v1/infer", json.dumps({**infer, "payload": "QQ=="}).encode(), JSON
    yield "infer, multipart", "/v1/infer", form(("service", b"face_detection"), ("payload", start)), FORM
    yield "tasks, JSON", "/run", json.dumps(run).encode(), JSON
    yield "tasks, JSON", "/tasks/list", json.dumps(filters).encode(), JSON
    yield "files, JSON", "/files", json.dumps(files).encode(), JSON
    yield "files, multipart", "/files", form(("public", b"true"), ("file", start)), FORM
    yield "apps, archive", "/apps?name=a/b", b"PK\x03\x04" + start, {"Content-Type": "application/zip"}


def damage_messages(address: str, photo: bytes, tally: Tally) -> None:
    """Damaged messages to a node, on one channel."""
    chance = random.Random(5)
    base = InferRequest(
        correlation_id="c", task="face_detect", payload=photo[:300], payload_mime="image/jpeg", meta={"max_faces": "1"},
        seq=0, total=1, offset=0,
    ).SerializeToString()  # fmt: skip
    with grpc.insecure_channel(address) as channel:
        ask: Any = channel.stream_stream(INFER, None, None)
        for _ in range(GRPC_INPUTS):
            body = damaged(base, chance)
            try:
                for _answer in ask(iter([body]), timeout=HANG_SECONDS):
                    pass
                tally.note("nodes, gRPC", 200, "", "")
            except grpc.RpcError as error:
                code = error.code()  # type: ignore[attr-defined]
                if code is grpc.StatusCode.DEADLINE_EXCEEDED:
                    tally.hung("nodes, gRPC", repr(body))
                else:
                    tally.note("nodes, gRPC", 500 if code in GRPC_FAULTS else 400, code.name, f"{error} {body!r}"[:600])


def test_a_hundred_thousand_inputs(serve: Callable[..., Any], light: dict[str, str], photo: bytes) -> None:
    tally, node_port = Tally(), free_port()
    server = serve(**light, offline=True, grpc_host="127.0.0.1", grpc_port=node_port, task_queue=100_000)
    from_document(server.url, tally, examples=DOCUMENT_EXAMPLES, number=3, headers={})
    chance = random.Random(4)
    for api, path, body, headers in bases(photo):
        for _ in range(EACH):
            post(server.client, api, path, damaged(body, chance), headers, tally)
    damage_messages(f"127.0.0.1:{node_port}", photo, tally)
    print(f"\n{tally.table()}")  # noqa: T201
    assert tally.wrong == {}
    assert server.process.poll() is None
    assert tally.inputs.total() >= 100_000
    assert server.client.get("/health").json() == {"status": "ok"}
