"""Requests that are too much are refused before any work is done."""

import base64
import json
import subprocess
from contextlib import closing, suppress
from http.client import HTTPConnection
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from testing.raw_http import answer_of, raw_connection
from testing.tools import program


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


@pytest.mark.parametrize(
    "route", ["/extract", "/multipart/extract", "/compare", "/draw_detections", "/multipart/draw_detections"]
)
def test_an_announced_body_over_the_limit_is_refused_unread(server: Any, route: str) -> None:
    with raw_connection(server) as connection:
        connection.sendall(
            b"POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=x\r\n"
            b"Content-Length: 99999999999\r\n\r\n" % route.encode()
        )
        status, body = answer_of(connection)
    assert (status, json.loads(body)["error"]["code"]) == (413, "body_too_large")


LARGE = 100_000_000
JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize("framing", [{}, {"Transfer-Encoding": "chunked"}], ids=["length", "chunked"])
@pytest.mark.parametrize(
    ("method", "path", "headers", "statuses"),
    [
        ("POST", "/extract", {}, {401}),
        ("POST", "/extract", {"key": "infer", **JSON}, {413}),
        ("POST", "/extract", {"key": "infer", **JSON, "Content-Encoding": "br"}, {413, 415}),
        ("POST", "/apps", {"key": "infer"}, {403}),
        ("PUT", f"/files/{'0' * 26}/a", {}, {403}),
        ("POST", "/files", {}, {401}),
    ],
)
def test_a_client_that_reads_only_after_sending_sees_why_its_upload_was_refused(
    keyed: Any, method: str, path: str, headers: dict[str, str], statuses: set[int], framing: dict[str, str]
) -> None:
    named = {name: value for name, value in headers.items() if name != "key"}
    key = {"X-API-Key": keyed.infer} if "key" in headers else {}
    length = {} if framing else {"Content-Length": str(LARGE)}
    block = bytes(1_000_000)
    before = keyed.server.peak_mb()
    connection = HTTPConnection("127.0.0.1", keyed.server.port, timeout=30)
    with closing(connection):
        connection.putrequest(method, path)
        for name, value in {**named, **key, **length, **framing}.items():
            connection.putheader(name, value)
        with suppress(BrokenPipeError, ConnectionResetError):  # cut off: what was sent before that is the answer
            connection.endheaders((block for _ in range(LARGE // len(block))), encode_chunked=bool(framing))
        status = int(connection.sock.makefile("rb").readline().split()[1])
    assert status in statuses
    if statuses != {413} or not framing:  # there the body is read up to the limit
        assert keyed.server.peak_mb() - before < 30


def test_curl_sees_why_its_upload_was_refused(keyed: Any, tmp_path: Path) -> None:
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(LARGE)
    url = f"http://127.0.0.1:{keyed.server.port}/files/{'0' * 26}/a"
    command = [program("curl"), "-s", "-w", "\n%{http_code}", "-H", "Expect:", "-T", str(large), url]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    assert ended.stdout.endswith("403")
    assert "signature" in ended.stdout


@pytest.mark.parametrize("length", [b"-1", b"abc", b"1e3", "²".encode()])
def test_a_senseless_content_length_is_refused(server: Any, length: bytes) -> None:
    with raw_connection(server) as connection:
        connection.sendall(
            b"POST /extract HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: %s\r\n\r\n" % length
        )
        status, _ = answer_of(connection)
    assert status == 400


def test_too_many_images_are_refused_before_any_is_decoded(server: Any) -> None:
    before = server.metric("mien_images_total")
    for images in ({"data": ["QQ=="] * 257}, {"urls": ["x.jpg"] * 257}):
        response = server.client.post("/extract", json={"images": images})
        assert (response.status_code, response.json()["error"]["code"]) == (413, "body_too_large")
        assert "257 images in one request; this server takes at most 256" in response.json()["error"]["message"]
    assert server.metric("mien_images_total") == before


def test_too_many_uploads_are_refused(server: Any) -> None:
    response = server.client.post("/multipart/extract", files=[("f", b"x")] * 257)
    assert response.status_code in (400, 413)
    assert "256" in response.json()["error"]["message"]


def test_an_image_of_400_megapixels_is_refused_in_milliseconds(server: Any) -> None:
    out = BytesIO()
    Image.new("L", (20_000, 20_000)).save(out, "PNG", compress_level=9)
    bomb = {"images": {"data": [b64(out.getvalue())]}}
    before = server.peak_mb()
    answers = [server.client.post("/extract", json=bomb).json() for _ in range(3)]
    for answer in answers:
        assert answer["data"][0]["status"] == "error"
        assert "20000x20000, 400000000 pixels" in answer["data"][0]["error"]
    assert min(answer["took"]["total_ms"] for answer in answers) < 30
    assert server.peak_mb() - before < 30, "the image was decoded: it is 400 MB large"
