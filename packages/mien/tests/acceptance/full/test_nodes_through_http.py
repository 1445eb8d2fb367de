"""Two servers of ours, one behind the other: HTTP to the gateway, gRPC to the node."""

import base64
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import httpx2
import pytest
from google.protobuf.empty_pb2 import Empty

from mien.nodes.contract import STREAM_CAPABILITIES
from mien.nodes.proto.inference_pb2 import Capability
from testing.waiting import eventually

NODE = Path(__file__).parents[2] / "integration" / "nodes" / "node_process.py"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


class Nodes:
    """Starts small nodes on one port, one after the other."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        self.stack, self.folder, self.port = stack, folder, free_port()
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(NODE), str(self.port), str(self.folder / "node.log"), "one"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.stack.callback(self.kill)

    def kill(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def words(self) -> str:
        path = self.folder / "node.log"
        return path.read_text() if path.exists() else ""


@pytest.fixture
def behind(tmp_path: Path) -> Iterator[Nodes]:
    with ExitStack() as stack:
        nodes = Nodes(stack, tmp_path)
        nodes.start()
        yield nodes


@pytest.fixture
def gateway(serve: Any, behind: Nodes) -> Any:
    server = serve(
        nodes=f"127.0.0.1:{behind.port}",
        node_cooldown_min=0.5,
        age_model="none",
        gender_model="none",
        mask_model="none",
        image_model="none",
        text_model="none",
    )
    eventually(lambda: remote(server)["status"] == "active")
    return server


def remote(server: Any) -> dict[str, Any]:
    node: dict[str, Any] = server.client.get("/v1/nodes").json()["data"]["nodes"][1]
    return node


def body(service: str, payload: bytes = b"hello", **metadata: str) -> dict[str, Any]:
    return {"service": service, "task": "", "payload": base64.b64encode(payload).decode(), "metadata": metadata}


def events(response: httpx2.Response) -> list[dict[str, Any]]:
    return [json.loads(part) for part in response.read().decode().split("\n\n") if part]


def test_a_service_of_a_node_is_asked_over_http(gateway: Any) -> None:
    answer = gateway.client.post("/v1/infer", json=body("echo")).json()
    assert base64.b64decode(answer["data"]["result"]) == b"hello"
    streamed = events(gateway.client.post("/v1/infer", json=body("steps_stream", steps="3")))
    assert [event["is_final"] for event in streamed] == [False, False, True]


def test_five_megabytes_go_through_and_come_back(gateway: Any) -> None:
    payload = os.urandom(5_000_000)
    headers = {"Content-Type": "application/octet-stream", "Accept": "application/octet-stream"}
    answer = gateway.client.post("/v1/infer?service=echo", content=payload, headers=headers)
    assert answer.status_code == 200
    assert answer.content == payload


@pytest.mark.parametrize(
    ("kind", "status", "code"),
    [
        ("invalid", 422, "image_invalid"),
        ("missing", 404, "not_found"),
        ("bug", 502, "node_failed"),
        ("busy", 429, "overloaded"),
    ],
)
def test_errors_of_a_node_have_their_status(gateway: Any, kind: str, status: int, code: str) -> None:
    answer = gateway.client.post("/v1/infer", json=body("failing", kind=kind))
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert ("Retry-After" in answer.headers) is (kind == "busy")


def test_a_node_that_is_killed_mid_stream_ends_it_cleanly_leaves_and_comes_back(gateway: Any, behind: Nodes) -> None:
    threading.Timer(1.0, behind.kill).start()
    streamed = events(gateway.client.post("/v1/infer", json=body("steps_stream", steps="1000", pause="0.1")))
    assert [event["is_final"] for event in streamed].count(True) == 1
    assert streamed[-1]["is_final"]
    assert streamed[-1]["error"]["code"] == "unavailable"
    assert len(streamed) > 3
    eventually(lambda: remote(gateway)["status"] == "error", 5)
    refused = gateway.client.post("/v1/infer", json=body("echo"))
    assert refused.status_code == 503
    assert "Retry-After" in refused.headers
    behind.start()
    eventually(lambda: remote(gateway)["status"] == "active")
    assert gateway.client.post("/v1/infer", json=body("echo")).status_code == 200


def test_a_client_that_hangs_up_cancels_the_node_within_a_second(gateway: Any, behind: Nodes) -> None:
    request = body("steps_stream", steps="1000", pause="0.1")
    with gateway.client.stream("POST", "/v1/infer", json=request) as response:
        next(response.iter_bytes())
        at = time.time()
    line = eventually(lambda: next((line for line in behind.words().splitlines() if line.startswith("told")), None), 5)
    assert float(line.split()[1]) - at < 1


def test_our_own_node_serves_its_models_over_grpc_and_drains(serve: Any, photo: bytes, tmp_path: Path) -> None:
    port = free_port()
    quick = {"age_model": "none", "gender_model": "none", "mask_model": "none"}
    node = serve("--grpc-port", str(port), **quick)
    gateway = serve(nodes=f"127.0.0.1:{port}", prefer_remote="true", data_dir=tmp_path / "gateway", **quick)
    eventually(lambda: remote(gateway)["status"] == "active")
    here = node.client.post("/v1/infer", json=body("face_recognition", photo)).json()["data"]
    there = gateway.client.post("/v1/infer", json=body("face_recognition", photo)).json()["data"]
    assert json.loads(base64.b64decode(there["result"])) == json.loads(base64.b64decode(here["result"]))
    assert there["result_mime"] == "application/json;schema=face_v1"
    assert remote(gateway)["stats"]["successful_requests"] == 1
    assert gateway.metric("mien_node_requests_total", outcome="ok") == 1
    assert node.metric("mien_grpc_requests_total", outcome="ok") == 1
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        every = channel.unary_stream(STREAM_CAPABILITIES, Empty.SerializeToString, Capability.FromString)
        tasks = {task.name for capability in every(Empty()) for task in capability.tasks}
    assert {"face_detect", "face_recognition", "face_detect_and_embed", "semantic_text_embed"} <= tasks
    assert node.stop() == 0


def test_a_taken_grpc_port_is_one_sentence(mien: Any) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = mien("node", "--grpc-port", str(port), "--port", str(free_port()))
    assert done.returncode == 1
    assert f"cannot listen on 127.0.0.1 port {port}" in done.stderr


def test_a_node_beyond_loopback_needs_keys(mien: Any) -> None:
    done = mien("node", "--port", str(free_port()), grpc_host="0.0.0.0")  # noqa: S104
    assert done.returncode == 1
    assert "there are no API keys" in done.stderr
