"""Whose X-Forwarded-* headers are believed, and what follows from them."""

import asyncio
from pathlib import Path
from typing import Any

import httpx2
import pytest
from pydantic import ValidationError
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from mien.app import create_app
from mien.http.proxies import Prefixed, TrustedProxies, base_url, path_of, prefix_of
from mien.settings import Listening, Settings, Variables

SAID = {
    "x-forwarded-for": "203.0.113.7",
    "x-forwarded-proto": "https",
    "x-forwarded-host": "faces.example:8443",
    "x-forwarded-prefix": "/mien",
}


def seen(
    headers: dict[str, str],
    *,
    peer: str | None = "10.0.0.1",
    path: str = "/extract",
    kind: str = "http",
    **settings: Any,
) -> Scope:
    """The request as the application sees it behind both middlewares."""
    found: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        found.append(scope)

    scope = {
        "type": kind,
        "scheme": "http" if kind == "http" else "ws",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(b"host", b"127.0.0.1:8080"), *((name.encode(), text.encode()) for name, text in headers.items())],
        "client": None if peer is None else (peer, 40000),
        "server": ("127.0.0.1", 8080),
    }
    listening = Listening.model_validate(settings)
    asyncio.run(TrustedProxies(Prefixed(app), listening)(scope, None, None))  # type: ignore[arg-type]
    return found[0]


def base(scope: Scope) -> str:
    return base_url(Request(scope))


@pytest.mark.parametrize("peer", ["127.0.0.1", "::1", "10.0.0.1", None])
def test_by_default_nobody_is_believed(peer: str | None) -> None:
    scope = seen(SAID, peer=peer)
    assert scope["client"] == (None if peer is None else (peer, 40000))
    assert base(scope) == "http://127.0.0.1:8080"
    assert scope["path"] == "/extract"


@pytest.mark.parametrize(
    ("peer", "trusted", "believed"),
    [
        ("10.0.0.1", ("10.0.0.1",), True),
        ("10.0.0.1", ("10.0.0.0/8",), True),
        ("10.0.0.1", ("192.168.0.0/16", "10.0.0.0/8"), True),
        ("10.0.0.1", ("10.0.0.2",), False),
        ("::1", ("::1",), True),
        ("::ffff:10.0.0.1", ("10.0.0.0/8",), True),
        ("fd00::5", ("fd00::/8",), True),
        ("not an address", ("10.0.0.0/8",), False),
        (None, ("0.0.0.0/0",), False),
    ],
)
def test_proxies_are_addresses_and_networks(peer: str | None, trusted: tuple[str, ...], believed: bool) -> None:
    scope = seen(SAID, peer=peer, trusted_proxies=trusted)
    assert (base(scope) == "https://faces.example:8443/mien") is believed
    assert (scope["client"] == ("203.0.113.7", 0)) is believed


@pytest.mark.parametrize(
    ("said", "client"),
    [
        ("198.51.100.1, 203.0.113.7", "203.0.113.7"),
        ("198.51.100.1, 203.0.113.7, 10.0.0.9", "203.0.113.7"),
        ("10.0.0.8, 10.0.0.9", "10.0.0.8"),
        ("203.0.113.7:5000", "203.0.113.7"),
        ("[2001:db8::1]:5000", "2001:db8::1"),
        ("2001:db8::1", "2001:db8::1"),
        ("unknown", "10.0.0.1"),
        ("203.0.113.7, unknown", "10.0.0.1"),
        ("", "10.0.0.1"),
    ],
)
def test_the_client_is_the_last_that_is_no_proxy(said: str, client: str) -> None:
    assert seen({"x-forwarded-for": said}, trusted_proxies=("10.0.0.0/8",))["client"][0] == client


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("x-forwarded-host", "a b"),
        ("x-forwarded-host", "evil.example/path"),
        ("x-forwarded-host", "user@evil.example"),
        ("x-forwarded-proto", "javascript"),
        ("x-forwarded-prefix", "//evil.example"),
        ("x-forwarded-prefix", "/a/../b"),
        ("x-forwarded-prefix", "mien"),
        ("x-forwarded-prefix", "/a?b"),
        ("x-forwarded-prefix", "/"),
    ],
)
def test_what_cannot_be_meant_is_ignored(header: str, value: str) -> None:
    assert base(seen({header: value}, trusted_proxies=("10.0.0.0/8",))) == "http://127.0.0.1:8080"


def test_of_a_list_the_nearest_proxy_is_believed() -> None:
    said = {"x-forwarded-proto": "http, https", "x-forwarded-host": "evil.example, faces.example"}
    assert base(seen(said, trusted_proxies=("10.0.0.0/8",))) == "https://faces.example"


def test_websockets_have_their_own_schemes() -> None:
    scope = seen({"x-forwarded-proto": "https"}, kind="websocket", trusted_proxies=("10.0.0.0/8",))
    assert scope["scheme"] == "wss"


@pytest.mark.parametrize("path", ["/extract", "/", "/mien/extract", "/mien"])
def test_a_prefix_that_the_proxy_removed_is_put_back_for_the_framework_only(path: str) -> None:
    scope = seen(SAID, path=path, trusted_proxies=("10.0.0.0/8",))
    assert (scope["root_path"], scope["path"], path_of(scope), prefix_of(scope)) == (
        "/mien",
        f"/mien{path}",
        path,
        "/mien",
    )


@pytest.mark.parametrize(
    ("path", "inside"),
    [("/extract", "/extract"), ("/mien/extract", "/extract"), ("/mien", "/"), ("/mien/", "/"), ("/mienx", "/mienx")],
)
def test_the_public_urls_path_may_be_there_or_removed(path: str, inside: str) -> None:
    scope = seen({}, path=path, public_url="https://faces.example/mien/")
    assert (scope["path"], path_of(scope)) == (f"/mien{inside}", inside)


@pytest.mark.parametrize("path", ["", "/mien"])
def test_the_documentation_stays_below_the_public_urls_path(tmp_path: Path, path: str) -> None:
    app = create_app(Settings(data_dir=tmp_path, public_url="https://faces.example/mien"))

    async def get(what: str) -> httpx2.Response:
        transport = httpx2.ASGITransport(app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1:8080") as client:
            return await client.get(f"{path}{what}")

    assert asyncio.run(get("/")).headers["location"] == "/mien/docs"
    page = asyncio.run(get("/docs")).text
    assert "'/mien/openapi.json'" in page
    assert '"/mien/static-offline-docs/swagger-ui-bundle.js"' in page
    assert asyncio.run(get("/static-offline-docs/swagger-ui.css")).status_code == 200
    assert asyncio.run(get("/openapi.json")).json()["servers"][0]["url"] == "/mien"
    assert asyncio.run(get("/nowhere")).json()["message"] == "GET /nowhere: Not Found"


@pytest.mark.parametrize("text", ["10.0.0.1/8", "localhost", "*", "10.0.0.0/33"])
def test_what_is_no_network_is_refused_at_the_start(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("MIEN_TRUSTED_PROXIES", f"127.0.0.1, {text}")
    with pytest.raises(ValidationError, match="expected an address or a network"):
        Variables()


@pytest.mark.parametrize(
    ("host", "forwarded", "allowed"),
    [
        ("127.0.0.1:8080", None, True),
        ("[::1]:8080", None, True),
        ("faces.example", None, True),
        ("evil.example:8080", None, False),
        ("[::1].evil.example", None, False),
        ("[::1]evil.example:8080", None, False),
        ("evil.example:8080", "localhost", False),
        ("evil.example:8080", "faces.example", False),
        ("evil.localhost.example", "localhost", False),
        ("[::1].evil.example", "localhost", False),
        ("localhost", "evil.example", False),
        ("localhost:8080", "localhost", True),
        ("faces.example", "faces.example", True),
        ("mien", "faces.example", True),  # the name of nginx's upstream
        ("10.0.0.5:8080", "faces.example", True),
    ],
)
def test_without_keys_both_hosts_must_be_allowed(
    tmp_path: Path, host: str, forwarded: str | None, allowed: bool
) -> None:
    app = create_app(Settings(data_dir=tmp_path, public_url="https://faces.example", trusted_proxies=("127.0.0.1",)))
    headers = {"host": host} | ({} if forwarded is None else {"x-forwarded-host": forwarded})

    async def get() -> httpx2.Response:
        transport = httpx2.ASGITransport(app, raise_app_exceptions=False)
        async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1:8080") as client:
            return await client.get("/apps/none/none", headers=headers)

    answer = asyncio.run(get())
    assert (answer.status_code != 403) is allowed, answer.text
