"""Who may do what with tasks, files and apps once there are API keys."""

from typing import Any

import httpx2
import pytest


@pytest.mark.parametrize(("method", "path"), [
    ("POST", "/run"), ("POST", "/apps/run"), ("GET", "/tasks"), ("POST", "/tasks/list"), ("GET", "/tasks/x"),
    ("GET", "/tasks/x/stream"), ("POST", "/tasks/x/cancel"), ("DELETE", "/tasks/x"), ("POST", "/files"),
    ("GET", "/files"), ("GET", "/files/x"), ("DELETE", "/files/x"), ("GET", "/apps"), ("POST", "/apps"),
    ("GET", "/apps/a/b"), ("DELETE", "/apps/a/b"), ("POST", "/apps/a/b/rollback"), ("GET", "/sessions"),
    ("DELETE", "/sessions/x"), ("POST", "/sessions/x/keepalive"), ("GET", "/compat/0.5/tasks"),
])  # fmt: skip
def test_every_route_asks_for_a_key(keyed: Any, method: str, path: str) -> None:
    client = keyed.client
    answer = client.request(method, path)
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "unauthorized"
    assert answer.json()["type"].endswith("/unauthorized")
    assert client.request(method, path, headers={"Authorization": "Bearer wrong"}).status_code == 401


def test_deploying_is_an_admins_right(keyed: Any, make_api: Any, kit: str) -> None:
    client, infer, admin = keyed.client, keyed.infer, keyed.both
    for method, path in (("POST", "/apps"), ("DELETE", "/apps/test/kit"), ("POST", "/apps/test/kit/rollback")):
        assert client.request(method, path, headers={"Authorization": f"Bearer {infer}"}).status_code == 403
    with httpx2.Client(
        base_url=client.base_url, headers={"Authorization": f"Bearer {admin}"}, trust_env=False
    ) as allowed:
        api = make_api(allowed)
        first = api.deploy("kit", kit)
        second = api.deploy("kit", kit + "\n# changed\n")
        assert first["version_id"] != second["version_id"]
        assert first["input_schema"]["properties"]["do"]
        listed = {app["id"]: app for app in allowed.get("/apps").json()["data"]}
        assert {"mien/faces", "test/kit"} <= listed.keys()
        back = allowed.post("/apps/test/kit/rollback").json()["data"]
        assert back["version_id"] == first["version_id"]
        shown = allowed.get(f"/apps/test/kit@{second['version']}").json()["data"]
        assert [version["latest"] for version in shown["versions"]] == [True, False]
        assert allowed.delete("/apps/test/kit").json()["data"]["removed"] == 2
        assert allowed.get("/apps/test/kit").status_code == 404


def test_signed_urls_need_no_key_and_private_files_one(keyed: Any) -> None:
    client, infer = keyed.client, keyed.infer
    bearer = {"Authorization": f"Bearer {infer}"}
    record = client.post("/files", json={"files": [{"filename": "a.txt"}]}, headers=bearer).json()["data"][0]
    assert client.put(record["upload_url"], content=b"abc").status_code == 200
    assert client.get(record["uri"]).content == b"abc"
    plain = record["uri"].partition("?")[0]
    assert client.get(plain).status_code == 403
    assert client.get(plain, headers=bearer).content == b"abc"
    assert client.get(plain, headers={"Authorization": "Bearer wrong"}).status_code == 401


@pytest.mark.parametrize("name", ["../evil.py", "/etc/evil.py", "a/../../evil.py"])
def test_archives_stay_in_their_folder(keyed: Any, name: str) -> None:
    import io
    import zipfile

    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr(name, "x")
    answer = keyed.client.post("/apps", content=packed.getvalue(), headers={"Authorization": f"Bearer {keyed.both}"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "app_invalid")
    junk = keyed.client.post("/apps", content=b"junk", headers={"Authorization": f"Bearer {keyed.both}"})
    assert junk.status_code == 422
