"""Web pages of other origins: what a browser sends for them is refused while there are no API keys.

A browser lets any page send requests to any server, this machine's included, and adds whatever the server would take as
proof that the user is meant; without keys that is nothing at all. It also says, in headers that no page can set, which
page it was. With keys a page would have to know one, so nothing is refused then, except WebSockets: pages may open
those anywhere and read them without CORS having a say.
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
    """ASGI middleware: answers 403 to requests of foreign pages, before anything else looks at them."""

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
        """Whether a page sent the request that is neither this server's own nor one that the operator lists."""
        site, origin = headers.get("sec-fetch-site"), headers.get("origin")
        if "*" in self._listed or site in ("same-origin", "none"):
            return False
        if origin is None:  # an image tag, a script, a link; or, without either header, no browser
            return site is not None
        origin = origin.lower()
        if origin in self._listed or origin == self._public:
            return False
        # Where the browser does not judge, the page may still be ours, behind a proxy that speaks TLS for us.
        return site is not None or urlsplit(origin).netloc != headers.get("host", "").lower()


def _is_open(connection: HTTPConnection) -> bool:
    """Whether the request has no effect and tells nothing private, or brings its right in its URL."""
    method, path, headers = connection.scope["method"], connection.scope["path"], connection.headers
    if method == "OPTIONS":  # CORS preflights are answered elsewhere
        return True
    if _CONTENT.fullmatch(path):  # signed, or public: the route looks
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
