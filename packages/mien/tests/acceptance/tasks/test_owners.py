"""Owners: what one team makes does not exist for another one."""

import base64
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import httpx2
import pytest

from mien.keys import FileKeyStore

SERVICE = "owners_echo"
JOINS = """
from infsh import BaseApp
class App(BaseApp):
    async def run(self, given):
        return {"x": "%s" + "t"}
"""


@pytest.fixture(scope="module")
def teams(keyed: Any, make_api: Any, kit: str) -> Iterator[dict[str, Any]]:
    """The server as two owners and an admin see it, with an app that is also a service."""
    store = FileKeyStore(keyed.data_dir)
    secrets = {name: store.create(name, ["infer"], name)[1] for name in ("team-a", "team-b")} | {"admin": keyed.both}
    with ExitStack() as stack:
        apis = {
            name: make_api(
                stack.enter_context(
                    httpx2.Client(
                        base_url=keyed.client.base_url,
                        headers={"Authorization": f"Bearer {secret}"},
                        trust_env=False,
                        timeout=60,
                    )
                )
            )
            for name, secret in secrets.items()
        }
        apis["admin"].deploy("owners", kit, manifest=f"service: {SERVICE}\n")
        yield apis


@pytest.fixture(scope="module")
def made(teams: dict[str, Any]) -> dict[str, Any]:
    """What team A has: an upload, a task with a file in and out, and a session."""
    a = teams["team-a"].client
    upload = a.post("/files", files={"file": ("a.txt", b"secret of team a")}).json()["data"]
    task = a.post(
        "/run?wait=true", json={"app": "test/owners", "input": {"do": "file", "file": upload["uri"]}, "session": "new"}
    ).json()["data"]
    assert task["status_name"] == "completed", task
    return {"file": upload, "task": task, "session": task["session_id"], "output": task["output"]["file"]}


NAMED = [
    ("GET", "/tasks/{task}"), ("GET", "/tasks/{task}/status"), ("GET", "/tasks/{task}/logs"),
    ("GET", "/tasks/{task}/files"), ("GET", "/tasks/{task}/stream"), ("GET", "/tasks/{task}/stream?after=2.2.0"),
    ("POST", "/tasks/{task}/cancel"), ("DELETE", "/tasks/{task}"), ("GET", "/files/{file}"),
    ("GET", "/files/{file}/a.txt"), ("HEAD", "/files/{file}/a.txt"), ("DELETE", "/files/{file}"),
    ("GET", "/sessions/{session}"), ("POST", "/sessions/{session}/keepalive"), ("DELETE", "/sessions/{session}"),
    ("GET", "/compat/0.5/tasks/{task}"),
]  # fmt: skip


def answer_of(client: Any, method: str, path: str, ids: dict[str, str]) -> tuple[int, str, list[tuple[str, str]]]:
    answer = client.request(method, path.format(**ids))
    text = answer.text.replace(answer.headers["x-request-id"], "REQUEST")
    for kind, value in ids.items():
        text = text.replace(value, kind)
    changing = {"x-request-id", "date", "content-length"}
    return answer.status_code, text, [pair for pair in answer.headers.items() if pair[0] not in changing]


@pytest.mark.parametrize(("method", "path"), NAMED)
def test_an_id_of_another_owner_is_answered_as_one_that_does_not_exist(
    teams: dict[str, Any], made: dict[str, Any], method: str, path: str
) -> None:
    theirs = {"task": made["task"]["id"], "file": made["file"]["id"], "session": made["session"]}
    missing = {"task": "0" * 26, "file": "1" * 26, "session": f"sess_{'2' * 26}"}
    client = teams["team-b"].client
    found = answer_of(client, method, path, theirs)
    assert found == answer_of(client, method, path, missing)
    assert found[0] == 404


def test_what_another_owner_tried_has_changed_nothing(teams: dict[str, Any], made: dict[str, Any]) -> None:
    for name in ("team-a", "admin"):
        client = teams[name].client
        assert client.get(f"/tasks/{made['task']['id']}").json()["data"]["status_name"] == "completed"
        assert client.get(f"/files/{made['file']['id']}/a.txt").content == b"secret of team a"
        assert client.get(f"/sessions/{made['session']}").json()["data"]["status"] == "active"


def test_lists_have_what_the_owner_made_and_an_admin_s_everything(teams: dict[str, Any], made: dict[str, Any]) -> None:
    def listed(name: str, path: str, method: str = "GET") -> set[str]:
        data = teams[name].client.request(method, path, json=None if method == "GET" else {}).json()["data"]
        return {item["id"] for item in (data["items"] if isinstance(data, dict) else data)}

    for path, thing in (("/tasks", made["task"]["id"]), ("/files", made["file"]["id"]), ("/sessions", made["session"])):
        assert thing in listed("team-a", path)
        assert thing in listed("admin", path)
        assert thing not in listed("team-b", path)
    assert made["task"]["id"] not in listed("team-b", "/tasks/list", "POST")
    by_session = teams["team-b"].client.get("/tasks", params={"session_id": made["session"]}).json()["data"]
    assert by_session["items"] == []


@pytest.mark.parametrize("form", ["/files/{id}/a.txt", "{uri}", "{base}/files/{id}/a.txt"])
def test_a_file_of_another_owner_is_missing_as_an_input(teams: dict[str, Any], made: dict[str, Any], form: str) -> None:
    base = str(teams["team-b"].client.base_url).rstrip("/")
    name = form.format(id=made["file"]["id"], uri=made["file"]["uri"], base=base)
    for team in ("team-b", "admin"):
        body = {"app": "test/owners", "input": {"do": "file", "file": name}}
        answer = teams[team].client.post("/run", json=body)
        assert answer.status_code == 422
        assert f"this server has no file {made['file']['id']}" in answer.json()["error"]["message"]
        payload = base64.b64encode(f'{{"do": "file", "file": "{name}"}}'.encode()).decode()
        request = {"service": SERVICE, "payload": payload, "payload_mime": "application/json"}
        answer = teams[team].client.post("/v1/infer", json=request)
        assert answer.status_code == 422, answer.text
        assert f"this server has no file {made['file']['id']}" in answer.json()["error"]["message"]


def test_an_output_that_names_another_owner_s_file_gets_no_url_to_it(
    teams: dict[str, Any], made: dict[str, Any]
) -> None:
    """An app can put the name together from parts of its input, so that no check of the input sees it."""
    b = teams["team-b"]
    half = f"mien-file://{made['file']['id']}/a.tx"
    teams["admin"].deploy("joins", JOINS % half)
    task = b.client.post("/run?wait=true", json={"app": "test/joins", "input": {}}).json()["data"]
    assert task["status_name"] == "completed", task
    assert task["output"]["x"] == f"{half}t"  # a text, as everything that is not a `File` of the app


def test_signed_and_public_urls_of_an_owner_work_for_whoever_has_them(
    teams: dict[str, Any], made: dict[str, Any]
) -> None:
    assert httpx2.get(made["file"]["uri"], trust_env=False).content == b"secret of team a"
    assert httpx2.get(made["output"], trust_env=False).content == b"secret of team a"[::-1]
    record = teams["team-a"].client.post("/files", json={"files": [{"filename": "b.txt"}]}).json()["data"][0]
    assert httpx2.put(record["upload_url"], content=b"later", trust_env=False).status_code == 200
    public = teams["team-a"].client.post("/files", files={"file": ("p.txt", b"open")}, data={"public": "true"})
    for name in teams:
        assert teams[name].client.get(public.json()["data"]["uri"]).content == b"open"


def test_idempotency_keys_are_the_owner_s(teams: dict[str, Any]) -> None:
    body = {"app": "test/owners", "input": {"text": "k"}, "idempotency_key": "one key"}
    first, second, again = (teams[name].client.post("/run", json=body) for name in ("team-a", "team-b", "team-a"))
    ids = [answer.json()["data"]["id"] for answer in (first, second, again)]
    assert ids[0] == ids[2] != ids[1]
    assert again.headers["idempotent-replayed"] == "true"
    assert "idempotent-replayed" not in second.headers


def test_a_rotated_key_sees_what_its_owner_had(keyed: Any, teams: dict[str, Any], made: dict[str, Any]) -> None:
    store = FileKeyStore(keyed.data_dir)
    old, _ = store.create("before", ["infer"], "team-a")
    _, secret = store.create("after", ["infer"], "team-a")
    store.revoke(old.id)
    answer = keyed.client.get(f"/tasks/{made['task']['id']}", headers={"X-API-Key": secret})
    assert answer.status_code == 200


def test_a_request_to_a_service_is_a_task_of_its_owner(teams: dict[str, Any]) -> None:
    payload = base64.b64encode(b'{"text": "by service"}').decode()
    request = {"service": SERVICE, "payload": payload, "payload_mime": "application/json"}
    answer = teams["team-a"].client.post("/v1/infer", json=request)
    assert answer.status_code == 200, answer.text

    def texts(name: str) -> list[Any]:
        tasks = teams[name].client.get("/tasks", params={"app": "test/owners"}).json()["data"]["items"]
        return [task["input"].get("text") for task in tasks]

    assert "by service" in texts("team-a")
    assert "by service" not in texts("team-b")
