"""What happens when clients hang up, are slow or ask too much, and when the server is told to stop."""

import base64
import contextlib
import json
import signal
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest

from testing.raw_http import answer_of, raw_connection
from testing.waiting import eventually

Serve = Callable[..., Any]
BARE = {"age_model": "none", "gender_model": "none", "mask_model": "none"}


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def body_of(photo: bytes, count: int, **parameters: Any) -> bytes:
    return json.dumps({"images": {"data": [b64(photo)] * count}, **parameters}).encode()


# --- clients


def test_a_client_that_hangs_up_cancels_its_work(serve: Serve, photo: bytes) -> None:
    server = serve(threads=1, **BARE)
    body = body_of(photo, 200)
    done_before = server.metric("mien_images_total")
    with raw_connection(server) as connection:
        connection.sendall(
            b"POST /extract HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
        )
        eventually(lambda: server.metric("mien_images_total") > done_before)
    eventually(lambda: server.metric("mien_queued_images") == 0, seconds=3)
    assert server.metric("mien_images_total") - done_before < 200
    assert server.metric("mien_requests_total", route="/extract", status="499") == 1
    assert server.metric("mien_errors_total", code="cancelled") == 1
    assert "unexpected error" not in server.log
    assert server.client.post("/extract", json={"images": {"data": [b64(photo)]}}).status_code == 200


def test_a_client_that_hangs_up_while_sending_is_no_error(serve: Serve) -> None:
    server = serve(**BARE)
    with raw_connection(server) as connection:
        connection.sendall(
            b"POST /extract HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: 9999\r\n\r\n{"
        )
        time.sleep(0.2)
    eventually(lambda: server.metric("mien_requests_total", route="/extract", status="499") == 1)
    assert "unexpected error" not in server.log


def test_a_request_past_its_deadline_is_a_504_and_its_work_stops(serve: Serve, photo: bytes) -> None:
    server = serve(threads=1, request_timeout=0.3, **BARE)
    started = time.monotonic()
    response = server.client.post("/extract", content=body_of(photo, 200), headers={"Content-Type": "application/json"})
    assert (response.status_code, response.json()["error"]["code"]) == (504, "deadline_exceeded"), response.text
    assert time.monotonic() - started < 3
    eventually(lambda: server.metric("mien_queued_images") == 0, seconds=3)
    assert server.metric("mien_images_total") < 200


def test_a_slow_url_does_not_outlive_the_deadline(serve: Serve) -> None:
    server = serve(request_timeout=0.5, fetch_private=True, fetch_timeout=20, **BARE)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/x.jpg"
        started = time.monotonic()
        response = server.client.post("/extract", json={"images": {"urls": [url]}})
    assert response.status_code == 504, response.text
    assert time.monotonic() - started < 3


def test_a_client_that_hangs_up_stops_its_fetches(serve: Serve) -> None:
    server = serve(fetch_private=True, fetch_timeout=20, **BARE)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/x.jpg"
        with pytest.raises(httpx2.ReadTimeout):
            server.client.post("/extract", json={"images": {"urls": [url]}}, timeout=0.5)
        eventually(lambda: server.metric("mien_queued_images") == 0, seconds=3)


@pytest.mark.parametrize(
    ("route", "content_type"),
    [("/extract", b"application/json"), ("/multipart/extract", b"multipart/form-data; boundary=x")],
)
def test_a_chunked_body_is_counted_while_it_comes(serve: Serve, route: str, content_type: bytes) -> None:
    server = serve(max_body_bytes=2_000_000, **BARE)
    before = server.rss_mb()
    sent = 0
    start = (
        b'--x\r\nContent-Disposition: form-data; name="f"; filename="f"\r\n\r\n' if b"multi" in content_type else b""
    )
    with raw_connection(server) as connection:
        connection.sendall(
            b"POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: %s\r\nTransfer-Encoding: chunked\r\n\r\n"
            % (route.encode(), content_type)
        )
        chunk = start + b" " * (65536 - len(start))
        try:
            while sent < 200_000_000:
                connection.sendall(b"10000\r\n%s\r\n" % chunk)
                sent += 65536
                chunk = b" " * 65536
        except OSError:
            pass
        status, body = answer_of(connection)
    assert (status, json.loads(body)["error"]["code"]) == (413, "body_too_large")
    assert sent < 50_000_000
    assert server.rss_mb() - before < 60


@pytest.mark.parametrize(
    ("route", "content_type"),
    [("/extract", b"application/json"), ("/multipart/extract", b"multipart/form-data; boundary=x")],
)
def test_a_body_that_does_not_come_is_a_408(serve: Serve, route: str, content_type: bytes) -> None:
    server = serve(request_timeout=0.5, **BARE)
    with raw_connection(server) as connection:
        connection.sendall(
            b"POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: %s\r\nContent-Length: 500\r\n\r\n--x\r\n"
            % (route.encode(), content_type)
        )
        started = time.monotonic()
        status, body = answer_of(connection)
    assert (status, json.loads(body)["error"]["code"]) == (408, "body_too_slow")
    assert time.monotonic() - started < 3


def test_a_full_queue_is_429_with_retry_after_and_passes(serve: Serve, photo: bytes) -> None:
    server = serve(threads=1, queue_images=20, **BARE)
    body, kind = body_of(photo, 10), {"Content-Type": "application/json"}
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: server.client.post("/extract", content=body, headers=kind), range(32)))
    statuses = {answer.status_code for answer in answers}
    assert statuses == {200, 429}
    for answer in answers:
        if answer.status_code == 429:
            assert int(answer.headers["retry-after"]) >= 1
            assert answer.json()["error"]["code"] == "overloaded"
    assert server.client.post("/extract", content=body, headers=kind).status_code == 200


def test_many_bytes_at_once_are_429_too(serve: Serve, photo: bytes) -> None:
    body = body_of(photo, 16)
    server = serve(threads=1, queue_bytes=len(body) + 1000, **BARE)
    with ThreadPoolExecutor(8) as pool:
        answers = list(
            pool.map(
                lambda _: server.client.post("/extract", content=body, headers={"Content-Type": "application/json"}),
                range(16),
            )
        )
    assert {answer.status_code for answer in answers} == {200, 429}


# --- the process


def test_sigterm_finishes_what_runs_and_exits_with_0(serve: Serve, photo: bytes) -> None:
    server = serve(threads=1, **BARE)
    answers: list[httpx2.Response] = []
    body = body_of(photo, 60, extract_embedding=True)
    before = server.metric("mien_images_total")
    request = threading.Thread(
        target=lambda: answers.append(
            httpx2.post(f"{server.url}/extract", content=body, headers={"Content-Type": "application/json"}, timeout=60)
        )
    )
    request.start()
    eventually(lambda: server.metric("mien_images_total") > before)
    started = time.monotonic()
    status = server.stop()
    request.join()
    assert answers[0].status_code == 200
    assert all(image["status"] == "success" for image in answers[0].json()["data"])
    assert status == 0
    assert time.monotonic() - started < 10
    assert "Traceback" not in server.log


@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_server_stops_at_once(serve: Serve, kind: signal.Signals) -> None:
    server = serve(**BARE)
    server.client.close()
    started = time.monotonic()
    assert server.stop(kind) == 0
    assert time.monotonic() - started < 8  # and not MIEN_DRAIN_SECONDS
    assert "Traceback" not in server.log


def test_sigterm_while_the_models_load_stops_too(serve: Serve) -> None:
    server = serve(ready=False)

    def listening() -> bool:
        return "listening" in server.log

    eventually(listening, seconds=60)
    assert server.stop(seconds=20) == 0


def test_what_outlasts_the_drain_is_cut_off(serve: Serve) -> None:
    server = serve(fetch_private=True, fetch_timeout=100, drain_seconds=1, **BARE)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/x.jpg"

        def ask() -> None:
            with contextlib.suppress(httpx2.TransportError):
                httpx2.post(f"{server.url}/extract", json={"images": {"urls": [url]}}, timeout=30)

        request = threading.Thread(target=ask)
        request.start()
        eventually(lambda: server.metric("mien_queued_images") == 1)
        started = time.monotonic()
        status = server.stop()
        request.join()
    assert status == 0
    assert time.monotonic() - started < 15


def test_kill_9_leaves_nothing_broken(serve: Serve, photo: bytes, tmp_path: Any) -> None:
    first = serve(**BARE)
    body, kind = body_of(photo, 60), {"Content-Type": "application/json"}

    def ask() -> None:
        with contextlib.suppress(httpx2.TransportError):
            httpx2.post(f"{first.url}/extract", content=body, headers=kind, timeout=30)

    request = threading.Thread(target=ask)
    request.start()
    eventually(lambda: first.metric("mien_queued_images") > 0)
    assert first.stop(signal.SIGKILL) == -signal.SIGKILL
    request.join()
    again = serve(**BARE)
    answer = again.client.post("/extract", json={"images": {"data": [b64(photo)]}}).json()
    assert len(answer["data"][0]["faces"]) == 1


def test_two_servers_run_side_by_side(serve: Serve, photo: bytes, tmp_path: Any) -> None:
    one = serve(ready=False, data_dir=tmp_path / "one", **BARE)
    two = serve(data_dir=tmp_path / "two", **BARE)
    one.until_ready()
    for server in (one, two):
        answer = server.client.post("/extract", json={"images": {"data": [b64(photo)]}}).json()
        assert len(answer["data"][0]["faces"]) == 1
