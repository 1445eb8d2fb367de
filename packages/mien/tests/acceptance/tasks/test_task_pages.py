"""Web pages of other origins at a server without keys: nothing that they can send has an effect."""

from typing import Any

import httpx2
import pytest

FOREIGN = {"Origin": "https://evil.example"}
FETCH = {**FOREIGN, "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}
IMAGE = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}
LINK = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
KINDS = ["", "text/plain", "application/x-www-form-urlencoded", "application/octet-stream", "application/json"]
ROUTES = [
    "/apps?name=evil/page", "/run", "/apps/run", "/tasks/list", "/files", "/sessions", "/extract", "/compare",
    "/multipart/extract", "/v1/infer", "/compat/latest/run", "/compat/0.5/apps?name=evil/page", "//run",
]  # fmt: skip


def ids(door: Any) -> list[str]:
    """Of the server's newest tasks and files."""
    return [item["id"] for kind in ("tasks", "files") for item in door.client.get(f"/{kind}").json()["data"]["items"]]


@pytest.mark.parametrize("route", ROUTES)
def test_a_foreign_page_sends_in_vain(door: Any, kit: str, route: str) -> None:
    body = door.packed("page", kit) if "apps?" in route else b'{"app": "test/kit", "input": {}}'
    before = ids(door)
    for kind in KINDS:
        for headers in (FOREIGN, FETCH, {**FETCH, "Origin": "null"}):
            answer = door.client.post(
                httpx2.URL(f"{door.url}{route}"), content=body, headers={**headers, "Content-Type": kind}
            )
            assert (answer.status_code, answer.json()["error"]["code"]) == (403, "forbidden")
            assert "MIEN_CORS_ORIGINS" in answer.json()["error"]["message"]
    assert "evil" not in door.client.get("/apps").text
    assert ids(door) == before


def test_a_foreign_page_reads_and_ends_nothing(door: Any) -> None:
    task = door.run("test/kit", {"text": "mine", "times": 40, "seconds": 0.05})
    for path in ("", "/cancel", "/stream", "/files"):
        for method in ("GET", "POST", "DELETE"):
            for headers in (FETCH, IMAGE, LINK):
                assert door.client.request(method, f"/tasks/{task['id']}{path}", headers=headers).status_code == 403
    assert door.ended(task["id"])["output"]["text"] == "mine" * 40
    for path in ("/info", "/metrics", "/apps", "/v1/nodes", "/openapi.json"):
        assert door.client.get(path, headers=IMAGE).status_code == 403


def test_what_the_server_shows_to_all_stays_open(door: Any) -> None:
    answer = door.client.post("/files", files={"file": ("a.txt", b"words", "text/plain")})
    record = answer.json()["data"]
    assert door.client.get(record["uri"], headers=IMAGE).content == b"words"
    assert door.client.get(record["uri"].partition("?")[0], headers=IMAGE).status_code == 403
    for path in ("/livez", "/readyz", "/health"):
        assert door.client.get(path, headers=FETCH).status_code == 200
    for path in ("/", "/docs"):
        assert door.client.get(path, headers=LINK, follow_redirects=True).status_code == 200


def test_the_servers_own_pages_work(door: Any) -> None:
    own = {"Origin": door.url, "Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors"}
    body = {"app": "test/kit", "input": {"text": "own"}}
    for headers in (own, {"Origin": door.url}, {"Sec-Fetch-Site": "none"}):
        answer = door.client.post("/run", json=body, headers=headers)
        assert door.ended(answer.json()["data"]["id"])["output"]["text"] == "own"
