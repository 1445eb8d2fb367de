"""Who gets in, how much, and what the other routes say."""

import json
from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from mien.keys import FileKeyStore

GET_ROUTES = ["/v1/nodes", "/v1/nodes/local/capabilities", "/v1/tasks", "/v1/metrics", "/v1/config"]


# --- limits


def test_a_body_over_the_limit_is_refused_by_its_announcement(start: Callable[..., Any]) -> None:
    api = start(max_body_bytes=1000)
    response = api.infer(service="echo", payload="A" * 2000)
    assert (response.status_code, response.json()["error"]["code"]) == (413, "body_too_large")


def test_a_body_over_the_limit_is_refused_while_it_comes(start: Callable[..., Any]) -> None:
    api = start(max_body_bytes=1000)

    def chunks() -> Any:
        for _ in range(10):
            yield b"x" * 500

    headers = {"Content-Type": "application/octet-stream"}
    assert api.client.post("/v1/infer?service=echo", content=chunks(), headers=headers).status_code == 413


def test_a_form_over_the_limit(start: Callable[..., Any]) -> None:
    api = start(max_body_bytes=1000)
    response = api.client.post("/v1/infer", data={"service": "echo"}, files={"payload": b"x" * 2000})
    assert response.status_code == 413


@pytest.mark.parametrize("count", [4, 5, 9])
def test_too_many_payloads(start: Callable[..., Any], count: int) -> None:
    api = start(max_images=3)
    assert api.infer(service="echo", payload=["aGk="] * count).status_code == 413
    files = [("payload", (str(number), b"x")) for number in range(count)]
    form = api.client.post("/v1/infer", data={"service": "echo"}, files=files)
    assert (form.status_code, form.json()["error"]["code"]) == (413, "body_too_large")


def test_a_full_queue_says_when_to_come_back(start: Callable[..., Any]) -> None:
    api = start(queue_bytes=200_000)
    slow = {"service": "stepper_stream", "payload": "A" * 150_000, "metadata": {"steps": "2", "ms": "60000"}}
    with api.client.stream("POST", "/v1/infer", json=slow) as response:
        chunks = response.iter_bytes()  # an iterator that nobody keeps closes the connection
        next(chunks)
        refused = api.infer(service="echo", payload="A" * 150_000)
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "overloaded")
        assert int(refused.headers["retry-after"]) >= 1


def test_large_bodies_are_parsed_like_small_ones(api: Any) -> None:
    response = api.client.post("/v1/infer?decode=1", json={"service": "echo", "payload": "QUJD" * 200_000})
    (item,) = response.json()["data"]["result_json"]["items"]
    assert item["hex"] == "414243" * 200_000


# --- API keys


def test_every_route_asks_for_a_key_but_health(start: Callable[..., Any]) -> None:
    api = start()
    _, secret = FileKeyStore(api.app.state.context.settings.locations.data_dir).create("test", ("infer",))
    assert api.infer(service="echo").status_code == 401
    for path in GET_ROUTES:
        assert api.client.get(path).status_code == 401, path
    assert api.client.get("/v1/health").status_code == 200
    with pytest.raises(InvalidStatus) as refused, connect(f"{api.url.replace('http', 'ws')}/v1/nodes/watch"):
        pass
    assert refused.value.response.status_code == 401
    headers = {"Authorization": f"Bearer {secret}"}
    assert api.client.post("/v1/infer", json={"service": "echo"}, headers=headers).status_code == 200
    for path in GET_ROUTES:
        assert api.client.get(path, headers=headers).status_code == 200, path


def test_nothing_is_served_while_models_load(start: Callable[..., Any]) -> None:
    api = start()
    api.app.state.context.readiness.runtime, kept = None, api.app.state.context.readiness.runtime
    response = api.infer(service="echo")
    assert (response.status_code, response.headers["retry-after"]) == (503, "2")
    health = api.client.get("/v1/health")
    assert (health.status_code, health.json()["data"]["status"]) == (503, "starting")
    api.app.state.context.readiness.runtime = kept


# --- pages of other origins


def test_no_cross_origin_use_unless_set(api: Any) -> None:
    preflight = {"Origin": "https://a.example", "Access-Control-Request-Method": "POST"}
    refused = api.client.options("/v1/infer", headers=preflight)
    assert refused.status_code == 403
    assert "MIEN_CORS_ORIGINS" in refused.json()["error"]["message"]
    response = api.client.post("/v1/infer", json={"service": "echo"}, headers={"Origin": "https://a.example"})
    assert "access-control-allow-origin" not in response.headers


def test_cross_origin_use_where_set(start: Callable[..., Any]) -> None:
    api = start(cors_origins="https://a.example,https://b.example")
    preflight = {
        "Origin": "https://a.example", "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type",
    }  # fmt: skip
    answer = api.client.options("/v1/infer", headers=preflight)
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, "https://a.example")
    refused = api.client.options("/v1/infer", headers={**preflight, "Origin": "https://c.example"})
    assert refused.status_code == 403
    assert "'https://c.example' may not use this server; see MIEN_CORS_ORIGINS" in refused.json()["error"]["message"]
    assert [name for name in refused.headers if name.startswith("access-control")] == []
    assert "Origin" in refused.headers["vary"]
    unusual = {**preflight, "Access-Control-Request-Method": "PATCH"}
    refused = api.client.options("/v1/infer", headers=unusual)
    assert (refused.status_code, refused.json()["error"]["code"]) == (405, "method_not_allowed")
    assert "got 'PATCH'" in refused.json()["error"]["message"]
    private = {**preflight, "Access-Control-Request-Private-Network": "true"}
    assert api.client.options("/v1/infer", headers=private).headers["access-control-allow-private-network"] == "true"
    response = api.client.post("/v1/infer", json={"service": "echo"}, headers={"Origin": "https://b.example"})
    assert response.headers["access-control-allow-origin"] == "https://b.example"
    assert "X-Correlation-Id" in response.headers["access-control-expose-headers"]


def test_pages_of_other_origins_may_not_watch(api: Any) -> None:
    url = f"{api.url.replace('http', 'ws')}/v1/nodes/watch"
    with pytest.raises(InvalidStatus) as refused, connect(url, origin="https://a.example"):  # type: ignore[arg-type]
        pass
    assert refused.value.response.status_code == 403
    with connect(url, origin=api.url) as socket:
        assert json.loads(socket.recv())["type"] == "snapshot"


# --- the other routes


def test_health(api: Any) -> None:
    body = api.client.get("/v1/health").json()
    assert body["data"] == {"service": "Lumen REST API", "status": "healthy"}
    assert body["success"] is True
    assert body["timestamp"].endswith("Z")


@pytest.mark.parametrize("path", ["/v1/health", *GET_ROUTES])
def test_head_and_a_slash_at_the_end(api: Any, path: str) -> None:
    assert api.client.get(f"{path}/").status_code == 200
    head = api.client.head(path)
    assert (head.status_code, head.content) == (200, b"")


def test_this_server_is_a_node(api: Any) -> None:
    (node,) = api.client.get("/v1/nodes").json()["data"]["nodes"]
    assert (node["id"], node["status"], node["weight"]) == ("local", "active", 1)
    assert "echo_task" in node["tasks"]
    offered = api.client.get("/v1/nodes/local/capabilities").json()["data"]
    assert offered == node["capabilities"]
    echo = next(one for one in offered if one["service_name"] == "echo")
    assert (echo["protocol_version"], echo["model_ids"]) == ("1.0", ["none"])
    assert set(echo["tasks"][0]) >= {"name", "input_mimes", "output_mimes", "limits"}


def test_an_unknown_node(api: Any) -> None:
    response = api.client.get("/v1/nodes/zz/capabilities")
    assert (response.status_code, response.json()["message"]) == (404, "no node is called 'zz'; there are: local")


def test_tasks(api: Any) -> None:
    data = api.client.get("/v1/tasks").json()["data"]
    assert set(data["services"]) == {"echo", "stepper", "failing", "pieces"}
    assert (data["total_nodes"], data["active_nodes"], data["total_tasks"], data["services_count"]) == (1, 1, 4, 4)
    assert set(data["all_tasks"][0]) == {
        "name", "aliases", "input_mimes", "output_mime", "node_id", "node_name", "service_name", "node_address",
    }  # fmt: skip


def test_metrics(api: Any) -> None:
    data = api.client.get("/v1/metrics").json()["data"]
    assert set(data) >= {
        "total_requests", "successful_requests", "failed_requests", "error_rate", "average_latency", "throughput_qps",
        "active_nodes", "total_nodes", "last_updated", "success_requests", "average_latency_ns",
    }  # fmt: skip


def test_config_holds_no_secrets_and_no_paths(start: Callable[..., Any]) -> None:
    api = start(fetch_headers={"*": {"X-Token": "s3cret"}}, images_root="/srv/images")
    response = api.client.get("/v1/config")
    assert response.json()["data"]["server"]["rest"]["timeout"] == 120 * 10**9
    assert "s3cret" not in response.text
    assert "/srv" not in response.text
    assert str(api.app.state.context.settings.locations.data_dir) not in response.text


def test_watch_without_upgrade(api: Any) -> None:
    response = api.client.get("/v1/nodes/watch")
    assert (response.status_code, response.headers["upgrade"]) == (426, "websocket")
    assert response.json()["error"]["code"] == "upgrade_required"


def test_the_document_describes_the_api(api: Any) -> None:
    document = httpx2.get(f"{api.url}/openapi.json", trust_env=False).json()
    bodies = document["paths"]["/v1/infer"]["post"]["requestBody"]["content"]
    assert {"application/json", "application/msgpack", "multipart/form-data", "application/octet-stream"} <= set(bodies)
    assert {"/v1/health", "/v1/nodes", "/v1/tasks", "/v1/metrics", "/v1/config"} <= set(document["paths"])
