"""Requests that are too much are refused before any work is done."""

import base64
import json
from io import BytesIO
from typing import Any

import pytest
from PIL import Image

from testing.raw_http import answer_of, raw_connection


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
