"""Bodies of tasks count into the server's limits as those of images do."""

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import pytest

from testing.waiting import eventually

TASK = {"app": "a/b", "input": "x" * 70_000}  # more than one message


@pytest.fixture(scope="module")
def small(serve_module: Callable[..., Any], light: dict[str, str]) -> Any:
    return serve_module(queue_bytes=100_000, request_timeout=4, **light)


@contextmanager
def unfinished(server: Any, route: str) -> Iterator[socket.socket]:
    """A request with all but the end of its body sent."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        headers = "Host: localhost\r\nContent-Type: application/json\r\nContent-Length: 90000"
        connection.sendall(f"POST {route} HTTP/1.1\r\n{headers}\r\n\r\n".encode() + b" " * 80_000)
        for _ in range(10):  # turns of the server's loop: if a request that comes later were read first, it would fit
            server.client.get("/livez")
        yield connection


def overloaded(server: Any) -> httpx2.Response | None:
    response: httpx2.Response = server.client.post("/run", json=TASK)
    return response if response.status_code == 429 else None


@pytest.mark.parametrize("route", ["/run", "/tasks/list", "/files"])
def test_an_unfinished_body_fills_the_queue_and_has_a_deadline(small: Any, route: str) -> None:
    with unfinished(small, route) as connection:
        refused = eventually(lambda: overloaded(small), 3.5)  # the server reads the two connections in any order
        assert refused is not None
        assert refused.json()["error"]["code"] == "overloaded"
        assert int(refused.headers["retry-after"]) >= 1
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.split()[1] == b"408"
    assert json.loads(body)["error"] == {"code": "body_too_slow", "message": "the body did not arrive within 4 s"}
    unknown = small.client.post("/run", json=TASK)
    assert unknown.json()["error"]["code"] == "app_unknown", "the queue is free again"


def test_bodies_of_others_do_not_keep_small_tasks_from_being_submitted(small: Any) -> None:
    with unfinished(small, "/extract"):
        eventually(lambda: overloaded(small), 3.5)
        accepted = small.client.post("/run", json={"app": "a/b", "input": {}})
        assert accepted.json()["error"]["code"] == "app_unknown"


@pytest.mark.parametrize("number", [2**64, 10**400])
def test_integers_of_any_size_are_numbers_or_bad_json(small: Any, number: int) -> None:
    for route, body in (
        ("/run", {"app": "a/b", "input": {"seed": number}}),
        ("/tasks/list", {"created_after": number}),
    ):
        response = small.client.post(route, content=json.dumps(body), headers={"Content-Type": "application/json"})
        assert response.status_code in (400, 404, 422), response.text
