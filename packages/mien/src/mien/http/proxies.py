"""Requests through proxies: who the client is, under which address it sees this server, and below which path.

A proxy says so in `X-Forwarded-*` headers, and so could everybody else: only MIEN_TRUSTED_PROXIES are believed. The
rest of the server sees the request as the client sent it to the proxy, but for the prefix of the path, which comes back
only where URLs are made.
"""

import ipaddress
import re
from collections.abc import Iterable
from functools import lru_cache
from urllib.parse import quote, urlsplit

from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from mien.hosts import address_of, split_authority
from mien.settings import Listening

_HOST = re.compile(rb"(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::\d{1,5})?")
_PREFIX = re.compile(r"(?:/[A-Za-z0-9._~-]+)+")
_SECURE = frozenset({"https", "wss"})
_INSECURE = frozenset({"http", "ws"})


class TrustedProxies:
    """ASGI middleware, the outermost: replaces the client's address, scheme and host, and takes the prefix away."""

    def __init__(self, app: ASGIApp, listening: Listening) -> None:
        self._app = app
        self._networks = tuple(ipaddress.ip_network(text) for text in listening.trusted_proxies)
        self._public_prefix = _clean_prefix(urlsplit(listening.public_url or "").path)
        self._trusts = lru_cache(maxsize=1024)(self._is_trusted)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            prefix = self._public_prefix
            # A proxy may leave the prefix of the public URL in the path or remove it.
            if prefix and (scope["path"] == prefix or scope["path"].startswith(f"{prefix}/")):
                _set_path(scope, scope["path"][len(prefix) :] or "/")
            client = scope.get("client")
            if self._networks and client and self._trusts(client[0]):
                prefix = self._believe(scope) or prefix
            scope.setdefault("state", {})["prefix"] = prefix
        await self._app(scope, receive, send)

    def _believe(self, scope: Scope) -> str:
        """Apply what the proxy says, except for values that cannot be meant; return the prefix."""
        said = _forwarded(scope["headers"])
        if b"x-forwarded-for" in said:
            address = self._client(said[b"x-forwarded-for"])
            if address is not None:
                scope["client"] = (address, 0)
        scheme = _last(said.get(b"x-forwarded-proto")).lower()
        if scheme in _SECURE | _INSECURE:
            plain, secure = ("ws", "wss") if scope["type"] == "websocket" else ("http", "https")
            scope["scheme"] = secure if scheme in _SECURE else plain
        host = _last(said.get(b"x-forwarded-host")).encode("latin-1")
        if _HOST.fullmatch(host):
            received = next((value for name, value in scope["headers"] if name == b"host"), b"")
            scope.setdefault("state", {})["received_host"] = received.decode("latin-1")
            scope["headers"] = [(b"host", host), *(pair for pair in scope["headers"] if pair[0] != b"host")]
        return _clean_prefix(_last(said.get(b"x-forwarded-prefix")))

    def _client(self, said: str) -> str | None:
        """The last address that no trusted proxy has: those before it are only what that client says."""
        address = None
        for text in reversed(said.split(",")):
            found = _address(text.strip())
            if found is None:
                break
            address = found
            if not self._trusts(found):
                break
        return address

    def _is_trusted(self, address: str) -> bool:
        found = address_of(address)  # IPv4 at a socket for both is mapped into IPv6
        return found is not None and any(found in network for network in self._networks)


class Prefixed:
    """ASGI middleware, the innermost: tells the framework the prefix, for redirects and the documentation's pages."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        prefix = prefix_of(scope)
        if prefix:  # in place: the middleware outside learns the route from this scope
            scope["root_path"] = prefix
            _set_path(scope, prefix + scope["path"])
        await self._app(scope, receive, send)


def prefix_of(scope: Scope) -> str:
    """The path below which the client sees this server; "" if that is the root."""
    prefix: str = scope.get("state", {}).get("prefix", "")
    return prefix


def received_host(scope: Scope) -> str | None:
    """The Host header that a trusted proxy's `X-Forwarded-Host` has replaced; None if none has."""
    host: str | None = scope.get("state", {}).get("received_host")
    return host


def base_url(request: HTTPConnection) -> str:
    """The URL under which the client reaches this server, without a slash at its end."""
    return f"{request.url.scheme}://{request.url.netloc}{prefix_of(request.scope)}"


def path_of(scope: Scope) -> str:
    """The request's path without the prefix."""
    path, prefix = scope["path"], prefix_of(scope)
    if prefix and scope.get("root_path", "").startswith(prefix):  # as `Prefixed` has told the framework
        path = path[len(prefix) :]
    return str(path)


def _set_path(scope: Scope, path: str) -> None:
    scope["path"] = path
    scope["raw_path"] = quote(path).encode()


def _forwarded(headers: Iterable[tuple[bytes, bytes]]) -> dict[bytes, str]:
    """The `X-Forwarded-*` headers; repeated ones are one list."""
    found: dict[bytes, str] = {}
    for name, value in headers:
        if name.startswith(b"x-forwarded-"):
            text = value.decode("latin-1")
            found[name] = f"{found[name]},{text}" if name in found else text
    return found


def _last(values: str | None) -> str:
    """What the nearest proxy has added to a list."""
    return (values or "").rpartition(",")[2].strip()


def _address(text: str) -> str | None:
    """An address as in `X-Forwarded-For`, some with a port or brackets."""
    host, _ = split_authority(text) or (text, None)
    address = address_of(host)
    return None if address is None else str(address)


def _clean_prefix(text: str) -> str:
    text = text.rstrip("/")
    return text if _PREFIX.fullmatch(text) and ".." not in text else ""
