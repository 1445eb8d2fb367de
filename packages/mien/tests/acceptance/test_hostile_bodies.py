"""Bodies that are made to cost far more than their sender, to every API; larger ones are in `soak`."""

import gzip
import json
from typing import Any

import httpx2
import pytest

from testing.hostile_bodies import attacks

KiB = 1024


def test_every_hostile_body_is_answered_by_a_client_error_and_the_server_goes_on(client: httpx2.Client) -> None:
    """Those that are well formed may be answered with an error of an item."""
    for name, path, (kind, body, headers) in attacks(64 * KiB):
        response = client.post(path, content=body, headers={"Content-Type": kind, **headers})
        assert response.status_code < 500, (name, path, response.text[:300])
        assert response.is_success or len(response.content) < 16 * KiB, (name, path)
    assert client.get("/livez").status_code == 200


def test_a_megabyte_of_lists_takes_no_multiple_of_itself(server: Any) -> None:
    server.client.get("/livez")
    before = server.rss_mb()
    for name, path, (kind, body, headers) in attacks(KiB * KiB):
        if "lists" in name:
            server.client.post(path, content=body, headers={"Content-Type": kind, **headers})
    assert server.rss_mb() - before < 100  # it was 860 for one


@pytest.mark.parametrize("path", ["/extract", "/v1/infer?service=embedding", "/run", "/tasks/list", "/files"])
def test_every_api_reads_gzip_and_names_what_it_does_not_read(client: httpx2.Client, path: str) -> None:
    plain = client.post(path, content=b'{"x": 1}', headers={"Content-Type": "application/json"})
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    packed = client.post(path, content=gzip.compress(b'{"x": 1}'), headers=headers)
    assert packed.status_code == plain.status_code
    for encoding in ("br", "deflate", "zstd"):
        refused = client.post(path, content=b"x", headers={**headers, "Content-Encoding": encoding})
        assert refused.status_code == 415
        assert encoding in refused.json()["message"]
        assert refused.headers["accept-encoding"] == "gzip"


def test_json_answers_are_compressed_on_request(client: httpx2.Client) -> None:
    with client.stream("GET", "/openapi.json", headers={"Accept-Encoding": "gzip"}) as response:
        body = b"".join(response.iter_raw())
    assert response.headers["content-encoding"] == "gzip"
    assert "Accept-Encoding" in response.headers["vary"]
    assert json.loads(gzip.decompress(body)) == client.get("/openapi.json").json()


def test_json_is_read_as_curl_sends_it(client: httpx2.Client) -> None:
    content = b'\xef\xbb\xbf{"service": "embedding", "payload": "aGVsbG8=", "payload_mime": "text/plain"}'
    for kind in ({}, {"Content-Type": "application/x-www-form-urlencoded"}):
        assert client.post("/v1/infer", content=content, headers=kind).status_code == 200


@pytest.mark.parametrize("statuses", [[1] * 500_000, ["completed"] * 101, [[]], "1," * 400_000])
def test_filters_of_lists_are_bounded(client: httpx2.Client, statuses: Any) -> None:
    response = client.post("/tasks/list", json={"status": statuses})
    assert response.status_code in (413, 422), response.text[:300]


@pytest.mark.parametrize("field", ["app", "function", "session_id", "cursor"])
@pytest.mark.parametrize("value", ["x" * 100_000, ["x"], {"x": 1}, 1.5, [[[[]]]]])
def test_filters_of_any_value_are_answered(client: httpx2.Client, field: str, value: Any) -> None:
    assert client.post("/tasks/list", json={field: value}).status_code in (400, 422)
