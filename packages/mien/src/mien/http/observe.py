"""The outermost layer of every request: id, log line, metrics, and the response to an unexpected exception."""

import re
import secrets
import time

import structlog
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mien.http.errors import RespondToBug
from mien.http.proxies import path_of
from mien.metrics import Metrics

log = structlog.get_logger()
_VALID_ID = re.compile(r"[A-Za-z0-9._:/-]{1,128}")


class Observe:
    """ASGI middleware. Takes the request id from `X-Request-Id` if it is valid, otherwise generates one."""

    def __init__(self, app: ASGIApp, metrics: Metrics, on_bug: RespondToBug) -> None:
        self._app = app
        self._on_bug = on_bug
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _request_id(scope)
        scope.setdefault("state", {})["request_id"] = request_id
        structlog.contextvars.bind_contextvars(request_id=request_id)
        started = time.perf_counter()
        status = 0

        async def observed_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", []), (b"x-request-id", request_id.encode())]
            await send(message)

        try:
            await self._app(scope, receive, observed_send)
        except Exception as error:
            if status:  # part of the response is sent: only closing the connection tells the client
                log.error("response broke off", exc_info=error)
                raise
            response = await self._on_bug(Request(scope), error)
            await response(scope, receive, observed_send)
        finally:
            self._record(scope, status, time.perf_counter() - started)
            structlog.contextvars.clear_contextvars()

    def _record(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "unmatched")
        self._metrics.requests.labels(route, _method(scope), status or 499).inc()
        self._metrics.latency.labels(route).observe(seconds)
        client = scope.get("client")
        log.info(
            "request",
            method=scope["method"],
            path=path_of(scope),
            client=client[0] if client else None,
            status=status or 499,
            ms=round(seconds * 1e3, 1),
        )


def _method(scope: Scope) -> str:
    """Only standard methods: clients must not be able to create metric labels."""
    method: str = scope["method"]
    return method if method in {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"} else "OTHER"


def _request_id(scope: Scope) -> str:
    given = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"").decode("latin-1")
    return given if _VALID_ID.fullmatch(given) else secrets.token_hex(8)
