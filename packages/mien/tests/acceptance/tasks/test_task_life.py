"""Tasks from their submission to their end, through HTTP, with real workers."""

import base64
import json
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

ALL = [1, 2, 3, 4, 5, 6, 7, 9]
WARM = [1, 2, 3, 7, 9]


def statuses(task: dict[str, Any]) -> list[int]:
    return [event["status"] for event in task["events"]]


def test_the_seeds_app_runs_to_completed_with_statuses_in_order(api: Any, seed_app: str, result_file: Path) -> None:
    api.deploy("mine", seed_app)
    task = api.run(
        "test/mine",
        {"image": "https://a.example/a.png", "mask": "https://a.example/m.png"},
        infra="cloud",
        variant="default",
    )
    assert task["status"] in (1, 2)
    seen = [frame["status"] for _, frame in api.frames(task["id"])]
    assert seen == sorted(seen)
    assert seen[-1] == 9
    ended = api.task(task["id"])
    assert statuses(ended) == [1, 2, 3, 4, 5, 6, 7, 8, 9]
    image = api.client.get(ended["output"]["image"])
    assert image.content == result_file.read_bytes()
    assert image.headers["content-type"] == "image/png"


def test_a_warm_worker_skips_setting_up(api: Any) -> None:
    first = api.ended(api.run("test/kit", {"text": "a"}, setup={"name": "warm"})["id"])
    second = api.ended(api.run("test/kit", {"text": "b"}, setup={"name": "warm"})["id"])
    assert statuses(first) == ALL
    assert statuses(second) == WARM
    assert second["output"] == {"output_meta": None, "text": "b", "count": 2, "file": None}


def test_partial_outputs_logs_and_progress_arrive_while_the_app_runs(api: Any) -> None:
    task = api.run("test/kit", {"text": "x", "times": 4, "seconds": 0.25})
    frames = [(time.monotonic(), frame) for _, frame in api.frames(task["id"])]
    running = [(at, frame) for at, frame in frames if frame["status"] == 7 and frame["output"]]
    texts = [frame["output"]["text"] for _, frame in running]
    assert texts[:3] == ["x", "xx", "xxx"]
    assert running[2][0] - running[0][0] > 0.3
    assert [round(frame["progress"], 2) for _, frame in running][:3] == [0.25, 0.5, 0.75]
    lines = [line["content"] for _, frame in frames for line in frame["new_logs"] if line["log_type"] == 1]
    assert lines == [f"line {number} of x" for number in (1, 2, 3, 4)]
    for _, frame in frames:
        assert isinstance(frame["status"], int)
        assert frame["id"] == task["id"]
        assert frame["created_at"] == task["created_at"]
        assert frame["updated_at"]
    logs = api.client.get(f"/tasks/{task['id']}/logs").json()["data"]
    assert lines == [line["content"] for line in logs if line["log_type"] == 1]


def test_a_failing_app_fails_its_task_without_a_traceback_of_the_server(api: Any) -> None:
    frame = api.ended(api.run("test/kit", {"do": "fail", "text": "so"})["id"])
    assert frame["status"] == 10
    assert frame["status_name"] == "failed"
    assert "this went wrong: so" in frame["error"]
    assert "site-packages/mien" not in str(frame)


def test_a_lost_worker_is_tried_again_and_then_said(api: Any) -> None:
    frame = api.ended(api.run("test/kit", {"do": "exit"}, setup={"name": "exit"}, retries=1)["id"])
    assert (frame["status"], frame["error_code"], frame["attempt"]) == (10, "worker_lost", 2)


def test_a_queued_task_is_cancelled_at_once(api: Any) -> None:
    task = api.run("test/kit", {}, run_at=time.time() + 1000)
    answer = api.client.post(f"/tasks/{task['id']}/cancel").json()["data"]
    assert answer == {"id": task["id"], "status": 11, "cancelled": True}
    assert api.client.post(f"/tasks/{task['id']}/cancel").status_code == 200


@pytest.mark.parametrize(("given", "said"), [
    ({"times": 100, "seconds": 0.2, "text": "c"}, True),
    ({"do": "block", "seconds": 60}, False),
])  # fmt: skip
def test_cancel_frees_the_slot_of_a_running_task_in_time(api: Any, given: dict[str, Any], said: bool) -> None:
    took = []
    for _ in range(3):  # a busy machine may be late once; a broken promise is broken each time
        task = api.run("test/kit", given, setup={"name": f"cancel {said}"})
        api.until(task["id"], lambda task: task["status"] == 7)
        started = time.monotonic()
        api.client.post(f"/tasks/{task['id']}/cancel").raise_for_status()
        ended = api.ended(task["id"])
        took.append(time.monotonic() - started)
        assert ended["status"] == 11
        if said:
            assert "asked to stop" in [line["content"] for line in ended["logs"]]
        if took[-1] < 1 + 1 + 0.5:
            return
    pytest.fail(f"a grace period of 1 s, but the slots were free after {took} s")


def test_a_key_makes_one_task(api: Any) -> None:
    body = {"app": "test/kit", "input": {"text": "once"}, "idempotency_key": "k1"}
    first = api.client.post("/run", json=body)
    again = api.client.post("/run", json={**body, "idempotency_key": None}, headers={"Idempotency-Key": "k1"})
    assert again.json()["data"]["id"] == first.json()["data"]["id"]
    assert again.headers["Idempotent-Replayed"] == "true"
    other = api.client.post("/run", json={**body, "input": {"text": "twice"}})
    assert other.status_code == 409
    assert other.json()["error"]["code"] == "idempotency_conflict"


def test_a_stream_that_is_cut_after_every_event_loses_and_repeats_nothing(api: Any) -> None:
    task = api.run("test/kit", {"text": "y", "times": 6, "seconds": 0.03}, setup={"name": "cut"})
    events, logs, last = [], [], None
    for _ in range(200):
        headers = {} if last is None else {"Last-Event-ID": last}
        for known, frame in api.frames(task["id"], **headers):
            events += [event["id"] for event in frame["new_events"]]
            logs += [line["id"] for line in frame["new_logs"]]
            if known != last:
                last = known
                break
        if frame["status"] >= 9:
            break
    ended = api.task(task["id"])
    assert events == [event["id"] for event in ended["events"]]
    assert logs == list(range(1, ended["log_count"] + 1))


def test_a_stream_of_an_ended_task_is_its_terminal_snapshot(api: Any) -> None:
    task = api.run("test/kit", {"text": "z"})
    api.ended(task["id"])
    frames = list(api.frames(task["id"]))
    assert [frame["status"] for _, frame in frames] == [9]
    assert [frame["status"] for _, frame in api.frames(task["id"], **{"Last-Event-ID": frames[0][0]})] == [9]
    lines = api.client.get(f"/tasks/{task['id']}/stream", headers={"Accept": "application/x-ndjson"})
    assert lines.headers["content-type"].startswith("application/x-ndjson")
    assert [line["output"]["text"] for line in map(json.loads, lines.text.splitlines())] == ["z"]


def test_sessions_keep_their_state_until_they_end(api: Any) -> None:
    first = api.run("test/kit", {"text": "s"}, session="new", session_timeout=60)
    session = first["session_id"]
    assert api.ended(first["id"])["output"]["count"] == 1
    second = api.run("test/kit", {"text": "s"}, session=session)
    assert api.ended(second["id"])["output"]["count"] == 2
    assert api.client.get(f"/sessions/{session}").json()["data"]["status"] == "active"
    assert api.client.post(f"/sessions/{session}/keepalive").status_code == 200
    assert api.client.delete(f"/sessions/{session}").json()["data"]["status"] == "ended"
    refused = api.client.post("/run", json={"app": "test/kit", "session": session})
    assert (refused.status_code, refused.json()["error"]["code"]) == (410, "SESSION_ENDED")
    unknown = api.client.post("/run", json={"app": "test/kit", "session": "sess_none"})
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "SESSION_NOT_FOUND")


def test_tasks_are_listed_in_pages_and_deleted(api: Any) -> None:
    ids = [api.run("test/kit", {}, run_at=time.time() + 1000, function="run")["id"] for _ in range(5)]
    found, cursor = [], ""
    while True:
        page = api.client.get("/tasks", params={"limit": 2, "status": "queued", "cursor": cursor}).json()["data"]
        found += [task["id"] for task in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert found == ids[::-1]
    by_body = api.client.post("/tasks/list", json={"status": [2], "limit": 3}).json()["data"]["items"]
    assert [task["id"] for task in by_body] == ids[:1:-1]
    assert api.client.delete(f"/tasks/{ids[0]}").status_code == 409
    for task_id in ids:
        api.client.post(f"/tasks/{task_id}/cancel")
        assert api.client.delete(f"/tasks/{task_id}").status_code == 200
        assert api.client.get(f"/tasks/{task_id}").status_code == 404


@pytest.mark.parametrize(("body", "status", "word"), [
    ({}, 422, "app"),
    ({"app": 5}, 422, "app"),
    ({"app": "no/such"}, 404, "no/such"),
    ({"app": "your-app"}, 404, "local/your-app"),
    ({"app": "Not A Name"}, 400, "Not A Name"),
    ({"app": "test/kit", "variant": "huge"}, 400, "huge"),
    ({"app": "test/kit:nothing"}, 400, "nothing"),
    ({"app": "test/kit@0000000"}, 404, "0000000"),
    ({"app": "test/kit", "input": {"times": "many"}}, 422, "input.times"),
    ({"app": "test/kit", "input": []}, 422, "input"),
    ({"app": "test/kit", "setup": {"slow": "x"}}, 422, "setup.slow"),
    ({"app": "test/kit", "webhook": "ftp://a.example"}, 422, "webhook"),
    ({"app": "test/kit", "infra": "moon"}, 422, "infra"),
    ({"app": "test/kit", "run_at": "tomorrow"}, 422, "run_at"),
    ({"app": "test/kit", "priority": 1e9}, 422, "priority"),
    ({"app": "test/kit", "timeout": -1}, 422, "timeout"),
    ({"app": "mien/faces", "input": {}}, 422, "input.image"),
])  # fmt: skip
def test_bad_submissions_are_refused_before_a_task_exists(
    api: Any, body: dict[str, Any], status: int, word: str
) -> None:
    answer = api.client.post("/run", json=body)
    assert answer.status_code == status, answer.text
    error = answer.json()
    assert word in error["error"]["message"]
    assert error["status"] == status
    assert error["success"] is False
    assert error["detail"] == error["message"]
    assert error["type"].endswith("/errors/" + error["error"]["code"])


@pytest.mark.parametrize("content", [b"{", b"[1]", b'"x"', b"\xff", b"null", b"[" * 2000 + b"]" * 2000, b'{"a":' * 300])
def test_broken_bodies_are_errors_of_the_caller(api: Any, content: bytes) -> None:
    assert api.client.post("/run", content=content).status_code in (400, 422)


def test_dialects_differ_in_numbers_and_envelopes(api: Any) -> None:
    task = api.run("test/kit", {"text": "d"})
    api.ended(task["id"])
    path = f"/tasks/{task['id']}"
    assert api.client.get(path).json()["data"]["status"] == 9
    assert api.client.get(f"/compat/latest{path}").json()["data"]["status"] == 10
    new = {"User-Agent": "inference-sdk-py/0.7.9", "X-API-Version": "2"}
    assert api.client.get(path, headers=new).json()["status"] == 10
    assert api.client.get("/tasks/none", headers=new).headers["content-type"] == "application/problem+json"
    assert api.client.get(f"/compat/0.5/{path}").json()["data"]["status"] == 9
    made = api.client.post(f"{api.url}//run", json={"app": "test/kit", "input": {}}, headers=new).json()
    assert api.client.get(f"/tasks/{made['id']}/status").json()["data"]["status_name"]
    assert [f["status"] for _, f in api.frames(made["id"])][-1] == 10


def test_a_built_in_app_finds_faces_in_an_uploaded_image(api: Any, photo: bytes) -> None:
    record = api.client.post("/files", files={"file": ("me.jpg", photo, "image/jpeg")}).json()["data"]
    ended = api.ended(api.run("mien/faces", {"image": record["uri"]})["id"])
    assert ended["status"] == 9, ended["error"]
    assert ended["output"]["count"] == 1
    missing = api.ended(api.run("mien/classify", {"image": record["uri"]})["id"])
    assert missing["status"] == 10
    assert "mien/classify" in missing["error"]


def test_an_app_with_a_service_name_answers_through_v1_infer(api: Any) -> None:
    api.deploy("served", SHOUTING, manifest="service: shouting\n")
    body = {"service": "shouting", "payload": base64.b64encode(b"hello").decode(), "payload_mime": "text/plain"}
    answer = api.client.post("/v1/infer?decode=1", json={**body, "metadata": {"times": "2"}})
    assert answer.status_code == 200, answer.text
    assert "HELLOHELLO" in answer.text
    stream = api.client.post(
        "/v1/infer?decode=1", json={**body, "service": "shouting_stream"}, headers={"Accept": "application/x-ndjson"}
    )
    assert "HELLO" in stream.text
    failed = api.client.post("/v1/infer", json={**body, "metadata": {"times": "-1"}})
    assert (failed.status_code, failed.json()["error"]["code"]) == (500, "app_failed")
    tasks = api.client.get("/tasks", params={"app": "test/served"}).json()["data"]["items"]
    assert [task["status_name"] for task in tasks] == ["failed", "completed", "completed"]


SHOUTING = """
from infsh import BaseApp, BaseAppInput, BaseAppOutput

class AppInput(BaseAppInput):
    text: str
    times: int = 1

class AppOutput(BaseAppOutput):
    text: str

class App(BaseApp):
    async def run(self, given: AppInput) -> AppOutput:
        if given.times < 0:
            raise ValueError("not so often")
        return AppOutput(text=given.text.upper() * given.times)
"""


def test_a_webhook_is_told_of_the_end(api: Any) -> None:
    received: list[tuple[dict[str, str], bytes]] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append((dict(self.headers), self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: Any) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Receiver) as receiver:
        receiver.timeout = 20
        url = f"http://127.0.0.1:{receiver.server_address[1]}/told"
        task = api.run("test/kit", {"text": "w"}, webhook=url)
        receiver.handle_request()
    headers, body = received[0]
    message = json.loads(body)
    assert message["type"] == "task.completed"
    assert message["data"]["id"] == task["id"]
    assert message["data"]["status"] == 9
    assert message["data"]["output"]["text"] == "w"
    assert headers["webhook-signature"].startswith("v1,")


@pytest.mark.full
def test_a_full_schedule_says_when_to_come_back_and_keeps_no_other_task_out(
    serve: Any, make_api: Any, light: dict[str, str]
) -> None:
    server = serve(task_queue=2, task_scheduled=2, **light)
    make_api(server.client).deploy("served", SHOUTING)
    body = {"app": "test/served", "input": {"text": "x"}, "run_at": time.time() + 1000}
    answers = [server.client.post("/run", json=body) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert 900 < int(answers[2].headers["Retry-After"]) <= 1000
    done = server.client.post("/run?wait=true", json=body | {"run_at": None}).json()["data"]
    assert done["status_name"] == "completed"
