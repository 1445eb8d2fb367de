"""Single calls over real connections: retries, idempotency, errors, connection reuse."""

import json
import socket
import time

import pytest

from inferencesh import (
    APIError,
    Inference,
    InferenceConnectionError,
    InferenceError,
    InferenceTimeout,
    RequirementsNotMetError,
)

PARAMS = {"app": "a", "input": {"key": "value"}}


@pytest.mark.parametrize("status", [500, 502, 503, 504, 429])
def test_a_submit_that_meets_an_error_is_tried_again_under_the_same_key(client, server, fault, status):
    server.hits = lambda seen: True
    server.faults = [fault(status=status)]

    task = client.run(PARAMS, wait=False)

    assert task["id"] == "t1"
    assert len({seen.headers["idempotency-key"] for seen in server.of("POST", "/run")}) == 1
    assert len(server.seen) == 2


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("after", [0, 30, 120])
def test_a_submit_whose_answer_is_lost_runs_once(client, server, fault, how, after):
    server.hits = lambda seen: True
    server.faults = [fault(after=after, how=how), fault(after=after, how=how)]

    assert client.run(PARAMS, wait=False)["id"] == "t1"
    assert len(server.seen) == 3
    assert len(server.runs) == 1


def test_a_submit_that_is_never_answered_is_tried_again(client_factory, server, fault):
    client = client_factory(base_url=server.url, timeout=0.2)
    server.hits = lambda seen: True
    server.faults = [fault(lose=True, how="silence")]

    assert client.run(PARAMS, wait=False)["id"] == "t1"
    assert len(server.runs) == 1


def test_each_run_has_a_key_of_its_own_unless_one_is_given(client, server):
    client.run(PARAMS, wait=False)
    client.run(PARAMS, wait=False)
    one = client.run(PARAMS, wait=False, idempotency_key="mine")
    other = client.run(PARAMS | {"idempotency_key": "mine"}, wait=False)

    assert one["id"] == other["id"]
    assert len(server.runs) == 3


@pytest.mark.parametrize("status", [400, 401, 404, 409, 413, 422, 501])
def test_errors_that_stay_are_not_tried_again(client, server, fault, status):
    server.hits = lambda seen: True
    server.faults = [fault(status=status)]

    with pytest.raises(APIError) as caught:
        client.run(PARAMS)

    error = caught.value
    assert (error.status_code, error.code, error.message, error.request_id) == (status, "made", "made up", "r1")
    assert error.response_body == '{"error": {"code": "made", "message": "made up"}}'
    assert str(error) == f"HTTP {status}: made up (made, request id r1)"
    assert len(server.seen) == 1


def test_retry_after_is_obeyed(client, server, fault):
    server.hits = lambda seen: True
    server.faults = [fault(status=429, headers={"Retry-After": "0.5"})]

    started = time.monotonic()
    client.get_task("t1")
    assert time.monotonic() - started >= 0.5


def test_a_server_that_wants_too_much_time_is_not_waited_for(client, server, fault):
    server.hits = lambda seen: True
    server.faults = [fault(status=503, headers={"Retry-After": "3600"})]

    with pytest.raises(APIError) as caught:
        client.get_task("t1")
    assert caught.value.retry_after == 3600


def test_retries_end(client_factory, server, fault):
    client = client_factory(base_url=server.url, retries=1)
    server.hits = lambda seen: True
    server.faults = [fault(status=500)] * 3

    with pytest.raises(APIError):
        client.get_task("t1")
    assert len(server.seen) == 2


def test_a_deletion_is_not_sent_twice(client, server, fault):
    server.hits = lambda seen: True
    server.faults = [fault(after=0)]

    with pytest.raises(InferenceConnectionError):
        client.tasks.delete("t1")
    assert len(server.of("DELETE", "/tasks/t1")) == 1


def test_where_nobody_listens_the_error_says_so(client_factory):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}"
    client = client_factory(base_url=url, retries=1)

    with pytest.raises(InferenceConnectionError, match="Does a server listen there") as caught:
        client.run(PARAMS)
    assert isinstance(caught.value, ConnectionError)
    assert not caught.value.sent


def test_what_is_no_such_server_is_an_error_of_ours(client, server):
    server.replies = {"/tasks/t1": ["no", "task"], "/tasks/t2": {"success": True, "data": {"no": "id"}}}

    for task_id in ("t1", "t2"):
        with pytest.raises(APIError, match="the response"):
            client.get_task(task_id)


def test_an_answer_that_takes_too_long_is_a_timeout(client_factory, server, fault):
    client = client_factory(base_url=server.url, timeout=0.2, retries=0)
    server.hits = lambda seen: True
    server.faults = [fault(drip=0.01)]

    with pytest.raises(InferenceTimeout, match=r"no response within 0\.2 s") as caught:
        client.get_task("t1")
    assert isinstance(caught.value, TimeoutError)


def test_requirements_that_are_not_met_are_listed(client, server, fault):
    action = {"type": "add_secret"}
    missing = {"type": "secret", "key": "HF_TOKEN", "message": "needs HF_TOKEN", "action": action}
    body = json.dumps({"satisfied": False, "errors": [missing]}).encode()
    server._answer = lambda seen: (412, "application/json", body)

    with pytest.raises(RequirementsNotMetError, match="needs HF_TOKEN") as caught:
        client.run(PARAMS)
    assert caught.value.errors[0].action.type == "add_secret"
    assert isinstance(caught.value, InferenceError)


def test_connections_are_used_again(client, server):
    for _ in range(5):
        client.get_task("t1")

    assert {seen.connection for seen in server.seen} == {1}


def test_a_closed_client_starts_anew(client, server):
    client.get_task("t1")
    client.close()
    client.get_task("t1")

    assert [seen.connection for seen in server.seen] == [1, 2]


def test_the_key_and_the_body_go_out_as_they_are(client, server):
    client.run({"app": "a", "input": {"ü": [1.5, None, True]}, "infra": "cloud", "unknown": {"x": 1}}, wait=False)

    (seen,) = server.of("POST", "/run")
    assert seen.headers["authorization"] == "Bearer key"
    assert server.runs == [{"app": "a", "input": {"ü": [1.5, None, True]}, "infra": "cloud", "unknown": {"x": 1}}]


def test_the_environment_names_the_server(client_factory, server, monkeypatch):
    monkeypatch.setenv("INFERENCE_BASE_URL", f"{server.url}/")
    monkeypatch.setenv("INFERENCE_API_KEY", "of the environment")

    client_factory().get_task("t1")

    assert server.seen[0].headers["authorization"] == "Bearer of the environment"
    assert server.seen[0].path == "/tasks/t1"


def test_namespaces_reach_their_routes(client, server):
    server.replies = {
        "/tasks": {"success": True, "data": {"tasks": [{"id": "t1", "status": 10, "status_name": "completed"}]}},
        "/tasks/t1/logs": {"success": True, "data": [{"content": "line"}]},
        "/apps": [{"id": "local/a"}],
        "/apps/local/a@1": {"id": "local/a"},
        "/sessions": {"data": {"items": []}},
        "/sessions/s1/keepalive": {"data": {"id": "s1"}},
    }

    assert client.tasks.list(limit=3, app=None) == [{"id": "t1", "status": 9, "status_name": "completed"}]
    assert server.seen[-1].path == "/tasks?limit=3"
    assert client.tasks.logs("t1") == [{"content": "line"}]
    assert client.tasks.get("t1")["id"] == "t1"
    assert client.tasks.status("t1")["status"]
    client.tasks.cancel("t1")
    assert client.apps.list() == [{"id": "local/a"}]
    assert client.apps.get("local/a@1") == {"id": "local/a"}
    assert client.sessions.list() == []
    assert client.sessions.keepalive("s1") == {"id": "s1"}
    client.sessions.end("s1")
    client.files.delete("f1")
    assert client.files.get("f/..")
    assert [seen.path for seen in server.seen[-3:]] == ["/sessions/s1", "/files/f1", "/files/f%2F.."]


def test_threads_share_a_client(server):
    from concurrent.futures import ThreadPoolExecutor

    with Inference(base_url=server.url) as client, ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda number: client.get_task(f"t{number}")["id"], range(50)))
    assert found == [f"t{number}" for number in range(50)]
