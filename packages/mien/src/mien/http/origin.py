"""Web pages of other origins: requests that a browser sends for them are rejected while there are no API keys.

A browser lets any page send requests to any server, including one on this machine, and without keys nothing else tells
a page's requests from the user's. But the browser says, in headers that no page can set, which page a request comes
from. With keys a page would have to know one, so nothing is rejected then, except WebSockets: pages may open them to
any server and read them, since CORS does not apply to them.

A request with neither header is a program's, or a GET of a browser: one from before 2023, or any browser on a plain
http address beyond loopback, which is sent no `Sec-Fetch-Site`. No GET has an effect or runs a model, and browsers let
no page read the response, so the only harm would be a framed page that the user is made to click on: pages say that
they may not be framed. (`GET /health` runs models, but is open anyway, and many requests share one run.)
"""

import re
import secrets
from collections.abc import Callable
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from mien.config.origins import parse_origin
from mien.errors import Forbidden, MethodNotAllowed, MienError
from mien.hosts import ANY_ADDRESS, LOOPBACK, is_loopback, same_spelling
from mien.http.cors import METHODS, is_preflight
from mien.http.errors import error_response
from mien.settings import Listening

_STATUS = frozenset({"/livez", "/readyz", "/health"})
_PAGES = frozenset({"/", "/docs", "/redoc", "/console", "/console/"})
_CONTENT = re.compile(r"/files/[^/]+/.+")
_READS = frozenset({"GET", "HEAD"})
_LOOPBACK = frozenset({LOOPBACK, "127.0.0.1", "::1"})
"""Names of the same host; what listens on 127.0.0.2 may be somebody else's."""


class OriginGuard:
    """ASGI middleware: rejects requests of foreign pages with 403, before anything else handles them."""

    def __init__(self, app: ASGIApp, listening: Listening, has_keys: Callable[[], bool]) -> None:
        self._app = app
        self._listening = listening
        self._listed = frozenset(listening.cors_origins)
        public = urlsplit(listening.public_url or "")
        self._public = _address(f"{public.scheme}://{public.netloc}")
        self._has_keys = has_keys
        framing = " ".join(["'self'", *sorted(self._listed - {"null"})])
        self._framing = f"frame-ancestors {framing}"

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
        page = scope["type"] == "http" and scope["path"] in _PAGES
        await self._app(scope, receive, self._unframed(send) if page else send)

    def _check(self, connection: HTTPConnection) -> None:
        """Raises Forbidden, MethodNotAllowed. The keys are looked up last: the headers alone let every tool pass."""
        scope, headers = connection.scope, connection.headers
        if scope["type"] == "http" and is_preflight(scope["method"], headers):
            self._refuse_preflight(headers)
        if not self._is_foreign(connection):
            return
        if scope["type"] == "http" and (_is_open(connection) or self._has_keys()):
            return
        raise _foreign(headers.get("origin"))

    def _refuse_preflight(self, headers: Headers) -> None:
        """What is allowed was answered by `Cors`, if any origin is: the rest comes here."""
        method = headers["access-control-request-method"]
        if not self._is_listed(headers["origin"]):
            raise _foreign(headers["origin"])
        if method not in METHODS:
            raise MethodNotAllowed(f"pages of other origins may send {', '.join(METHODS)}; got {method[:40]!r}")

    def _is_foreign(self, connection: HTTPConnection) -> bool:
        """Whether the request comes from a page that is neither this server's own nor in MIEN_CORS_ORIGINS."""
        site, origin = connection.headers.get("sec-fetch-site"), connection.headers.get("origin")
        if "*" in self._listed or (origin is not None and self._is_listed(origin)):
            return False
        if site is not None:  # the browser knows whose page it is: nothing else can tell better
            return site not in ("same-origin", "none")
        return origin is not None and not self._is_own(origin, connection)

    def _is_listed(self, origin: str) -> bool:
        return "*" in self._listed or origin.lower() in self._listed

    def _is_own(self, origin: str, connection: HTTPConnection) -> bool:
        """Whether the origin is this server's, by the name in the request, its public URL or where it listens.

        The scheme says nothing: the page may be behind a proxy that terminates TLS.
        """
        page = _address(origin)
        if page is None:
            return False
        scheme = origin.partition(":")[0]
        named = _address(f"{scheme}://{connection.headers.get('host', '')}")
        return page in (named, self._public) or self._listens_on(page, connection.scope.get("server"))

    def _listens_on(self, page: tuple[str, int], server: tuple[str, int | None] | None) -> bool:
        """Whether this server listens on the address. `server`: the one at which the request arrived, if known."""
        host, port = server or ("", None)
        hosts = {_one_host(self._listening.host), _one_host(host)}
        if hosts & ANY_ADDRESS or any(is_loopback(name) for name in hosts):
            hosts.add(LOOPBACK)
        page_host, page_port = page
        return page_host in hosts - ANY_ADDRESS and page_port in {*self._listening.ports, port}

    def _unframed(self, send: Send) -> Send:
        """Only pages that are trusted anyway may frame the page: not every browser says who asks."""

        async def send_with_policy(message: Message) -> None:
            if message["type"] == "http.response.start" and "*" not in self._listed:
                MutableHeaders(scope=message).append("Content-Security-Policy", self._framing)
            await send(message)

        return send_with_policy


def _foreign(origin: str | None) -> Forbidden:
    page = "pages of other origins" if origin is None else f"pages of {origin[:80]!r}"
    return Forbidden(f"{page} may not use this server; see MIEN_CORS_ORIGINS")


def _is_open(connection: HTTPConnection) -> bool:
    """Whether the request has no effect and reveals nothing private, or carries its authorisation in its URL."""
    method, path, headers = connection.scope["method"], connection.scope["path"], connection.headers
    if method == "OPTIONS":  # no route has an effect
        return True
    if _CONTENT.fullmatch(path):  # signed, or public: the route checks
        return method in {*_READS, "PUT"} and not {"authorization", "x-api-key"} & set(headers)
    if method not in _READS:
        return False
    is_link = headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest", "document") == "document"
    return path in _STATUS or (path in _PAGES and is_link)


def _address(origin: str) -> tuple[str, int] | None:
    """Host and port of an http(s) origin; None for anything else, such as `null`."""
    found = parse_origin(origin)
    return None if found is None else (_one_host(found.host), found.port)


def _one_host(host: str) -> str:
    """The host in one spelling; one name for those of the loopback host."""
    host = same_spelling(host)
    return LOOPBACK if host in _LOOPBACK else host


async def _refuse(error: MienError, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        response = error_response(error, secrets.token_hex(8))
        await WebSocket(scope, receive, send).send_denial_response(response)
        return
    response = await scope["app"].exception_handlers[MienError](Request(scope, receive), error)
    await response(scope, receive, send)
