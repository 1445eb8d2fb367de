"""Cross-origin resource sharing: the headers that let pages of the listed origins read responses, and no others."""

from collections.abc import Sequence

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

METHODS = ("GET", "POST", "PUT", "DELETE")
"""What pages may send; HEAD needs no permission."""
EXPOSED_HEADERS = ("Retry-After", "X-Correlation-Id", "X-Request-Id", "X-Result-Meta", "X-Result-Schema")


class Cors(CORSMiddleware):
    """ASGI middleware, around everything else: error responses need the headers, too.

    A preflight that it would reject goes on to `OriginGuard`, whose error tells the page's developer what to set. A
    response to an origin that is not listed gets none of the headers.
    """

    def __init__(self, app: ASGIApp, origins: Sequence[str]) -> None:
        super().__init__(
            app,
            allow_origins=origins,
            allow_methods=METHODS,
            allow_headers=["*"],
            # The operator listed the origin, so that the server's address is not a secret from it.
            allow_private_network=True,
            expose_headers=EXPOSED_HEADERS,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and is_preflight(scope["method"], headers := Headers(scope=scope)):
            allowed = self.is_allowed_origin(headers["origin"])
            if not allowed or headers["access-control-request-method"] not in METHODS:
                await self.simple_response(scope, receive, send, request_headers=headers)
                return
        await super().__call__(scope, receive, send)

    async def send(self, message: Message, send: Send, request_headers: Headers) -> None:
        origin = request_headers.get("origin")
        if message["type"] == "http.response.start" and origin is not None and not self.is_allowed_origin(origin):
            message.setdefault("headers", [])
            MutableHeaders(scope=message).add_vary_header("Origin")
            await send(message)
            return
        await super().send(message, send, request_headers)


def is_preflight(method: str, headers: Headers) -> bool:
    """Whether a browser asks if a page may send another request."""
    return method == "OPTIONS" and "origin" in headers and "access-control-request-method" in headers
