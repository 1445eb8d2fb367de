"""What HTTP asks of every route: HEAD wherever GET, and an Allow header that names every method of a path."""

from collections.abc import Iterable

from fastapi.routing import APIRoute, iter_route_contexts
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send


def allow_head(route: BaseRoute) -> None:
    """Let a GET route handle HEAD, too, as Starlette's own routes do."""
    if isinstance(route, APIRoute) and route.methods is not None and "GET" in route.methods:
        route.methods.add("HEAD")


def allowed_methods(routes: Iterable[BaseRoute], scope: Scope) -> list[str]:
    """The methods that any of the routes has for the request's path. Starlette itself names those of one route."""
    found: set[str] = set()
    for context in iter_route_contexts(list(routes)):
        if context.matches(scope)[0] is not Match.NONE:
            found |= context.methods or set()
    return sorted(found)


class HeadWithoutBody:
    """ASGI middleware: the response to HEAD is that to GET, Content-Length included, without its body."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return

        async def send_head(message: Message) -> None:
            if message["type"] != "http.response.body":
                await send(message)
            elif not message.get("more_body", False):
                await send({"type": "http.response.body", "body": b""})

        await self._app(scope, receive, send_head)
