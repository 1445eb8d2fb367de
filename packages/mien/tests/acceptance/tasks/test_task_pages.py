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


def ids(api: Any) -> list[str]:
    """Of the server's newest tasks and files."""
    return [item["id"] for kind in ("tasks", "files") for item in api.client.get(f"/{kind}").json()["data"]["items"]]


@pytest.mark.parametrize("route", ROUTES)
def test_a_foreign_page_sends_in_vain(api: Any, kit: str, route: str) -> None:
    body = api.packed("page", kit) if "apps?" in route else b'{"app": "test/kit", "input": {}}'
    before = ids(api)
    for kind in KINDS:
        for headers in (FOREIGN, FETCH, {**FETCH, "Origin": "null"}):
            answer = api.client.post(
                httpx2.URL(f"{api.url}{route}"), content=body, headers={**headers, "Content-Type": kind}
            )
            assert (answer.status_code, answer.json()["error"]["code"]) == (403, "forbidden")
            assert "MIEN_CORS_ORIGINS" in answer.json()["error"]["message"]
    assert "evil" not in api.client.get("/apps").text
    assert ids(api) == before


def test_a_foreign_page_reads_and_ends_nothing(api: Any) -> None:
    task = api.run("test/kit", {"text": "mine", "times": 40, "seconds": 0.05})
    for path in ("", "/cancel", "/stream", "/files"):
        for method in ("GET", "POST", "DELETE"):
            for headers in (FETCH, IMAGE, LINK):
                assert api.client.request(method, f"/tasks/{task['id']}{path}", headers=headers).status_code == 403
    assert api.ended(task["id"])["output"]["text"] == "mine" * 40
    for path in ("/info", "/metrics", "/apps", "/v1/nodes", "/openapi.json"):
        assert api.client.get(path, headers=IMAGE).status_code == 403


def test_what_the_server_shows_to_all_stays_open(api: Any) -> None:
    answer = api.client.post("/files", files={"file": ("a.txt", b"words", "text/plain")})
    record = answer.json()["data"]
    assert api.client.get(record["uri"], headers=IMAGE).content == b"words"
    assert api.client.get(record["uri"].partition("?")[0], headers=IMAGE).status_code == 403
    for path in ("/livez", "/readyz", "/health"):
        assert api.client.get(path, headers=FETCH).status_code == 200
    for path in ("/", "/docs"):
        assert api.client.get(path, headers=LINK, follow_redirects=True).status_code == 200


def test_the_servers_own_pages_work(api: Any) -> None:
    own = {"Origin": api.url, "Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors"}
    body = {"app": "test/kit", "input": {"text": "own"}}
    for headers in (own, {"Origin": api.url}, {"Sec-Fetch-Site": "none"}):
        answer = api.client.post("/run", json=body, headers=headers)
        assert api.ended(answer.json()["data"]["id"])["output"]["text"] == "own"
