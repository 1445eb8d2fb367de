"""The examples of the OpenAPI document are real: each is sent again, and answered as it says but for ids and times.

`MIEN_RECORD_EXAMPLES=1` writes them again.
"""

import json
import os
from pathlib import Path
from typing import Any

import httpx2

from mien.http.openapi import examples

RECORDED = Path(examples.__file__).with_name("examples.json")
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
PHOTO = "people/person_a_1.jpg"
LATER = {"app": "mien/embed", "input": {"text": "a fox"}, "run_at": "2100-01-01T00:00:00Z", "metadata": {"for": "you"}}
SENT: list[tuple[str, str, str, Any]] = [
    ("livez", "GET", "/livez", None),
    ("readyz", "GET", "/readyz", None),
    ("health", "GET", "/health", None),
    ("info", "GET", "/info", None),
    ("extract", "POST", "/extract",
     {"images": {"urls": [PHOTO]}, "extract_embedding": False, "return_landmarks": True, "threshold": 0.6}),
    ("compare", "POST", "/compare",
     {"images": {"urls": [PHOTO, "people/person_a_2.jpg"]}, "limit_faces": 1, "extract_embedding": False}),
    ("infer", "POST", "/v1/infer",
     {"service": "face_detection", "payload": PIXEL, "correlation_id": "mine", "metadata": {"max_faces": "1"}}),
    ("v1_health", "GET", "/v1/health", None),
    ("v1_metrics", "GET", "/v1/metrics", None),
    ("v1_nodes", "GET", "/v1/nodes", None),
    ("v1_capabilities", "GET", "/v1/nodes/local/capabilities", None),
    ("v1_tasks", "GET", "/v1/tasks", None),
    ("v1_config", "GET", "/v1/config", None),
    ("create_files", "POST", "/files", {"files": [{"filename": "a.txt", "content_type": "text/plain", "size": 5}]}),
    ("get_file", "GET", "/files/{create_files}", None),
    ("delete_file", "DELETE", "/files/{create_files}", None),
    ("run", "POST", "/run", LATER),
    ("get_task", "GET", "/tasks/{run}", None),
    ("task_status", "GET", "/tasks/{run}/status", None),
    ("task_logs", "GET", "/tasks/{run}/logs", None),
    ("task_files", "GET", "/tasks/{run}/files", None),
    ("list_tasks_by_body", "POST", "/tasks/list", {"status": ["queued"], "app": "mien/embed", "limit": 1}),
    ("list_tasks", "GET", "/tasks?status=queued&app=mien/embed&limit=1", None),
    ("cancel_task", "POST", "/tasks/{run}/cancel", None),
    ("delete_task", "DELETE", "/tasks/{run}", None),
    ("run_app", "POST", "/apps/run", LATER),
    ("get_app", "GET", "/apps/mien/embed", None),
]  # fmt: skip


def play(client: httpx2.Client) -> dict[str, Any]:
    """Each request with its answer, by operation."""
    found: dict[str, Any] = {}
    ids: dict[str, str] = {}
    for name, method, path, body in SENT:
        response = client.request(method, path.format(**ids), json=body)
        answer = response.json()
        found[name] = {"body": body, "status": response.status_code, "answer": answer}
        data = answer.get("data")
        if name in ("create_files", "run", "run_app"):
            ids[name] = data[0]["id"] if isinstance(data, list) else data["id"]
    client.post("/tasks/{run_app}/cancel".format(**ids))
    return found


def kinds(value: Any) -> Any:
    """The same structure with the types of its values."""
    if isinstance(value, dict):
        return {key: kinds(item) for key, item in value.items() if key != "next_cursor"}  # others may have tasks
    if isinstance(value, list):
        return [kinds(item) for item in value]
    return "number" if type(value) in (int, float) else type(value).__name__


def test_examples_are_answered_as_they_say(client: httpx2.Client) -> None:
    now = json.loads(json.dumps(play(client)))
    if os.environ.get("MIEN_RECORD_EXAMPLES"):
        RECORDED.write_text(json.dumps(now, indent=1) + "\n")
    known = json.loads(RECORDED.read_text())
    assert list(known) == list(now)
    for name, example in known.items():
        assert example["body"] == now[name]["body"], name
        assert (name, example["status"]) == (name, now[name]["status"])
        assert kinds(example["answer"]) == kinds(now[name]["answer"]), name


def test_the_document_shows_them(client: httpx2.Client) -> None:
    shown: dict[str, Any] = {}
    for operations in client.get("/openapi.json").json()["paths"].values():
        for operation in operations.values():
            bodies = [operation.get("requestBody", {}), *operation["responses"].values()]
            shown[operation["operationId"]] = [
                body["content"]["application/json"].get("example") for body in bodies
                if "application/json" in body.get("content", {})
            ]  # fmt: skip
    for name, example in json.loads(RECORDED.read_text()).items():
        assert example["answer"] in shown[name], name
        assert example["body"] is None or example["body"] in shown[name], name
