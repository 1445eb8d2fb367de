"""The examples of the OpenAPI document are real: each is sent again, and answered as it says but for ids and times.

`MIEN_RECORD_EXAMPLES=1` writes them again.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

from mien.http.openapi import examples
from packages.mien.tests.acceptance.tasks.conftest import pack

RECORDED = Path(examples.__file__).with_name("examples.json")
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
PHOTO = "people/person_a_1.jpg"
PHOTO_BYTES = "(the bytes of photo.jpg)"
LATER = {"app": "mien/embed", "input": {"text": "a fox"}, "run_at": "2100-01-01T00:00:00Z", "metadata": {"for": "you"}}
JSON, FORM, BYTES, TEXT = "application/json", "multipart/form-data", "application/octet-stream", "text/plain"
APP = """
from infsh import BaseApp, BaseAppInput, BaseAppOutput


class AppInput(BaseAppInput):
    text: str


class AppOutput(BaseAppOutput):
    reversed: str


class App(BaseApp):
    async def run(self, given: AppInput) -> AppOutput:
        return AppOutput(reversed=given.text[::-1])
"""
VERSIONS = [
    pack({"inf.yml": f"name: reverse\nnamespace: you\ndescription: {text}\n", "inference.py": APP})
    for text in ("Text backwards.", "Text backwards, better.")
]
WEB_SOCKET = "v1_watch"
"""Has no response with a body."""
HEAD_OF_TEXT = 300
"""Characters: of a long text, an example shows whole lines up to there."""
LONGEST_LIST = 2
"""Items that an example shows of a list of objects that others fill."""


@dataclass(frozen=True)
class Sent:
    """A request. `path` names earlier answers: `/files/{create_files}`."""

    name: str
    method: str
    path: str
    json: Any = None
    form: tuple[str, ...] | None = None
    """Names of file parts, whose content is the photo; the other fields are in `json`."""
    content: bytes | None = None
    accept: str = "*/*"
    shown: bool = True
    """Whether it is an example, or only prepares one."""


SENT = [
    Sent("livez", "GET", "/livez"),
    Sent("readyz", "GET", "/readyz"),
    Sent("metrics", "GET", "/metrics"),
    Sent("health", "GET", "/health"),
    Sent("info", "GET", "/info"),
    Sent("extract", "POST", "/extract",
         {"images": {"urls": [PHOTO]}, "extract_embedding": False, "return_landmarks": True, "threshold": 0.6}),
    Sent("multipart_extract", "POST", "/multipart/extract", {"extract_embedding": False}, form=("file", "file")),
    Sent("draw_detections", "POST", "/draw_detections", {"images": {"urls": [PHOTO]}, "draw_scores": False}),
    Sent("multipart_draw_detections", "POST", "/multipart/draw_detections", {"draw_sizes": False}, form=("file",)),
    Sent("compare", "POST", "/compare",
         {"images": {"urls": [PHOTO, "people/person_a_2.jpg"]}, "limit_faces": 1}),
    Sent("multipart_compare", "POST", "/multipart/compare", {"same_threshold": 0.5}, form=("file", "file")),
    Sent("infer", "POST", "/v1/infer",
         {"service": "face_detection", "payload": PIXEL, "correlation_id": "mine", "metadata": {"max_faces": "1"}}),
    Sent("v1_health", "GET", "/v1/health"),
    Sent("v1_metrics", "GET", "/v1/metrics"),
    Sent("v1_nodes", "GET", "/v1/nodes"),
    Sent("v1_capabilities", "GET", "/v1/nodes/local/capabilities"),
    Sent("v1_tasks", "GET", "/v1/tasks"),
    Sent("v1_config", "GET", "/v1/config"),
    Sent("list_models", "GET", "/models"),
    Sent("unload_model", "POST", "/models/mask/unload"),
    Sent("load_model", "POST", "/models/mask/load"),
    Sent("create_files", "POST", "/files", {"files": [{"filename": "a.txt", "content_type": "text/plain", "size": 5}]}),
    Sent("put_content", "PUT", "{create_files.upload_url}", content=b"words"),
    Sent("get_file", "GET", "/files/{create_files}"),
    Sent("list_files", "GET", "/files"),
    Sent("get_content", "GET", "{create_files.uri}"),
    Sent("delete_file", "DELETE", "/files/{create_files}"),
    Sent("run", "POST", "/run", LATER),
    Sent("get_task", "GET", "/tasks/{run}"),
    Sent("task_status", "GET", "/tasks/{run}/status"),
    Sent("task_logs", "GET", "/tasks/{run}/logs"),
    Sent("task_files", "GET", "/tasks/{run}/files"),
    Sent("list_tasks_by_body", "POST", "/tasks/list", {"status": ["queued"], "app": "mien/embed", "limit": 1}),
    Sent("list_tasks", "GET", "/tasks?status=queued&app=mien/embed&limit=1"),
    Sent("stream_task", "GET", "/tasks/{run}/stream", accept="text/event-stream"),
    Sent("cancel_task", "POST", "/tasks/{run}/cancel"),
    Sent("delete_task", "DELETE", "/tasks/{run}"),
    Sent("run_app", "POST", "/apps/run", LATER),
    Sent("cancel_run_app", "POST", "/tasks/{run_app}/cancel", shown=False),
    Sent("deploy_app", "POST", "/apps", content=VERSIONS[0]),
    Sent("deploy_again", "POST", "/apps", content=VERSIONS[1], shown=False),
    Sent("list_apps", "GET", "/apps"),
    Sent("get_app", "GET", "/apps/you/reverse"),
    Sent("in_session", "POST", "/run", {"app": "you/reverse", "input": {"text": "a"}, "session": "new"}, shown=False),
    Sent("list_sessions", "GET", "/sessions"),
    Sent("get_session", "GET", "/sessions/{in_session.session_id}"),
    Sent("keep_session", "POST", "/sessions/{in_session.session_id}/keepalive"),
    Sent("end_session", "DELETE", "/sessions/{in_session.session_id}"),
    Sent("rollback_app", "POST", "/apps/you/reverse/rollback"),
    Sent("remove_app", "DELETE", "/apps/you/reverse"),
]  # fmt: skip


def play(client: httpx2.Client, photo: bytes) -> dict[str, Any]:
    """Each request with its answer, by operation."""
    found: dict[str, Any] = {}
    data: dict[str, dict[str, Any]] = {}
    for sent in SENT:
        request = _request(client, sent, _path(sent.path, data), photo)
        status, received = _received(client, request)
        assert status < 400, (sent.name, received)
        answer = received.get("example")
        if isinstance(answer, dict) and answer.get("data"):
            data[sent.name] = answer["data"][0] if isinstance(answer["data"], list) else answer["data"]
        if sent.shown:
            shown = _shortened(received, client)
            found[sent.name] = {"sent": _shown_body(sent), "status": status, "received": shown}
    return found


def _path(path: str, data: dict[str, dict[str, Any]]) -> str:
    """The path with the ids of earlier answers, or the URL that one of them gave."""
    for name, answer in data.items():
        path = path.replace(f"{{{name}}}", answer.get("id", ""))
        for key, value in answer.items():
            path = path.replace(f"{{{name}.{key}}}", str(value))
    assert "{" not in path, path
    return path


def _request(client: httpx2.Client, sent: Sent, path: str, photo: bytes) -> httpx2.Request:
    body: dict[str, Any] = {"json": sent.json} if sent.form is None else {"data": sent.json}
    if sent.form is not None:
        body["files"] = [(name, ("photo.jpg", photo, "image/jpeg")) for name in sent.form]
    headers = {"Accept": sent.accept}
    if sent.content is not None:
        body, headers = {"content": sent.content}, {**headers, "Content-Type": BYTES}
    return client.build_request(sent.method, path, headers=headers, **body)


def _received(client: httpx2.Client, request: httpx2.Request) -> tuple[int, dict[str, Any]]:
    """Status and message; of a stream, its first event."""
    response = client.send(request, stream=True)
    try:
        kind = response.headers["content-type"].partition(";")[0]
        if kind == "text/event-stream":
            return response.status_code, {"type": kind, "example": _first_event(response)}
        content = response.read()
    finally:
        response.close()
    if kind == JSON:
        return response.status_code, {"type": kind, "example": json.loads(content)}
    if kind == TEXT:
        text = content.decode()
        return response.status_code, {"type": kind, "example": text[: text.find("\n", HEAD_OF_TEXT) + 1] or text}
    return response.status_code, {"type": kind}


def _first_event(response: httpx2.Response) -> str:
    lines: list[str] = []
    for line in response.iter_lines():
        lines.append(line)
        if not line and any(known.startswith("data:") for known in lines):
            return "\n".join(lines) + "\n"
    pytest.fail(f"a stream without an event: {lines}")


def _shown_body(sent: Sent) -> dict[str, Any] | None:
    if sent.form is not None:
        several = len(sent.form) > len(set(sent.form))
        files: Any = [PHOTO_BYTES] * len(sent.form) if several else PHOTO_BYTES
        return {"type": FORM, "example": {**dict.fromkeys(sent.form, files), **sent.json}}
    if sent.content is not None:
        return {"type": BYTES}
    return None if sent.json is None else {"type": JSON, "example": sent.json}


def _shortened(received: dict[str, Any], client: httpx2.Client) -> dict[str, Any]:
    """Without what other tests did on the same server, and without the server's port."""
    text = json.dumps(received).replace(str(client.base_url).rstrip("/"), "http://localhost:8000")
    shown: dict[str, Any] = json.loads(text)
    answer = shown.get("example")
    data = answer.get("data") if isinstance(answer, dict) else None
    if isinstance(data, list) and data and isinstance(data[0], dict) and "faces" not in data[0]:
        del data[LONGEST_LIST:]
    if isinstance(data, dict) and isinstance(data.get("items"), list):
        del data["items"][1:]
    return shown


def kinds(value: Any) -> Any:
    """The same structure with the types of its values."""
    if isinstance(value, dict):
        return {key: kinds(item) for key, item in value.items() if key != "next_cursor"}  # others may have tasks
    if isinstance(value, list):
        return [kinds(item) for item in value]
    return "number" if type(value) in (int, float) else type(value).__name__


def test_examples_are_answered_as_they_say(client: httpx2.Client, photo: bytes) -> None:
    now = json.loads(json.dumps(play(client, photo)))
    if os.environ.get("MIEN_RECORD_EXAMPLES"):
        RECORDED.write_text(json.dumps(now, indent=1) + "\n")
    known = json.loads(RECORDED.read_text())
    assert list(known) == list(now)
    for name, example in known.items():
        assert example["sent"] == now[name]["sent"], name
        assert (name, example["status"]) == (name, now[name]["status"])
        assert kinds(example["received"]) == kinds(now[name]["received"]), name


def test_every_operation_has_an_example_of_what_is_not_bytes(client: httpx2.Client) -> None:
    known = json.loads(RECORDED.read_text())
    paths = client.get("/openapi.json").json()["paths"]
    operations = [one for path in paths.values() for one in path.values() if one["operationId"] != WEB_SOCKET]
    assert {operation["operationId"] for operation in operations} == set(known)
    for operation in operations:
        example = known[operation["operationId"]]
        content = operation["responses"][str(example["status"])]["content"]
        shown = content.get(example["received"]["type"]) or content["*/*"]
        assert shown.get("example") == example["received"].get("example")
        assert ("example" in shown) != example["received"]["type"].startswith(("image/", "application/octet"))
        if example["sent"] is not None and example["sent"]["type"] != BYTES:
            sent = operation["requestBody"]["content"][example["sent"]["type"]]
            assert sent["example"] == example["sent"]["example"]
