"""Streams: framings, flushing, the one final event, disconnects and deadlines."""

import base64
import json
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from mien.http.lumen import response

SIX = ["correlation_id", "is_final", "meta", "result_b64", "seq", "total"]
FURTHER = ["offset", "result_mime", "result_schema", "error"]


def legacy(text: str) -> list[dict[str, Any]]:
    """As the documented readers do it: split at blank lines, parse each part."""
    parts = text.split("\n\n")
    assert parts.pop() == ""
    return [json.loads(part) for part in parts]


def sse(text: str) -> Iterator[tuple[dict[str, str], dict[str, Any]]]:
    """As the WHATWG's specification reads it."""
    for block in text.split("\n\n")[:-1]:
        if block.startswith(":"):
            continue
        fields = dict(line.split(": ", 1) for line in block.split("\n"))
        yield fields, json.loads(fields["data"])


def asked(**metadata: str) -> dict[str, Any]:
    return {"service": "stepper_stream", "correlation_id": "s-1", "metadata": {"ms": "1", **metadata}}


def test_default_framing(api: Any) -> None:
    response = api.client.post("/v1/infer", json=asked())
    assert response.headers["content-type"] == "text/event-stream"
    assert response.headers["cache-control"] == "no-cache"
    assert response.headers["x-accel-buffering"] == "no"
    assert response.headers["x-correlation-id"] == "s-1"
    assert response.headers["transfer-encoding"] == "chunked"
    events = legacy(response.text)
    assert [list(event) for event in events] == [SIX + FURTHER] * 4
    assert [event["seq"] for event in events] == [0, 1, 2, 3]
    assert [event["is_final"] for event in events] == [False, False, False, True]
    assert [base64.b64decode(event["result_b64"]) for event in events] == [b"0", b"1", b"2", b"done"]
    assert response.text.startswith('{"correlation_id":"s-1","is_final":false,"meta":{')


@pytest.mark.parametrize("accept", ["*/*", "application/json", "text/html", "application/octet-stream"])
def test_framing_is_the_default_for_everything_else(api: Any, accept: str) -> None:
    response = api.client.post("/v1/infer", json=asked(), headers={"Accept": accept})
    assert len(legacy(response.text)) == 4


def test_server_sent_events(api: Any) -> None:
    response = api.client.post("/v1/infer", json=asked(), headers={"Accept": "text/event-stream"})
    assert response.headers["content-type"].startswith("text/event-stream")
    found = list(sse(response.text))
    assert [fields["id"] for fields, _ in found] == ["0", "1", "2", "3"]
    assert {fields["event"] for fields, _ in found} == {"message"}
    assert [event["is_final"] for _, event in found] == [False, False, False, True]


def test_json_lines(api: Any) -> None:
    response = api.client.post("/v1/infer", json=asked(), headers={"Accept": "application/x-ndjson"})
    assert response.headers["content-type"] == "application/x-ndjson"
    assert [json.loads(line)["seq"] for line in response.text.splitlines()] == [0, 1, 2, 3]


def test_the_first_framing_that_is_accepted_counts(api: Any) -> None:
    headers = {"Accept": "text/event-stream;q=0.5, application/x-ndjson"}
    response = api.client.post("/v1/infer", json=asked(), headers=headers)
    assert response.headers["content-type"] == "application/x-ndjson"


def test_decoded_results_in_events(api: Any) -> None:
    response = api.client.post("/v1/infer?decode=1", json={"service": "echo_stream"})
    (event,) = legacy(response.text)
    assert event["result_json"] == json.loads(base64.b64decode(event["result_b64"]))


def test_pieces_keep_their_numbers(api: Any) -> None:
    pieces = [["ab", 0, 2, 0, False], ["cd", 1, 2, 2, True]]
    response = api.infer(service="pieces_stream", metadata={"pieces": json.dumps(pieces)})
    assert [(e["seq"], e["total"], e["offset"]) for e in legacy(response.text)] == [(0, 2, 0), (1, 2, 2)]


def test_heartbeats_where_the_framing_has_room(api: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(response, "HEARTBEAT_SECONDS", 0.05)
    slow = asked(steps="1", ms="300")
    real = api.client.post("/v1/infer", json=slow, headers={"Accept": "text/event-stream"})
    assert real.text.count(": waiting\n\n") >= 3
    assert len(list(sse(real.text))) == 2
    assert len(legacy(api.client.post("/v1/infer", json=slow).text)) == 2


@pytest.mark.parametrize(
    ("error", "code"), [("ImageError", "image_invalid"), ("bug", "internal"), ("none", "internal")]
)
@pytest.mark.parametrize("accept", ["*/*", "text/event-stream", "application/x-ndjson"])
def test_error_after_the_head_is_the_final_event(api: Any, error: str, code: str, accept: str) -> None:
    body = {"service": "failing_stream", "metadata": {"after": "2", "error": error}}
    response = api.client.post("/v1/infer", json=body, headers={"Accept": accept})
    assert response.status_code == 200
    if accept == "text/event-stream":
        found = list(sse(response.text))
        assert found[-1][0]["event"] == "failure"
        events = [event for _, event in found]
    elif accept == "application/x-ndjson":
        events = [json.loads(line) for line in response.text.splitlines()]
    else:
        events = legacy(response.text)
    assert [event["is_final"] for event in events] == [False, False, True]
    assert events[-1]["error"]["code"] == code
    assert (events[-1]["result_b64"], events[-1]["seq"]) == ("", 2)
    assert "secret" not in response.text
    assert all(event["error"] is None for event in events[:-1])


def test_each_event_is_flushed_at_once(api: Any) -> None:
    with api.client.stream("POST", "/v1/infer", json=asked(steps="5", ms="100")) as response:
        arrivals = [(time.monotonic(), json.loads(chunk)) for chunk in response.iter_bytes() if chunk.strip()]
    assert len(arrivals) == 6
    delays = [at - float(event["meta"]["sent"]) for at, event in arrivals[:-1]]
    assert max(delays) < 0.08  # well under the 100 ms between two messages


# --- clients that go away


def half_request(api: Any, body: dict[str, Any]) -> socket.socket:
    """A request on a socket of its own, whose answer is not read."""
    data = json.dumps(body).encode()
    head = (
        f"POST /v1/infer HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {len(data)}"
    )
    raw = socket.create_connection(("127.0.0.1", api.port))
    raw.sendall(head.encode() + b"\r\n\r\n" + data)
    return raw


@pytest.mark.parametrize("accept", ["*/*", "text/event-stream"])
def test_disconnect_amid_a_stream_ends_the_service(api: Any, accept: str) -> None:
    service = api.services["stepper"]
    service.finished = False
    headers = {"Accept": accept}
    with api.client.stream("POST", "/v1/infer", json=asked(steps="200", ms="50"), headers=headers) as response:
        chunks = response.iter_bytes()  # an iterator that nobody keeps closes the connection
        next(chunks)
    left = time.monotonic()
    assert service.ended.wait(5)  # it would take 10
    assert service.ended_at - left < 5
    assert not service.finished


def test_disconnect_ends_a_service_that_waits_for_long(api: Any) -> None:
    service = api.services["stepper"]
    with api.client.stream("POST", "/v1/infer", json=asked(steps="2", ms="60000")) as response:
        chunks = response.iter_bytes()  # an iterator that nobody keeps closes the connection
        next(chunks)
    assert service.ended.wait(5)


def test_disconnect_from_a_sync_request_ends_the_service(api: Any) -> None:
    service, before = api.services["stepper"], len(api.services["stepper"].seen)
    raw = half_request(api, {"service": "stepper", "metadata": {"steps": "2", "ms": "60000"}})
    while len(service.seen) == before:
        time.sleep(0.01)
    raw.close()
    assert service.ended.wait(5)


def test_disconnect_gives_back_the_room(api: Any) -> None:
    body = {"service": "stepper_stream", "payload": "A" * 100_000, "metadata": {"steps": "2", "ms": "60000"}}
    with api.client.stream("POST", "/v1/infer", json=body) as response:
        chunks = response.iter_bytes()  # an iterator that nobody keeps closes the connection
        next(chunks)
        assert api.app.state.context.bodies.admission.bytes >= 100_000
    deadline = time.monotonic() + 10
    while api.app.state.context.bodies.admission.bytes and time.monotonic() < deadline:
        time.sleep(0.01)
    assert api.app.state.context.bodies.admission.bytes == 0


def test_a_client_that_takes_nothing_is_given_up(start: Callable[..., Any], caplog: pytest.LogCaptureFixture) -> None:
    api = start(stalled_seconds=0.2)
    service = api.services["pieces"]
    pieces = json.dumps([["x" * 60_000, 0, 0, 0, False]] * 800 + [["", 0, 0, 0, True]])
    raw = half_request(api, {"service": "pieces_stream", "metadata": {"pieces": pieces}})
    raw.recv(10)
    assert service.ended.wait(10)
    assert not service.finished
    assert "Traceback" not in caplog.text
    raw.close()


# --- deadlines


@pytest.mark.parametrize("suffix", ["", "_stream"])
@pytest.mark.parametrize("where", ["metadata", "header"])
def test_deadline_before_the_first_message(api: Any, suffix: str, where: str) -> None:
    steps = {"steps": "1" if not suffix else "0", "ms": "1"}
    body = {"service": f"stepper{suffix}", "metadata": steps | {"steps": "3", "ms": "60000"}}
    headers = {"X-Timeout-Ms": "100"} if where == "header" else {}
    if where == "metadata":
        body["metadata"]["timeout_ms"] = "100"
    started = time.monotonic()
    response = api.client.post("/v1/infer", json=body, headers=headers)
    assert time.monotonic() - started < 10
    error = legacy(response.text)[-1]["error"] if suffix else response.json()["error"]
    assert error == {"code": "deadline_exceeded", "message": "the request did not finish within 0.1 s"}
    assert response.status_code == (200 if suffix else 504)


def test_the_shorter_deadline_counts_and_the_service_does_not_see_it(api: Any) -> None:
    body = {"service": "echo", "metadata": {"timeout_ms": "5000", "k": "v"}}
    response = api.client.post("/v1/infer?decode=1", json=body, headers={"X-Timeout-Ms": "700"})
    heard = response.json()["data"]["result_json"]
    assert (heard["seconds"], heard["metadata"]) == (0.7, {"k": "v"})
    long = api.client.post("/v1/infer?decode=1", json={"service": "echo"}, headers={"X-Timeout-Ms": "999999999"})
    assert long.json()["data"]["result_json"]["seconds"] == 120.0


# --- overload


@pytest.mark.parametrize("suffix", ["", "_stream"])
def test_overload_says_when_to_come_back(api: Any, suffix: str) -> None:
    body = {"service": f"failing{suffix}", "metadata": {"error": "Overloaded", "retry_after": "2.5"}}
    response = api.client.post("/v1/infer", json=body)
    assert (response.status_code, response.headers["retry-after"]) == (429, "3")


def test_streams_are_counted(api: Any) -> None:
    def counts() -> dict[str, Any]:
        data: dict[str, Any] = api.client.get("/v1/metrics").json()["data"]
        return data

    before = counts()
    api.client.post("/v1/infer", json=asked())
    api.infer(service="echo")
    api.infer(service="nope")
    api.infer(service="failing_stream", metadata={"after": "1", "error": "ImageError"})
    after = counts()
    assert after["total_requests"] - before["total_requests"] == 4
    assert after["failed_requests"] - before["failed_requests"] == 2
    assert after["average_latency"] > 0


def test_http_1_0_reader(api: Any) -> None:
    """No chunks there: the end of the connection ends the stream."""
    data = json.dumps(asked()).encode()
    with socket.create_connection(("127.0.0.1", api.port)) as raw:
        head = f"POST /v1/infer HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
        raw.sendall(head.encode() + data)
        raw.settimeout(5)
        answer = b""
        while chunk := raw.recv(65536):
            answer += chunk
    assert answer.count(b'"correlation_id":"s-1"') == 4
