"""Which requests of web pages get through while there are no keys: headers as browsers really send them."""

import itertools
from functools import cache
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from mien.errors import MienError
from mien.http.errors import error_response
from mien.http.origin import OriginGuard
from mien.settings import Listening

HOST = "127.0.0.1:8080"
FOREIGN = "https://evil.example"
FILE = "/files/01hzzzzzzzzzzzzzzzzzzzzzzz/a.png"
OURS = {"sec-fetch-site": "same-origin", "sec-fetch-mode": "cors", "origin": f"http://{HOST}"}
FETCH = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors", "origin": FOREIGN}
IMAGE = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors", "sec-fetch-dest": "image"}
LINK = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
FRAME = {**LINK, "sec-fetch-dest": "iframe"}
FORM = {**LINK, "origin": FOREIGN}
SANDBOX = {**FETCH, "origin": "null"}
OTHER_PORT = {**FETCH, "sec-fetch-site": "same-site", "origin": "http://127.0.0.1:9999"}
OLD = {"origin": FOREIGN}


async def _forbidden(_: Request, error: Exception) -> Response:
    assert isinstance(error, MienError)
    return error_response(error, "1")


@cache
def guarded(keys: bool, **settings: Any) -> OriginGuard:
    """An application that answers everything, behind the guard."""
    return OriginGuard(PlainTextResponse("reached"), Listening(**settings), lambda: keys)


APP = Starlette(exception_handlers={MienError: _forbidden})


async def ask(method: str, path: str, headers: dict[str, str], *, keys: bool = False, **settings: Any) -> int:
    """The status of one request: 200 where it got through."""
    sent: list[Any] = []
    named = [(name.encode(), value.encode()) for name, value in {"host": HOST, **headers}.items()]
    path, _, query = path.partition("?")
    scope = {
        "type": "http", "method": method, "path": path, "query_string": query.encode(), "headers": named, "app": APP,
    }  # fmt: skip

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        raise AssertionError("the body is not looked at")

    await guarded(keys, **settings)(scope, receive, send)
    status: int = sent[0]["status"]
    assert (status == 403) == (b"MIEN_CORS_ORIGINS" in sent[1]["body"])
    return status


@pytest.mark.parametrize("headers", [FETCH, IMAGE, LINK, FRAME, FORM, SANDBOX, OTHER_PORT, OLD])
@pytest.mark.parametrize("path", ["/extract", "/v1/infer", "/apps", "/run", "/tasks/list", "/files", "/metrics"])
async def test_foreign_pages_are_refused(path: str, headers: dict[str, str]) -> None:
    kinds = ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=a", "image/png"]
    methods = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "INVENTED"]
    for method, kind in itertools.product(methods, kinds):
        assert await ask(method, path, {**headers, "content-type": kind}) == 403
        assert await ask(method, path, {**headers, "content-type": kind}, keys=True) == 200


@pytest.mark.parametrize("headers", [
    {}, OURS, {"sec-fetch-site": "none", "sec-fetch-mode": "navigate"}, {"origin": f"http://{HOST}"},
    {"origin": f"https://{HOST}"}, {"origin": f"HTTP://{HOST}"},
])  # fmt: skip
async def test_tools_and_the_servers_own_pages_are_not(headers: dict[str, str]) -> None:
    for method in ("GET", "POST", "DELETE"):
        assert await ask(method, "/run", headers) == 200


@pytest.mark.parametrize("headers", [
    {"sec-fetch-site": "cross-site", "origin": f"https://{HOST}"},  # the browser knows better
    {"sec-fetch-site": "invented"}, {"sec-fetch-site": ""}, {"origin": ""}, {"origin": HOST},
    {"origin": f"http://{HOST}.evil.example"}, {"origin": "http://127.0.0.1"}, {"origin": "http://localhost:8080"},
])  # fmt: skip
async def test_what_only_looks_like_the_servers_own_page_is_refused(headers: dict[str, str]) -> None:
    assert await ask("POST", "/run", headers) == 403


@pytest.mark.parametrize("site", [{}, {"sec-fetch-site": "cross-site"}, {"sec-fetch-site": "same-site"}])
async def test_origins_that_the_operator_names_are_let_in(site: dict[str, str]) -> None:
    listed = {"cors_origins": "https://evil.example, null"}
    assert await ask("POST", "/run", {**site, "origin": FOREIGN}, **listed) == 200
    assert await ask("POST", "/run", {**site, "origin": "null"}, **listed) == 200
    assert await ask("POST", "/run", {**site, "origin": "https://other.example"}, **listed) == 403
    public = {"public_url": "https://faces.example/base"}
    assert await ask("POST", "/run", {**site, "origin": "https://faces.example"}, **public) == 200
    assert await ask("POST", "/run", {**site, "origin": "http://faces.example"}, **public) == 403
    assert await ask("POST", "/run", {**site, "origin": FOREIGN}, cors_origins="*") == 200
    assert await ask("GET", "/draw", IMAGE, **listed) == 403  # it does not say which page


@pytest.mark.parametrize(("method", "path", "headers", "status"), [
    ("GET", "/", LINK, 200), ("GET", "/docs", LINK, 200), ("GET", "/", FRAME, 403), ("GET", "/docs", FETCH, 403),
    ("POST", "/", FORM, 403), ("GET", "/openapi.json", LINK, 403), ("GET", "/tasks", LINK, 403),
    ("GET", "/livez", FETCH, 200), ("HEAD", "/readyz", FETCH, 200), ("GET", "/health", IMAGE, 200),
    ("POST", "/health", FETCH, 403), ("GET", "/v1/health", FETCH, 403),
    ("GET", f"{FILE}?expires=1&signature=a", IMAGE, 200), ("HEAD", FILE, IMAGE, 200), ("PUT", FILE, FETCH, 200),
    ("DELETE", FILE, FETCH, 403), ("GET", FILE.rpartition("/")[0], FETCH, 403), ("POST", FILE, FETCH, 403),
    ("GET", FILE, {**FETCH, "authorization": "Bearer x"}, 403), ("OPTIONS", "/run", FETCH, 200),
])  # fmt: skip
async def test_what_tells_nothing_or_brings_its_right_is_open(
    method: str, path: str, headers: dict[str, str], status: int
) -> None:
    assert await ask(method, path, headers) == status
