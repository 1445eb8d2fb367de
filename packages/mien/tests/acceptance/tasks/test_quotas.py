"""Quotas of owners on a running server: every API refuses with the same error, and only the owner at its limit."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from mien.keys import FileKeyStore
from mien.quotas import FileOwnerStore

PHOTO = Path(__file__).parents[2] / "photos" / "person_a_1.jpg"


@pytest.fixture
def team(keyed: Any) -> Iterator[Any]:
    """A client of an owner of its own, and `team.limit(…)` to give it quotas."""
    name = f"team-{len(FileKeyStore(keyed.data_dir).all())}"
    _, secret = FileKeyStore(keyed.data_dir).create(name, ["infer"], name)
    store = FileOwnerStore(keyed.data_dir)
    with httpx2.Client(
        base_url=keyed.client.base_url, headers={"X-API-Key": secret}, trust_env=False, timeout=60
    ) as client:
        client.limit = lambda **quotas: store.set(name, quotas)  # type: ignore[attr-defined]
        client.owner = name  # type: ignore[attr-defined]
        yield client
        store.reset(name)


def refused(answer: Any, words: str, *, retry: bool) -> None:
    assert (answer.status_code, answer.json()["error"]["code"]) == (429, "quota_exceeded"), answer.text
    assert words in answer.json()["error"]["message"]
    assert ("retry-after" in answer.headers) is retry


def test_tasks_over_the_quota_are_refused_by_run_and_by_services(team: Any) -> None:
    team.limit(queued=0)
    body = {"app": "mien/faces", "input": {"image": "data:image/png;base64,aGk="}}
    refused(team.post("/run", json=body), f"quota of queued tasks: the owner {team.owner!r} may have 0", retry=True)
    team.limit(queued=None)
    assert team.post("/run", json=body).status_code == 200


def test_uploads_over_the_quota_are_refused_before_and_while_they_are_sent(team: Any) -> None:
    team.limit(file_bytes=1000)
    assert team.post("/files", files={"file": ("a", b"x" * 900)}).status_code == 200
    words = f"quota of bytes of files: the owner {team.owner!r} may have 1000 and has 900"
    refused(team.post("/files", files={"file": ("a", b"x" * 200)}), words, retry=False)
    refused(team.post("/files", json={"files": [{"filename": "b", "size": 101}]}), words, retry=False)
    record = team.post("/files", json={"files": [{"filename": "b"}]}).json()["data"][0]
    refused(httpx2.put(record["upload_url"], content=b"y" * 101, trust_env=False), words, retry=False)
    assert httpx2.put(record["upload_url"], content=b"y" * 100, trust_env=False).status_code == 200
    refused(team.post("/files", files={"file": ("a", b"")}), "may have 1000 and has 1000", retry=False)
    listed = team.get("/files").json()["data"]["items"]
    assert sum(item["size"] for item in listed) == 1000


@pytest.mark.parametrize("route", ["/extract", "/multipart/extract", "/multipart/draw_detections", "/v1/infer"])
def test_images_over_the_quota_are_refused(team: Any, route: str) -> None:
    photo = PHOTO.read_bytes()
    bodies: dict[str, dict[str, Any]] = {
        "/extract": {"json": {"images": {"data": ["aGk="] * 2}}},
        "/multipart/extract": {"files": [("a", ("a.jpg", photo)), ("b", ("b.jpg", photo))]},
        "/multipart/draw_detections": {"files": {"file": ("a.jpg", photo)}},
        "/v1/infer": {"files": {"payload": ("a.jpg", photo)}, "data": {"service": "face_detection"}},
    }
    team.limit(images=0)
    refused(team.post(route, **bodies[route]), "quota of images inside", retry=False)
    team.limit(images=2)
    assert team.post(route, **bodies[route]).status_code == 200


def test_requests_over_the_quota_are_refused_on_every_api(team: Any, keyed: Any) -> None:
    team.limit(requests=2)
    answers = [team.get(path) for path in ("/tasks", "/info", "/v1/nodes", "/files", "/sessions", "/metrics")]
    words = f"quota of requests per second: the owner {team.owner!r} may have 2 and has 2"
    late = [answer for answer in answers if answer.status_code != 200]
    assert len(late) >= 2, "six requests take less than two seconds"
    for answer in late:
        refused(answer, words, retry=True)
        assert answer.headers["retry-after"] == "1"
    assert keyed.client.get("/info", headers={"X-API-Key": keyed.infer}).status_code == 200
    assert team.get("/livez").status_code == 200
