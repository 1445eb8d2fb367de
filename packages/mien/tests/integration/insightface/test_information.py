"""What the server says about itself: information, documentation, health, metrics, request ids."""

import json
import re
import time
from collections.abc import Callable
from typing import Any

import httpx2
import pytest


def test_info_has_what_clients_print(client: httpx2.Client) -> None:
    answer = client.get("/info").json()
    assert {
        "inference_backend", "det_name", "rec_name", "rec_batch_size", "det_batch_size", "max_size",
    } <= set(answer["models"])  # fmt: skip
    assert {"version", "tensorrt_version", "log_level", "models", "defaults"} <= set(answer)
    assert answer["models"]["embedding_dim"] == 512


def test_info_tells_no_secret(client: httpx2.Client) -> None:
    answer = client.get("/info")
    assert "s3cr3t-value" not in answer.text
    assert answer.json()["defaults"]["img_req_headers"] == {"X-Secret": "********"}


def test_health_finds_a_face(client: httpx2.Client) -> None:
    response = client.get("/health")
    assert (response.status_code, response.json()) == (200, {"status": "ok"})


def test_the_root_leads_to_the_documentation(client: httpx2.Client) -> None:
    response = client.get("/")
    assert (response.status_code, response.headers["location"]) == (307, "/docs")


@pytest.mark.parametrize("page", ["/docs", "/redoc"])
def test_the_documentation_works_offline(client: httpx2.Client, page: str) -> None:
    html = client.get(page).text
    assert re.findall(r"""(?:src|href|url)\s*[=:]\s*["'](?:https?:)?//[^"']*""", html) == []
    assets = re.findall(r"""(?:src|href)=["'](/[^"']+)""", html)
    assert assets
    assert [client.get(asset).status_code for asset in assets] == [200] * len(assets)


def test_every_route_is_in_the_schema_with_its_body(client: httpx2.Client) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    assert {
        "/extract",
        "/compare",
        "/draw_detections",
        "/multipart/extract",
        "/multipart/compare",
        "/multipart/draw_detections",
        "/info",
        "/health",
        "/livez",
        "/readyz",
        "/metrics",
    } <= set(paths)
    for path in ("/extract", "/compare", "/draw_detections"):
        content = paths[path]["post"]["requestBody"]["content"]
        assert {"application/json", "application/msgpack"} <= set(content)
        assert content["application/json"]["schema"]["$ref"].endswith("Request")


def test_live_and_ready(client: httpx2.Client) -> None:
    assert client.get("/livez").status_code == 200
    assert client.get("/readyz").status_code == 200


@pytest.mark.full
def test_a_server_is_live_before_it_is_ready(serve: Callable[..., Any]) -> None:
    server = serve(ready=False)
    seen = []
    deadline = time.monotonic() + 80
    while "ready" not in seen and time.monotonic() < deadline:
        try:
            live, ready = server.client.get("/livez"), server.client.get("/readyz")
        except httpx2.TransportError:
            continue
        assert live.status_code == 200
        assert ready.status_code in (200, 503)
        if ready.status_code == 503:
            assert int(ready.headers["retry-after"]) >= 1
            early = server.client.post("/extract", json={"images": {}})
            if early.status_code != 200:
                assert early.status_code == 503
                assert int(early.headers["retry-after"]) >= 1
        seen.append(ready.json()["status"])
    assert seen[-1] == "ready"


def test_metrics_count_what_happens(server: Any, extract: Callable[..., Any], photo: bytes) -> None:
    names = ("mien_images_total", "mien_faces_total", "mien_batch_size_count", "mien_errors_total")
    before = {name: server.metric(name) for name in names}
    extract(photo, "!", photo)
    after = {name: server.metric(name) for name in names}
    grown = {name: after[name] - before[name] for name in names}
    assert grown["mien_images_total"] == 3
    assert grown["mien_faces_total"] == 2
    assert grown["mien_batch_size_count"] >= 4
    assert grown["mien_errors_total"] == 1
    assert server.metric("mien_requests_total", route="/extract", status="200") >= 1
    assert server.metric("mien_queued_images") == 0
    assert server.metric("mien_queued_items") == 0


def test_unknown_paths_and_methods_do_not_invent_labels(server: Any) -> None:
    for path in ("/a", "/b", "/c/d"):
        assert server.client.get(path).status_code == 404
    server.client.request("BREW", "/extract")
    text = server.client.get("/metrics").text
    assert 'route="/a"' not in text
    assert "BREW" not in text


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nothing", 404, "not_found"),
        ("GET", "/extract", 405, "method_not_allowed"),
        ("POST", "/info", 405, "method_not_allowed"),
    ],
)
def test_errors_of_the_framework_have_the_one_form(
    client: httpx2.Client, method: str, path: str, status: int, code: str
) -> None:
    response = client.request(method, path)
    body = response.json()
    assert (response.status_code, body["error"]["code"], body["success"]) == (status, code, False)
    assert body["request_id"] == response.headers["x-request-id"]


def test_a_request_id_is_in_the_header_the_error_and_the_log(server: Any) -> None:
    response = server.client.post("/extract", json={}, headers={"X-Request-Id": "order-66"})
    assert response.headers["x-request-id"] == "order-66"
    assert response.json()["request_id"] == "order-66"
    time.sleep(0.2)
    lines = [json.loads(line) for line in server.log.splitlines() if "order-66" in line]
    assert any(line.get("event") == "request" and line["status"] == 422 for line in lines)


@pytest.mark.parametrize("given", ["x" * 200, "a b", "<script>", "\u00e9"])
def test_a_senseless_request_id_is_replaced(client: httpx2.Client, given: str) -> None:
    response = client.get("/livez", headers=[(b"X-Request-Id", given.encode("latin-1"))])
    assert response.headers["x-request-id"] != given
    assert len(response.headers["x-request-id"]) == 16


def test_requests_without_an_id_get_different_ones(client: httpx2.Client) -> None:
    assert len({client.get("/livez").headers["x-request-id"] for _ in range(5)}) == 5


def test_logs_are_json_lines_without_images_and_secrets(server: Any, extract: Callable[..., Any], photo: bytes) -> None:
    extract(photo)
    time.sleep(0.2)
    lines = server.log.splitlines()
    assert all(json.loads(line)["event"] for line in lines)
    assert max(len(line) for line in lines) < 20_000
    assert "s3cr3t-value" not in server.log
