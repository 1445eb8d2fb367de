"""HEAD wherever GET, and Allow wherever a method is refused: over every route of a running server."""

import http.client
from typing import Any

import httpx2
import pytest

from packages.mien.tests.conftest import ServerProcess

FLEETING = {"date", "x-request-id", "content-length", "transfer-encoding"}
PAGES = ["/", "/docs", "/redoc", "/docs/oauth2-redirect", "/openapi.json", "/static-offline-docs/favicon.png"]


@pytest.fixture(scope="module")
def targets(client: httpx2.Client) -> list[str]:
    """A real URL for every path that has GET."""
    file = client.post("/files", files={"file": ("a.txt", b"some text", "text/plain")}).json()["data"]
    task = client.post("/run?wait=true", json={"app": "mien/embed", "input": {"text": "a"}}).json()["data"]
    known = {
        "{node_id}": "local", "{task_id}": task["id"], "{file_id}": file["id"], "{name}": "a.txt",
        "{reference}": "mien/embed", "{session_id}": "unknown",
    }  # fmt: skip
    paths = client.get("/openapi.json").json()["paths"]
    return [_filled(path, known) for path, operations in paths.items() if "get" in operations] + PAGES


def _filled(path: str, known: dict[str, str]) -> str:
    for placeholder, value in known.items():
        path = path.replace(placeholder, value)
    assert "{" not in path
    return path


def ask(server: ServerProcess, method: str, target: str) -> tuple[int, dict[str, str], bytes]:
    """One exchange on a connection that must be usable after it, so that a body of HEAD would be noticed."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    try:
        connection.request(method, target)
        response = connection.getresponse()
        found = response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
        connection.request("GET", "/livez")
        assert connection.getresponse().read() == b'{"status":"ok"}'
    finally:
        connection.close()
    return found


def test_head_answers_as_get_does_without_the_body(server: ServerProcess, targets: list[str]) -> None:
    for target in targets:
        status, headers, body = ask(server, "GET", target)
        head_status, head_headers, nothing = ask(server, "HEAD", target)
        assert (head_status, nothing) == (status, b""), target
        assert _lasting(head_headers) == _lasting(headers), target
        if "content-length" in headers and "metrics" not in target:  # the figures differ between two requests
            assert abs(int(head_headers["content-length"]) - len(body)) <= 8, target  # so do digits of timings


def _lasting(headers: dict[str, str]) -> dict[str, Any]:
    return {name: value for name, value in headers.items() if name not in FLEETING}


def test_head_of_a_stream_does_not_follow_the_task(server: ServerProcess, client: httpx2.Client) -> None:
    """A task that waits for a date would stream until then."""
    asked = {"app": "mien/embed", "input": {"text": "a"}, "run_at": "2100-01-01T00:00:00Z"}
    task = client.post("/run", json=asked).json()["data"]["id"]
    status, headers, body = ask(server, "HEAD", f"/tasks/{task}/stream")
    assert (status, body) == (200, b"")
    assert headers["content-type"] == "text/event-stream; charset=utf-8"
    client.post(f"/tasks/{task}/cancel")
    client.delete(f"/tasks/{task}")


REFUSED = [
    ("PATCH", "/files", "GET, HEAD, POST"),
    ("OPTIONS", "/files", "GET, HEAD, POST"),
    ("PUT", "/apps", "GET, HEAD, POST"),
    ("POST", "/tasks/some", "DELETE, GET, HEAD"),
    ("PATCH", "/files/some/name.txt", "GET, HEAD, PUT"),
    ("HEAD", "/extract", "POST"),
    ("GET", "/v1/infer", "POST"),
    ("DELETE", "/livez", "GET, HEAD"),
]


@pytest.mark.parametrize(("method", "path", "allowed"), REFUSED)
def test_a_refused_method_is_told_every_one_that_the_path_has(
    server: ServerProcess, method: str, path: str, allowed: str
) -> None:
    status, headers, _ = ask(server, method, path)
    assert (status, headers["allow"]) == (405, allowed)


def test_a_file_whose_name_has_a_line_break_is_read_by_its_url(client: httpx2.Client) -> None:
    new = client.post("/files", json={"files": [{"filename": "a\nb.txt"}]}).json()["data"][0]
    assert client.put(new["upload_url"], content=b"words").status_code == 200
    assert client.get(client.get(f"/files/{new['id']}").json()["data"]["uri"]).content == b"words"
