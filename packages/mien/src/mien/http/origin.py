"""Web pages of other origins: requests that a browser sends for them are rejected while there are no API keys.

A browser lets any page send requests to any server, including one on this machine, and without keys nothing else tells
a page's requests from the user's. But the browser says, in headers that no page can set, which page a request comes
from. With keys a page would have to know one, so nothing is rejected then, except WebSockets: pages may open them to
any server and read them, since CORS does not apply to them.
"""

import re
import secrets
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection, Request
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from mien.errors import Forbidden, MienError
from mien.http.errors import error_response
from mien.settings import Listening

_STATUS = frozenset({"/livez", "/readyz", "/health"})
_PAGES = frozenset({"/", "/docs", "/redoc"})
_CONTENT = re.compile(r"/files/[^/]+/.+")
_READS = frozenset({"GET", "HEAD"})


class OriginGuard:
    """ASGI middleware: rejects requests of foreign pages with 403, before anything else handles them."""

    def __init__(self, app: ASGIApp, listening: Listening, has_keys: Callable[[], bool]) -> None:
        self._app = app
        self._listed = frozenset(origin.lower().rstrip("/") for origin in listening.cors_origins)
        self._public = _origin_of(listening.public_url)
        self._has_keys = has_keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        connection = HTTPConnection(scope)
        try:
            self._check(connection)
        except MienError as error:
            await _refuse(error, scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _check(self, connection: HTTPConnection) -> None:
        """Raises Forbidden. The keys are looked up last: the headers alone let every tool pass."""
        if not self._is_foreign(connection.headers):
            return
        if connection.scope["type"] == "http" and (_is_open(connection) or self._has_keys()):
            return
        origin = connection.headers.get("origin")
        page = "pages of other origins" if origin is None else f"pages of {origin[:80]!r}"
        raise Forbidden(f"{page} may not use this server; see MIEN_CORS_ORIGINS")

    def _is_foreign(self, headers: Mapping[str, str]) -> bool:
        """Whether the request comes from a page that is neither this server's own nor in MIEN_CORS_ORIGINS."""
        site, origin = headers.get("sec-fetch-site"), headers.get("origin")
        if "*" in self._listed or site in ("same-origin", "none"):
            return False
        if origin is None:  # an image, a script, a link; or, without both headers, not a browser
            return site is not None
        origin = origin.lower()
        if origin in self._listed or origin == self._public:
            return False
        # If the browser does not say, the page may still be ours, behind a proxy that terminates TLS.
        return site is not None or urlsplit(origin).netloc != headers.get("host", "").lower()


def _is_open(connection: HTTPConnection) -> bool:
    """Whether the request has no effect and reveals nothing private, or carries its authorisation in its URL."""
    method, path, headers = connection.scope["method"], connection.scope["path"], connection.headers
    if method == "OPTIONS":  # CORS preflights are handled elsewhere
        return True
    if _CONTENT.fullmatch(path):  # signed, or public: the route checks
        return method in {*_READS, "PUT"} and not {"authorization", "x-api-key"} & set(headers)
    if method not in _READS:
        return False
    is_link = headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest", "document") == "document"
    return path in _STATUS or (path in _PAGES and is_link)


def _origin_of(url: str | None) -> str | None:
    parts = urlsplit((url or "").lower())
    return f"{parts.scheme}://{parts.netloc}" if parts.netloc else None


async def _refuse(error: MienError, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        response = error_response(error, secrets.token_hex(8))
        await WebSocket(scope, receive, send).send_denial_response(response)
        return
    response = await scope["app"].exception_handlers[MienError](Request(scope, receive), error)
    await response(scope, receive, send)
