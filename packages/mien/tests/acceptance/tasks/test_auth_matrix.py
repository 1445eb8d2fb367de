"""Every route of the application × every kind of caller → the status.

The routes are taken from the application itself: a new one fails the first test until it is listed here.
"""

import http.client
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest
from fastapi.routing import iter_route_contexts

from mien.app import create_app
from mien.keys import FileKeyStore
from mien.settings import Settings

CALLERS = ("nobody", "other owner", "owner", "admin", "admin and infer")
Row = tuple[int, int, int, int, int]
"""The statuses of a route for the callers, in their order."""


def anyone(status: int) -> Row:
    return (status, status, status, status, status)


def infer(status: int) -> Row:
    """The scope `infer` is needed; there is nothing that has an owner."""
    return (401, status, status, 403, status)


def owned(status: int) -> Row:
    """As `infer`, about something that has an owner."""
    return (401, 404, status, 403, status)


def admin(status: int) -> Row:
    return (401, 403, 403, status, status)


MATRIX: dict[tuple[str, str], Row] = {
    ("GET", "/"): anyone(307),
    ("GET", "/openapi.json"): anyone(200),
    ("GET", "/docs"): anyone(200),
    ("GET", "/docs/oauth2-redirect"): anyone(200),
    ("GET", "/redoc"): anyone(200),
    ("MOUNT", "/static-offline-docs"): anyone(404),
    ("GET", "/livez"): anyone(200),
    ("GET", "/readyz"): anyone(200),
    ("GET", "/health"): anyone(200),
    ("GET", "/v1/health"): anyone(200),
    ("GET", "/metrics"): infer(200),
    ("GET", "/info"): infer(200),
    ("POST", "/extract"): infer(200),
    ("POST", "/multipart/extract"): infer(415),
    ("POST", "/compare"): infer(422),
    ("POST", "/multipart/compare"): infer(415),
    ("POST", "/draw_detections"): infer(422),
    ("POST", "/multipart/draw_detections"): infer(415),
    ("POST", "/v1/infer"): infer(422),
    ("GET", "/v1/nodes"): infer(200),
    ("GET", "/v1/nodes/{node_id}/capabilities"): infer(200),
    ("GET", "/v1/nodes/watch"): anyone(426),
    ("WEBSOCKET", "/v1/nodes/watch"): infer(101),
    ("GET", "/v1/tasks"): infer(200),
    ("GET", "/v1/metrics"): infer(200),
    ("GET", "/v1/config"): infer(200),
    ("GET", "/models"): infer(200),
    ("POST", "/models/{name}/load"): admin(404),
    ("POST", "/models/{name}/unload"): admin(404),
    ("POST", "/run"): infer(200),
    ("POST", "/apps/run"): infer(200),
    ("GET", "/tasks"): infer(200),
    ("POST", "/tasks/list"): infer(200),
    ("GET", "/tasks/{task_id}"): owned(200),
    ("DELETE", "/tasks/{task_id}"): owned(200),
    ("GET", "/tasks/{task_id}/status"): owned(200),
    ("GET", "/tasks/{task_id}/logs"): owned(200),
    ("GET", "/tasks/{task_id}/files"): owned(200),
    ("POST", "/tasks/{task_id}/cancel"): owned(200),
    ("GET", "/tasks/{task_id}/stream"): owned(200),
    ("POST", "/files"): infer(200),
    ("GET", "/files"): infer(200),
    ("GET", "/files/{file_id}"): owned(200),
    ("DELETE", "/files/{file_id}"): owned(200),
    ("GET", "/files/{file_id}/{name}"): (403, 404, 200, 403, 200),
    ("PUT", "/files/{file_id}/{name}"): anyone(403),  # only its signed URL
    ("GET", "/apps"): infer(200),
    ("GET", "/apps/{reference}"): infer(200),
    ("POST", "/apps"): admin(422),
    ("POST", "/apps/{reference}/rollback"): admin(404),
    ("DELETE", "/apps/{reference}"): admin(404),
    ("GET", "/sessions"): infer(200),
    ("GET", "/sessions/{session_id}"): owned(200),
    ("DELETE", "/sessions/{session_id}"): owned(200),
    ("POST", "/sessions/{session_id}/keepalive"): owned(200),
}

IMAGES = {"images": {"data": ["aGk=", "aGk="]}}
TASK = {"app": "mien/faces", "input": {"image": "data:image/png;base64,aGk="}}
BODIES: dict[str, Any] = {
    "/extract": IMAGES,
    "/compare": IMAGES,
    "/draw_detections": IMAGES,
    "/v1/infer": {"service": "face_detection", "payload": "aGk="},
    "/run": TASK,
    "/apps/run": TASK,
    "/tasks/list": {},
    "/files": {"files": [{"filename": "a"}]},
}


def routes() -> set[tuple[str, str]]:
    """What the application answers to. HEAD goes with GET, and a trailing slash with the path without one."""
    found = set()
    for context in iter_route_contexts(list(create_app(Settings()).routes)):
        path = re.sub(r":\w+}", "}", str(context.path))
        kind = type(context.route).__name__
        methods = context.methods or {"MOUNT" if "Mount" in kind else "WEBSOCKET"}
        found |= {(method, path.rstrip("/") or "/") for method in methods if method != "HEAD"}
    return found


def test_every_route_is_in_the_matrix() -> None:
    assert routes() == MATRIX.keys()


@dataclass
class Callers:
    """A client for each kind of caller, and what the owner has."""

    clients: dict[str, httpx2.Client]
    make: Callable[[], dict[str, str]]
    """Makes a task, a file and a session of the owner: their ids by the names of path parameters."""


@pytest.fixture(scope="module")
def callers(keyed: Any, make_api: Any, kit: str) -> Iterator[Callers]:
    store = FileKeyStore(keyed.data_dir)
    _, other = store.create("other", ["infer"], "matrix-other")
    _, owner = store.create("owner", ["infer"], "matrix")
    secrets = ("", other, owner, keyed.admin, keyed.both)
    with ExitStack() as stack:
        clients = {
            caller: stack.enter_context(
                httpx2.Client(
                    base_url=keyed.client.base_url,
                    headers={"X-API-Key": secret} if secret else {},
                    trust_env=False,
                    timeout=60,
                )
            )
            for caller, secret in zip(CALLERS, secrets, strict=True)
        }
        make_api(clients["admin and infer"]).deploy("matrix", kit)

        def make() -> dict[str, str]:
            mine = clients["owner"]
            task = mine.post("/run?wait=true", json=TASK).json()["data"]
            file = mine.post("/files", files={"file": ("a.txt", b"a")}).json()["data"]
            waits = {"app": "test/matrix", "input": {}, "session": "new", "run_at": "2100-01-01T00:00:00Z"}
            session = mine.post("/run", json=waits).json()["data"]
            mine.post(f"/tasks/{session['id']}/cancel")
            return {"task_id": task["id"], "file_id": file["id"], "session_id": session["session_id"]}

        yield Callers(clients, make)


@pytest.mark.parametrize(("method", "path"), MATRIX, ids=lambda part: str(part))
def test_each_caller_gets_the_status_of_the_matrix(callers: Callers, method: str, path: str) -> None:
    """First those who must not, then those who may: a refused request has changed nothing."""
    ids = callers.make() if any(f"{{{kind}_id}}" in path for kind in ("task", "file", "session")) else {}
    row = dict(zip(CALLERS, MATRIX[method, path], strict=True))
    seen = {caller: status_of(callers, caller, method, path, ids) for caller in CALLERS[:4]}
    ids = callers.make() if method == "DELETE" and ids else ids
    seen["admin and infer"] = status_of(callers, "admin and infer", method, path, ids)
    assert seen == row
    if method == "GET":
        assert {caller: status_of(callers, caller, "HEAD", path, ids) for caller in CALLERS} == row


def status_of(callers: Callers, caller: str, method: str, path: str, ids: dict[str, str]) -> int:
    client = callers.clients[caller]
    named = ids | {
        "node_id": "local",
        "name": "a.txt",
        "reference": "mien/faces" if method in ("GET", "HEAD") else "a/nothing",
    }
    for name, value in named.items():
        path = path.replace(f"{{{name}}}", value)
    if method == "WEBSOCKET":
        return upgraded(client, path)
    if method == "MOUNT":
        return client.get(f"{path}/nothing").status_code
    body = {"json": BODIES[path]} if method == "POST" and path in BODIES else {}
    return client.request(method, path, **body).status_code


def upgraded(client: httpx2.Client, path: str) -> int:
    """The status of a WebSocket's handshake."""
    url = client.base_url
    connection = http.client.HTTPConnection(url.host, url.port, timeout=30)
    handshake = {
        "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }  # fmt: skip
    key = {name: value for name, value in client.headers.items() if name == "x-api-key"}
    try:
        connection.request("GET", path, headers=handshake | key)
        return connection.getresponse().status
    finally:
        connection.close()
