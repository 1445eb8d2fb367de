"""Who gets in: API keys, scopes, and the loopback rule."""

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from mien.app import create_app
from mien.keys import FileKeyStore
from mien.settings import Settings
from testing.waiting import eventually

Serve = Callable[..., Any]
GUARDED = [
    ("POST", "/extract"), ("POST", "/compare"), ("POST", "/draw_detections"), ("POST", "/multipart/extract"),
    ("POST", "/multipart/draw_detections"), ("GET", "/info"), ("GET", "/metrics"),
]  # fmt: skip


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


@pytest.mark.parametrize(("method", "route"), GUARDED)
@pytest.mark.parametrize(
    "headers",
    [{}, bearer("mien_wrong"), {"X-API-Key": "x"}, {"Authorization": "Basic bWllbjp4"}, {"Authorization": "Bearer"}],
)
def test_without_a_known_key_every_route_is_401(keyed: Any, method: str, route: str, headers: dict[str, str]) -> None:
    response = keyed.client.request(method, route, headers=headers)
    assert (response.status_code, response.json()["error"]["code"]) == (401, "unauthorized")
    assert response.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(("method", "route"), GUARDED)
def test_a_key_without_the_scope_is_403(keyed: Any, method: str, route: str) -> None:
    response = keyed.client.request(method, route, headers=bearer(keyed.admin))
    assert (response.status_code, response.json()["error"]["code"]) == (403, "forbidden")


@pytest.mark.parametrize(("method", "route"), GUARDED)
@pytest.mark.parametrize("way", ["Authorization: Bearer", "Authorization: bearer", "X-API-Key:"])
def test_a_good_key_gets_in_either_way(keyed: Any, method: str, route: str, way: str) -> None:
    name, _, kind = way.partition(":")
    response = keyed.client.request(method, route, headers={name: f"{kind} {keyed.infer}".strip()})
    assert response.status_code in (200, 415, 422)


@pytest.mark.parametrize("route", ["/livez", "/readyz", "/health", "/docs", "/openapi.json"])
def test_what_tells_nothing_needs_no_key(keyed: Any, route: str) -> None:
    assert keyed.client.get(route).status_code == 200


def test_a_stranger_s_body_is_not_read(keyed: Any) -> None:
    response = keyed.client.post("/extract", content=b"\xc1" * 1000, headers={"Content-Type": "application/msgpack"})
    assert response.status_code == 401


def test_with_keys_any_host_name_is_fine(keyed: Any) -> None:
    response = keyed.client.get("/info", headers={"Host": "faces.example.org", **bearer(keyed.infer)})
    assert response.status_code == 200


def test_a_revoked_key_is_out_without_a_restart(keyed: Any) -> None:
    store = FileKeyStore(keyed.data_dir)
    key, secret = store.create("short-lived", ["infer"])
    assert keyed.client.get("/info", headers=bearer(secret)).status_code == 200
    store.revoke(key.id)
    assert keyed.client.get("/info", headers=bearer(secret)).status_code == 401


def test_a_damaged_key_file_lets_nobody_in(keyed: Any) -> None:
    file = keyed.data_dir / "keys.json"
    good = file.read_bytes()
    file.write_bytes(good[:-5])
    try:
        for headers in ({}, bearer(keyed.infer)):
            response = keyed.client.get("/info", headers=headers)
            assert (response.status_code, response.json()["error"]["code"]) == (500, "internal")
            assert str(keyed.data_dir) not in response.text
        ready = keyed.client.get("/readyz")
        assert (ready.status_code, ready.json()["status"]) == (503, "failing")
        assert "keys.json" in ready.json()["reason"]
    finally:
        file.write_bytes(good)
    assert keyed.client.get("/readyz").status_code == 200
    assert keyed.client.get("/info", headers=bearer(keyed.infer)).status_code == 200


def test_no_secret_is_ever_logged(keyed: Any, photo: bytes) -> None:
    _, secret = FileKeyStore(keyed.data_dir).create("logged", ["infer"])
    keyed.client.get("/info", headers=bearer(secret))
    keyed.client.get("/info", headers={"X-API-Key": secret + "x"})
    body = {"images": {"data": [base64.b64encode(photo).decode()]}}
    answer = keyed.client.post("/extract", json=body, headers=bearer(secret))
    assert answer.status_code == 200
    eventually(lambda: answer.headers["x-request-id"] in keyed.server.log)  # written after the answer
    assert secret not in keyed.server.log


# --- without keys


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.0.0.1:80", "[::1]", "[::1]:99", "faces.localhost"])
def test_without_keys_loopback_names_are_let_in(client: httpx2.Client, host: str) -> None:
    assert client.get("/info", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8080", "localhost.evil.example", "127.0.0.1.evil.example", "10.0.0.1", "0.0.0.0"],  # noqa: S104
)
@pytest.mark.parametrize(("method", "route"), GUARDED)
def test_without_keys_other_host_names_are_forbidden(client: httpx2.Client, host: str, method: str, route: str) -> None:
    response = client.request(method, route, headers={"Host": host})
    assert (response.status_code, response.json()["error"]["code"]) == (403, "forbidden")


@pytest.mark.parametrize("host", ["[", "[::1", "]", "a b", "user@localhost", "localhost/x", ":80", "[localhost]x", ""])
def test_a_malformed_host_is_refused_not_failed_on(client: httpx2.Client, host: str) -> None:
    response = client.get("/info", headers={"Host": host})
    assert response.status_code in (200, 400, 403), response.text


def test_beyond_loopback_a_server_without_keys_does_not_start(mien: Callable[..., Any]) -> None:
    for host in ("0.0.0.0", "::"):  # noqa: S104
        result = mien("serve", "--host", host, "--port", "0")
        assert result.returncode == 1
        assert "mien keys create" in result.stderr
        assert "--no-auth" in result.stderr
        assert "Traceback" not in result.stderr


@pytest.mark.full
def test_no_auth_opens_it_on_purpose(serve: Serve, light: dict[str, str]) -> None:
    server = serve("--host", "0.0.0.0", "--no-auth", **light)  # noqa: S104
    assert server.client.get("/info", headers={"Host": "faces.example.org"}).status_code == 200


async def test_beyond_loopback_losing_the_last_key_lets_nobody_in(tmp_path: Path) -> None:
    """A remote caller chooses its own Host header: that proves nothing on an address that others can reach."""
    store = FileKeyStore(tmp_path)
    key, secret = store.create("alice", ["infer"])
    transport = httpx2.ASGITransport(create_app(Settings(host="0.0.0.0", data_dir=tmp_path)))  # noqa: S104
    async with httpx2.AsyncClient(transport=transport, base_url="http://0.0.0.0") as client:
        assert (await client.get("/metrics", headers=bearer(secret))).status_code == 200
        store.revoke(key.id)
        for host in ("localhost", "127.0.0.1", "0.0.0.0"):  # noqa: S104
            assert (await client.get("/metrics", headers={"Host": host})).status_code == 401
        (tmp_path / "keys.json").unlink()
        assert (await client.get("/metrics", headers={"Host": "localhost"})).status_code == 401
