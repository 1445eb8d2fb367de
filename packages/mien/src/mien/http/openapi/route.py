"""`GET /openapi.json`: the document is made when it is first asked for, in a thread."""

import asyncio
from typing import Any

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mien.http.openapi.document import document


def serve_document(app: FastAPI) -> None:
    """Let the application describe its routes as `document` does. Call it before other routes are added.

    FastAPI's own handler, which adds the prefix of a proxy, would make the document on the event loop, and hold up all
    other requests for a quarter of a second.
    """

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = document(app.title, app.version, app.description, app.routes)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]
    (original,) = (route for route in app.routes if isinstance(route, Route) and route.path == app.openapi_url)
    one_at_a_time = asyncio.Lock()

    async def respond(request: Request) -> Response:
        async with one_at_a_time:
            await asyncio.to_thread(app.openapi)
        response: Response = await original.endpoint(request)
        return response

    app.routes.remove(original)
    app.add_route(original.path, respond, include_in_schema=False)
