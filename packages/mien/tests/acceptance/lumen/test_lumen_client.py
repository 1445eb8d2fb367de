"""`lumen_client` against a real server: whole results, streams, errors, and connections that end early."""

import asyncio
import io
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from lumen_client import (
    APIError,
    AsyncLumenClient,
    ConfigurationError,
    InferenceConnectionError,
    InferenceTimeout,
    LumenClient,
    ResponseInvalid,
    StreamFailed,
    UploadError,
)
from testing.waiting import eventually, eventually_async

DOCUMENT = Path(__file__).parents[5] / "docs" / "infer.md"
EVENT = (
    b'{"correlation_id":"c","is_final":%b,"meta":{},"result_b64":"e30=","seq":0,"total":0,"offset":0,'
    b'"result_mime":"application/json","result_schema":"s","error":%b}'
)
PART = EVENT % (b"false", b"null")
FAILURE = EVENT % (b"true", b'{"code":"node_failed","message":"the node is gone"}')


@pytest.fixture
def client(server: Any) -> Iterator[LumenClient]:
    with LumenClient(server.url, retries=0) as client:
        yield client


@contextmanager
def answering(*answers: bytes) -> Iterator[str]:
    """The address of a server that reads a request to its end, sends the next answer, and closes the connection."""
    listener = socket.create_server(("127.0.0.1", 0))
    left = list(answers)

    def serve() -> None:
        while left:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                read = b""
                while not read.endswith(b"\r\n\r\n" if read.startswith(b"GET") else b"--\r\n"):
                    read += connection.recv(65536)
                connection.sendall(left.pop(0))

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        if left:
            listener.shutdown(socket.SHUT_RDWR)  # ends its wait for a connection
        listener.close()
        thread.join(10)


def http(body: bytes, kind: str = "text/event-stream", status: str = "200 OK", more: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nConnection: close\r\n{more}\r\n".encode() + body


# --- whole results


def test_a_result_has_what_the_server_sent(client: LumenClient, photo: bytes) -> None:
    result = client.infer("face_detection", photo, meta={"max_faces": 5}, correlation_id="mine-1")
    assert result.value["count"] == len(result.value["faces"]) == 1
    assert (result.mime, result.schema) == ("application/json;schema=face_v1", "face_v1")
    assert result.meta["face_count"] == "1"
    assert (result.correlation_id, result.is_final) == ("mine-1", True)


async def test_asyncio_gives_the_same(server: Any, photo: bytes) -> None:
    async with AsyncLumenClient(server.url) as client:
        first, second = await asyncio.gather(*(client.infer("face_detection", photo) for _ in range(2)))
    assert first.value["faces"] == second.value["faces"]


def test_payloads_of_every_kind(client: LumenClient, photo: bytes, here: Path) -> None:
    with (here / "image.jpg").open("rb") as opened:
        payloads = [photo, bytearray(photo), memoryview(photo), here / "image.jpg", opened, io.BytesIO(photo)]
        counts = [one["count"] for one in client.infer("face_detection", payloads).value]
    assert counts == [1] * len(payloads)


def test_a_string_is_a_text(client: LumenClient) -> None:
    for text in ("a cat", "GIF89a is what such images begin with", "ü" * 1000):
        result = client.infer("embedding", text)
        assert len(result.value["vector"]) == result.value["dim"]


def test_a_large_file(client: LumenClient, tmp_path: Path) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (1000, 1100, 3), dtype=np.uint8)
    path = tmp_path / "noise.png"
    path.write_bytes(cv2.imencode(".png", noise)[1].tobytes())
    assert path.stat().st_size > 3_000_000
    assert "faces" in client.infer("face_detection", path).value


def test_task_and_mime_are_sent(client: LumenClient, photo: bytes) -> None:
    assert client.infer("classification", photo, mime="image/jpeg", meta={"top_k": 2}).value["labels"][1:]
    with pytest.raises(APIError) as caught:
        client.infer("embedding", "a cat", task="nothing")
    assert (caught.value.status_code, caught.value.code) == (404, "not_found")
    with pytest.raises(APIError) as caught:
        client.infer("embedding", "a cat", mime="audio/wav")
    assert caught.value.status_code == 422


# --- streams


def test_a_stream_ends_with_the_whole_result(client: LumenClient, photo: bytes, collage: bytes) -> None:
    with client.stream("face_detection", [photo, collage], correlation_id="s") as results:
        found = list(results)
    assert [one.is_final for one in found] == [False, False, True]
    assert [one["count"] for one in found[-1].value] == [1, 6]
    assert {one.correlation_id for one in found} == {"s"}
    assert list(results) == []


async def test_a_stream_with_asyncio(server: Any, photo: bytes, collage: bytes) -> None:
    async with AsyncLumenClient(server.url) as client, client.stream("face_detection", [photo, collage]) as results:
        assert [one.is_final async for one in results] == [False, False, True]


def test_a_stream_that_cannot_start_is_refused(client: LumenClient) -> None:
    with pytest.raises(APIError) as caught, client.stream("nothing", b"x") as results:
        next(results)
    assert (caught.value.status_code, caught.value.code) == (404, "not_found")


@pytest.mark.parametrize("framing", [b"id: 0\nevent: message\ndata: %b\n\n", b"%b\n\n"], ids=["events", "original"])
def test_a_stream_that_fails_midway_raises_its_error(framing: bytes) -> None:
    with answering(http(framing % PART + framing % FAILURE)) as url, LumenClient(url) as client:
        results = client.stream("any", b"x")
        assert next(results).value == {}
        with pytest.raises(StreamFailed, match=r"^the node is gone \(node_failed\)$") as caught:
            next(results)
        assert (caught.value.code, caught.value.status_code) == ("node_failed", 200)
        assert list(results) == []


def test_a_server_that_hangs_up_midway_is_an_error() -> None:
    with answering(http(PART + b"\n\n")) as url, LumenClient(url) as client:
        results = client.stream("any", b"x")
        assert next(results).correlation_id == "c"
        with pytest.raises(InferenceConnectionError, match="before its final event"):
            next(results)


# --- the caller ends early


def test_leaving_a_stream_cancels_the_work(client: LumenClient, collage: bytes) -> None:
    before = client.metrics()["failed_requests"]
    with client.stream("face_recognition", [collage] * 24) as results:
        assert not next(results).is_final
    eventually(lambda: client.metrics()["failed_requests"] > before)
    assert list(results) == []


async def test_cancelling_a_call_cancels_the_work(server: Any, collage: bytes) -> None:
    async with AsyncLumenClient(server.url) as client:
        before = await client.metrics()
        call = asyncio.create_task(client.infer("face_recognition", [collage] * 24))
        await eventually_async(lambda: asyncio.to_thread(server.metric, "mien_queued_images"))
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

        async def failed() -> bool:
            return bool((await client.metrics())["failed_requests"] > before["failed_requests"])

        await eventually_async(failed)


def test_a_deadline_is_the_servers(client: LumenClient, collage: bytes) -> None:
    with pytest.raises(APIError) as caught:
        client.infer("face_recognition", [collage] * 24, deadline=0.005)
    assert (caught.value.status_code, caught.value.code) == (504, "deadline_exceeded")


# --- errors


def test_a_busy_server_is_asked_again_after_the_time_it_says() -> None:
    body = b'{"success":false,"message":"busy","error":{"code":"overloaded","message":"busy"}}'
    busy = http(body, "application/json", "429 Too Many Requests", "Retry-After: 0\r\n")
    later = http(body, "application/json", "429 Too Many Requests", "Retry-After: 3000\r\n")
    for start in (LumenClient.infer, lambda client, *asked: next(client.stream(*asked))):
        final = EVENT % (b"true", b"null")
        good = http(b'{"success":true,"data":' + final.replace(b"result_b64", b"result") + b"}", "application/json")
        good = good if start is LumenClient.infer else http(final + b"\n\n")
        with answering(busy, good) as url, LumenClient(url) as client:
            assert start(client, "any", b"x").value == {}
        with answering(later) as url, LumenClient(url) as client, pytest.raises(APIError) as caught:
            start(client, "any", b"x")
        assert (caught.value.code, caught.value.retry_after) == ("overloaded", 3000)


@pytest.mark.parametrize(("data", "words"), [
    (b"[]", "must be a map"), (b"{}", "it has no 'is_final'"), (b'{"is_final":true,"result":"?"}', "not a result"),
    (b'{"is_final":true,"meta":[1]}', "not a result"),
])  # fmt: skip
def test_what_is_no_result_is_an_error(data: bytes, words: str) -> None:
    response = http(b'{"success":true,"data":' + data + b"}", "application/json")
    expected = pytest.raises((ResponseInvalid, APIError), match=words)
    with answering(response) as url, LumenClient(url) as client, expected:
        client.infer("any", b"x")


def test_a_server_that_is_not_there() -> None:
    with LumenClient("http://127.0.0.1:1", retries=0) as client:
        for ask in (client.health, client.nodes, lambda: client.infer("x", b""), lambda: next(client.stream("x", b""))):
            with pytest.raises(InferenceConnectionError, match="cannot connect"):
                ask()


def test_a_server_that_says_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with LumenClient(url, timeout=0.1, retries=0) as client, pytest.raises(InferenceTimeout):
            client.infer("any", b"x")


@pytest.mark.parametrize(("wrong", "error", "words"), [
    (lambda client: client.infer("", b""), ValueError, "service is empty"),
    (lambda client: client.infer("x", 5), TypeError, "a int is no payload"),
    (lambda client: client.infer("x", Path("/nowhere/x.jpg")), UploadError, "x.jpg: cannot be read: No such file"),
    (lambda client: client.infer("x", b"", meta={"a": [1]}), TypeError, r"meta\['a'\] is a list"),
    (lambda client: client.infer("x", b"", deadline=0), ConfigurationError, "deadline is 0"),
    (lambda client: client.infer("x", b"", deadline=float("inf")), ConfigurationError, "deadline is infinite"),
    (lambda client: client.capabilities(".."), ValueError, "is not an id"),
])  # fmt: skip
def test_wrong_arguments_are_named(wrong: Callable[[LumenClient], Any], error: type[Exception], words: str) -> None:
    with LumenClient("http://127.0.0.1:1") as client, pytest.raises(error, match=words):
        wrong(client)


def test_wrong_settings_are_named() -> None:
    for settings, words in (
        ({"url": "here"}, "url is 'here'"),
        ({"api_key": "ü"}, "api_key"),
        ({"timeout": 0}, "timeout is 0"),
    ):
        with pytest.raises(ConfigurationError, match=words):
            LumenClient(**settings)


def test_a_key_is_sent_and_never_shown(keyed: Any, photo: bytes) -> None:
    with LumenClient(keyed.server.url, keyed.infer, retries=0) as client:
        assert client.infer("face_detection", photo).value["count"] == 1
        assert keyed.infer not in repr(client)
    with LumenClient(keyed.server.url) as stranger:
        assert stranger.health()["status"] == "healthy"
        with pytest.raises(APIError) as caught:
            stranger.nodes()
    assert caught.value.status_code == 401


# --- about the server


def test_capabilities_and_health(client: LumenClient) -> None:
    assert {"embedding", "face_detection"} <= {one["service_name"] for one in client.capabilities()}
    assert client.health()["status"] == "healthy"
    assert client.nodes()[0]["id"] == "local"
    with pytest.raises(APIError):
        client.capabilities("nobody")


def test_a_starting_server_is_not_an_error() -> None:
    body = b'{"success":false,"data":{"service":"Lumen REST API","status":"starting"},"timestamp":"x"}'
    starting = http(body, "application/json", "503 Service Unavailable", "Retry-After: 2\r\n")
    with answering(starting) as url, LumenClient(url) as client:
        assert client.health()["status"] == "starting"


def test_the_documented_sample(server: Any, here: Path) -> None:
    (sample,) = re.findall(r"^```python\n(.*?)^```", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL)
    command = [sys.executable, "-W", "error", "-c", sample.replace("localhost:8080", f"localhost:{server.port}")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=80, cwd=here, check=False)
    assert done.returncode == 0, done.stderr
    first, *parts, last = done.stdout.splitlines()
    assert first.startswith("face_v1 1 {")
    assert parts == ["part 0", "part 1", "whole"]
    assert last == "404 not_found None"
