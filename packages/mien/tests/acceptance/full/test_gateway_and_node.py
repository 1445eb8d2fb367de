"""A gateway and a node, real models behind both: deadlines, load, TLS."""

import asyncio
import json
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import httpx2
import pytest

from mien.errors import Unavailable
from mien.nodes.client import NodeClient
from mien.nodes.contract import INFER
from mien.nodes.proto.inference_pb2 import InferRequest, InferResponse
from mien.nodes.tls import ClientTls
from packages.mien.tests.acceptance.lumen.deadlines import tried
from testing.ports import free_port
from testing.tools import program
from testing.waiting import eventually

QUICK = {"age_model": "none", "gender_model": "none", "mask_model": "none"}


def remote(server: Any) -> dict[str, Any]:
    node: dict[str, Any] = server.client.get("/v1/nodes").json()["data"]["nodes"][1]
    return node


@pytest.fixture(scope="module")
def pair(serve_module: Callable[..., Any]) -> Any:
    """A node, and a gateway that prefers it."""
    port = free_port()
    node = serve_module("--grpc-port", str(port), **QUICK)
    gateway = serve_module(nodes=f"127.0.0.1:{port}", prefer_remote="true", **QUICK)
    eventually(lambda: remote(gateway)["status"] == "active")
    return SimpleNamespace(node=node, gateway=gateway, address=f"127.0.0.1:{port}")


@pytest.mark.parametrize("seed", range(6))
def test_a_deadline_is_a_deadline_through_a_node_too(pair: Any, photos: Any, seed: int) -> None:
    found = tried(pair.gateway.client, list(photos.values()), 20, seed=seed, most_ms=250)
    assert set(found) <= {"ok", "deadline_exceeded"}, found
    assert found["deadline_exceeded"] > 5
    for server in (pair.node, pair.gateway):
        assert server.metric("mien_errors_total", code="cancelled") == 0
        assert "Traceback" not in server.log
    assert remote(pair.gateway)["status"] == "active"


def test_a_deadline_is_a_deadline_over_grpc(pair: Any, photo: bytes) -> None:
    with grpc.insecure_channel(pair.address) as channel:
        infer = channel.stream_stream(INFER, InferRequest.SerializeToString, InferResponse.FromString)
        found: Counter[str] = Counter()
        for number in range(40):
            request = InferRequest(task="face_recognition_stream", payload=photo)
            call = infer(iter([request] * 4), timeout=0.002 + 0.005 * number)
            try:
                answers = list(call)
            except grpc.RpcError as error:
                found[error.code().name] += 1  # type: ignore[attr-defined]
            else:
                assert sum(answer.is_final for answer in answers) == 4
                found["OK"] += 1
    assert set(found) <= {"OK", "DEADLINE_EXCEEDED"}, found
    assert found["DEADLINE_EXCEEDED"] > 3


def test_a_server_wide_deadline_is_a_504_on_extract_too(serve: Callable[..., Any], collage: bytes) -> None:
    server = serve(request_timeout=1.5, **QUICK)
    files = [("file", ("photo.jpg", collage))] * 100
    for _ in range(4):
        answer = server.client.post("/multipart/extract", files=files)
        assert (answer.status_code, answer.json()["error"]["code"]) == (504, "deadline_exceeded")
    assert server.metric("mien_errors_total", code="cancelled") == 0
    assert "Traceback" not in server.log


def test_of_200_simultaneous_requests_a_gateway_answers_all(pair: Any, photo: bytes) -> None:
    async def statuses() -> Counter[int]:
        limits = httpx2.Limits(max_connections=200)
        async with httpx2.AsyncClient(base_url=pair.gateway.url, timeout=80, limits=limits, trust_env=False) as client:
            headers = {"Content-Type": "image/jpeg"}
            path = "/v1/infer?service=face_detection"
            asked = [client.post(path, content=photo, headers=headers) for _ in range(200)]
            return Counter(response.status_code for response in await asyncio.gather(*asked))

    assert asyncio.run(statuses()) == {200: 200}
    assert remote(pair.gateway)["status"] == "active"


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority, a certificate for localhost and one for a client, made by openssl."""
    folder = tmp_path_factory.mktemp("pki")
    openssl = program("openssl")

    def run(*arguments: str) -> None:
        subprocess.run([openssl, *arguments], cwd=folder, check=True, capture_output=True)

    elliptic = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc", "-days", "2"]
    for authority in ("ca", "other"):
        run("req", "-x509", *elliptic, "-keyout", f"{authority}.key", "-out", f"{authority}.pem", "-subj", "/CN=Test")
    for name in ("node", "client"):
        signed = ["-CA", "ca.pem", "-CAkey", "ca.key", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
        run("req", "-x509", *elliptic, "-keyout", f"{name}.key", "-out", f"{name}.pem", "-subj", f"/CN={name}", *signed)
    return folder


@pytest.mark.parametrize("mutual", [False, True])
def test_a_gateway_reaches_its_node_by_tls(
    serve: Callable[..., Any], light: dict[str, str], pki: Path, photo: bytes, tmp_path: Path, mutual: bool
) -> None:
    port = free_port()
    own = {"grpc_tls_certificate": pki / "node.pem", "grpc_tls_key": pki / "node.key"}
    theirs = {"node_tls_ca": pki / "ca.pem"}
    if mutual:
        own["grpc_tls_client_ca"] = pki / "ca.pem"
        theirs |= {"node_tls_certificate": pki / "client.pem", "node_tls_key": pki / "client.key"}
    serve("--grpc-port", str(port), **own, **light)
    address = f"grpcs://localhost:{port}"
    gateway = serve(nodes=address, prefer_remote="true", data_dir=tmp_path / "gateway", **theirs, **light)
    eventually(lambda: remote(gateway)["status"] == "active")
    headers = {"Content-Type": "image/jpeg", "Accept": "application/octet-stream"}
    answer = gateway.client.post("/v1/infer?service=face_detection", content=photo, headers=headers)
    assert json.loads(answer.content)["count"] == 1
    assert remote(gateway)["stats"]["successful_requests"] == 1
    strangers = {
        "no TLS": None,
        "an authority that did not sign the node's certificate": ClientTls(pki / "other.pem"),
        **({"no certificate": ClientTls(pki / "ca.pem")} if mutual else {}),
    }
    for tls in strangers.values():
        asyncio.run(is_refused(f"localhost:{port}", tls))


async def is_refused(address: str, tls: ClientTls | None) -> None:
    client = NodeClient(address, tls=tls)
    try:
        with pytest.raises(Unavailable):
            await client.connect(5)
    finally:
        await client.close()
