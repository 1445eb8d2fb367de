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
ANYWHERE = "0.0.0.0"  # noqa: S104 - as an operator sets it


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
    status: int = (await answer(method, path, headers, keys=keys, **settings))[0]["status"]
    return status


async def answer(
    method: str,
    path: str,
    headers: dict[str, str],
    *,
    keys: bool = False,
    server: tuple[str, int | None] | None = None,
    **settings: Any,
) -> list[Any]:
    """The messages of one response. `server`: where the request arrived."""
    sent: list[Any] = []
    named = [(name.encode(), value.encode()) for name, value in {"host": HOST, **headers}.items()]
    path, _, query = path.partition("?")
    scope = {
        "type": "http", "method": method, "path": path, "query_string": query.encode(), "headers": named, "app": APP,
        "server": server,
    }  # fmt: skip

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        raise AssertionError("the body is not looked at")

    await guarded(keys, **settings)(scope, receive, send)
    assert (sent[0]["status"] == 403) == (b"MIEN_CORS_ORIGINS" in sent[1]["body"])
    return sent


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
    {"origin": f"https://{HOST}"}, {"origin": f"HTTP://{HOST}"}, {"origin": "http://localhost:8080"},
    {"origin": "http://[::1]:8080"}, {"origin": "http://localhost:18081"}, {"origin": "http://127.0.0.1:18081"},
    {"sec-fetch-site": "same-origin", "origin": "null"}, {"sec-fetch-site": "none", "origin": FOREIGN},
])  # fmt: skip
async def test_tools_and_the_servers_own_pages_are_not(headers: dict[str, str]) -> None:
    for method in ("GET", "POST", "DELETE"):
        assert await ask(method, "/run", headers) == 200


@pytest.mark.parametrize("headers", [
    {"sec-fetch-site": "cross-site", "origin": f"https://{HOST}"},  # the browser knows better
    {"sec-fetch-site": "invented"}, {"sec-fetch-site": ""}, {"origin": ""}, {"origin": HOST},
    {"origin": f"http://{HOST}.evil.example"}, {"origin": "http://127.0.0.1"}, {"origin": f"http://{HOST}@evil.example"},
    {"sec-fetch-site": "same-site", "origin": "http://127.0.0.1:18081"}, {"origin": "http://127.0.0.1:99999"},
    {"origin": "http://localhost.evil.example:8080"}, {"origin": "http://127.0.0.2:8080"}, {"origin": "null"},
    {"origin": "null", "host": ""}, {"origin": f"file://{HOST}"}, {"origin": f"http:{HOST}"},
])  # fmt: skip
async def test_what_only_looks_like_the_servers_own_page_is_refused(headers: dict[str, str]) -> None:
    assert await ask("POST", "/run", headers) == 403


@pytest.mark.parametrize("site", [{}, {"sec-fetch-site": "cross-site"}, {"sec-fetch-site": "same-site"}])
async def test_origins_that_the_operator_names_are_let_in(site: dict[str, str]) -> None:
    listed = {"cors_origins": "https://evil.example, null"}
    assert await ask("POST", "/run", {**site, "origin": FOREIGN}, **listed) == 200
    assert await ask("POST", "/run", {**site, "origin": "null"}, **listed) == 200
    assert await ask("POST", "/run", {**site, "origin": "https://other.example"}, **listed) == 403
    assert await ask("POST", "/run", {**site, "origin": FOREIGN}, cors_origins="*") == 200
    assert await ask("GET", "/draw", IMAGE, **listed) == 403  # it does not say which page


@pytest.mark.parametrize(("origin", "status"), [
    ("https://faces.example", 200), ("https://faces.example:443", 200), ("http://faces.example", 403),
    ("https://faces.example.evil.example", 403), ("https://faces.example:8443", 403),
])  # fmt: skip
async def test_the_public_url_is_this_server_s_own(origin: str, status: int) -> None:
    public = {"public_url": "https://faces.example/base"}
    assert await ask("POST", "/run", {"origin": origin}, **public) == status
    assert await ask("POST", "/run", {"origin": origin, "sec-fetch-site": "cross-site"}, **public) == 403


@pytest.mark.parametrize(("host", "server", "origin", "status"), [
    (ANYWHERE, ("192.168.0.7", 8080), "http://192.168.0.7:18081", 200),
    (ANYWHERE, ("192.168.0.7", 8080), "http://localhost:18081", 200),
    (ANYWHERE, ("192.168.0.7", 8080), "http://192.168.0.8:18081", 403),
    ("::", ("::ffff:192.168.0.7", 8080), "http://192.168.0.7:18081", 200),
    ("192.168.0.7", ("192.168.0.7", 8080), "http://192.168.0.7:18081", 200),
    ("192.168.0.7", ("192.168.0.7", 8080), "http://localhost:18081", 403),
    ("192.168.0.7", ("192.168.0.7", 8080), "http://192.168.0.7:9999", 403),
    ("faces.example", None, "http://faces.example:18081", 200),
    ("127.0.0.1", ("/run/mien.sock", None), "http://localhost:18081", 200),
])  # fmt: skip
async def test_a_page_of_an_address_where_the_server_listens_is_its_own(
    host: str, server: tuple[str, int | None] | None, origin: str, status: int
) -> None:
    """The request's own Host is another, as behind a proxy that replaces it."""
    sent = await answer("POST", "/run", {"origin": origin, "host": "upstream"}, server=server, host=host)
    assert sent[0]["status"] == status


async def test_the_port_that_the_system_chose_counts() -> None:
    page = {"origin": "http://localhost:40123", "host": "upstream"}
    assert (await answer("POST", "/run", page, server=("127.0.0.1", 40123), port=0))[0]["status"] == 200
    assert (await answer("POST", "/run", page, server=("127.0.0.1", 40124), port=0))[0]["status"] == 403


async def test_a_default_port_is_the_same_with_and_without_its_number() -> None:
    assert await ask("POST", "/run", {"origin": "https://faces.example", "host": "faces.example:443"}) == 200
    assert await ask("POST", "/run", {"origin": "http://faces.example:80", "host": "faces.example"}) == 200
    assert await ask("POST", "/run", {"origin": "http://faces.example", "host": "faces.example:443"}) == 403


PREFLIGHT = {**FETCH, "sec-fetch-mode": "cors", "access-control-request-method": "POST"}


@pytest.mark.parametrize("keys", [False, True])
@pytest.mark.parametrize("path", ["/extract", "/livez", "/", FILE])
async def test_a_preflight_that_nobody_allows_is_told_which_setting_would(path: str, keys: bool) -> None:
    for settings in ({}, {"cors_origins": "https://a.example"}):
        sent = await answer("OPTIONS", path, PREFLIGHT, keys=keys, **settings)
        assert sent[0]["status"] == 403
        assert b"MIEN_CORS_ORIGINS" in sent[1]["body"]
        assert b"https://evil.example" in sent[1]["body"]


async def test_a_preflight_with_an_unusual_method_is_told_which_are_usual() -> None:
    sent = await answer(
        "OPTIONS", "/run", {**PREFLIGHT, "access-control-request-method": "PATCH"}, cors_origins="https://evil.example"
    )
    assert sent[0]["status"] == 405
    assert b"GET, POST, PUT, DELETE; got 'PATCH'" in sent[1]["body"]


@pytest.mark.parametrize(("listed", "framing"), [
    ("", "frame-ancestors 'self'"), ("https://a.example,null", "frame-ancestors 'self' https://a.example"),
])  # fmt: skip
async def test_pages_may_not_be_framed_where_the_browser_does_not_say_by_whom(listed: str, framing: str) -> None:
    headers = dict((await answer("GET", "/docs", {}, cors_origins=listed))[0]["headers"])
    assert headers[b"content-security-policy"] == framing.encode()
    assert b"content-security-policy" not in dict((await answer("GET", "/info", {}))[0]["headers"])
    assert b"content-security-policy" not in dict((await answer("GET", "/", {}, cors_origins="*"))[0]["headers"])


@pytest.mark.parametrize(("method", "path", "headers", "status"), [
    ("GET", "/", LINK, 200), ("GET", "/console/", LINK, 200), ("GET", "/console/", FRAME, 403),
    ("POST", "/console/", FORM, 403), ("GET", "/console/", IMAGE, 403),
    ("GET", "/docs", LINK, 200), ("GET", "/", FRAME, 403), ("GET", "/docs", FETCH, 403),
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
