"""`POST /v1/infer` in front of the router.

Matching routes and FastAPI's own steps take several times as long as a small request's work. The same function stays in
the router, which documents it and answers other methods.
"""

from types import SimpleNamespace

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from mien.errors import MienError
from mien.http.lumen.bodies import CORRELATION_HEADER
from mien.http.lumen.envelope import MAX_ID_LENGTH
from mien.http.lumen.results import correlation
from mien.http.lumen.routes import PATH, infer

PATHS = (PATH, f"{PATH}/")
ROUTE = SimpleNamespace(path=PATH)  # what the metrics look at


class InferFirst:
    """ASGI middleware; everything but `POST /v1/infer` passes."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] not in PATHS or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        scope["route"] = ROUTE
        request = Request(scope, receive, send)
        try:
            response = await infer(request)
        except MienError as error:
            response = await scope["app"].exception_handlers[MienError](request, error)
            response.headers.update(correlation(_correlation_id(request)))
        await response(scope, receive, send)


def _correlation_id(request: Request) -> str:
    """That of a request that failed, perhaps before its body was read."""
    in_header = request.headers.get(CORRELATION_HEADER, "")[:MAX_ID_LENGTH]
    known: str = getattr(request.state, "correlation_id", "") or in_header or request.state.request_id
    return known
