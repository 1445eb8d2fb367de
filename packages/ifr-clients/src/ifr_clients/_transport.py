"""httpx2, here and nowhere else: opening connections, sending one request, and its failures as this library's."""

import asyncio
import contextlib
import math
import time
from collections.abc import Iterator
from typing import TypeAlias

import httpx2

from ifr_clients._messages import Request, Response
from ifr_clients._retry import Send
from ifr_clients._server import Settings
from ifr_clients.errors import IFRConnectionError, IFRError, IFRResponseInvalid, IFRTimeout

SyncConnections: TypeAlias = httpx2.Client
AsyncConnections: TypeAlias = httpx2.AsyncClient
CONNECT_SECONDS = 10.0
# Servers close what is idle for 30 s (Mien) or 60 s (the original's): the client is first.
_LIMITS = httpx2.Limits(max_connections=None, max_keepalive_connections=100, keepalive_expiry=20.0)


def open_sync(settings: Settings) -> httpx2.Client:
    """A pool of connections for threads. Nothing is connected yet."""
    return httpx2.Client(limits=_LIMITS, verify=settings.verify, timeout=None)


def open_async(settings: Settings) -> httpx2.AsyncClient:
    """A pool of connections for one event loop. Nothing is connected yet."""
    return httpx2.AsyncClient(limits=_LIMITS, verify=settings.verify, timeout=None)


def send(http: httpx2.Client, step: Send) -> Response:
    """Raises IFRConnectionError, IFRTimeout, IFRResponseInvalid."""
    request, end = step.request, time.monotonic() + step.seconds
    with (
        _translated(step),
        http.stream(
            request.method, request.url, headers=request.headers, content=request.body, timeout=_timeout(step.seconds)
        ) as response,
    ):
        body = bytearray()
        for chunk in response.iter_bytes():
            body += chunk
            if time.monotonic() > end:  # a read has a limit of its own, but there may be many
                raise _too_late(step)
        return _response(response, bytes(body))


async def send_async(http: httpx2.AsyncClient, step: Send) -> Response:
    """Raises IFRConnectionError, IFRTimeout, IFRResponseInvalid."""
    request, seconds = step.request, None if math.isinf(step.seconds) else step.seconds
    with _translated(step):
        async with asyncio.timeout(seconds):
            response = await http.request(
                request.method,
                request.url,
                headers=request.headers,
                content=request.body,
                timeout=_timeout(step.seconds),
            )
        return _response(response, response.content)


def _timeout(seconds: float) -> httpx2.Timeout:
    rest = None if math.isinf(seconds) else seconds
    return httpx2.Timeout(rest, connect=min(CONNECT_SECONDS, seconds))


def _response(response: httpx2.Response, body: bytes) -> Response:
    return Response(response.status_code, {name.lower(): value for name, value in response.headers.items()}, body)


@contextlib.contextmanager
def _translated(step: Send) -> Iterator[None]:
    where = _place(step.request)
    try:
        yield
    except httpx2.ConnectTimeout as error:
        if step.seconds <= CONNECT_SECONDS:
            raise _too_late(step) from error
        raise IFRConnectionError(f"{where}: no connection within {CONNECT_SECONDS:g} s") from error
    except (httpx2.TimeoutException, TimeoutError) as error:
        if isinstance(error, IFRError):
            raise
        raise _too_late(step) from error
    except httpx2.ConnectError as error:
        raise IFRConnectionError(f"{where}: cannot connect: {_said(error)}. Does a server listen there?") from error
    except httpx2.DecodingError as error:
        raise IFRResponseInvalid(f"{where}: the answer's compression is damaged: {_said(error)}") from error
    except (httpx2.HTTPError, httpx2.StreamError) as error:
        raise IFRConnectionError(f"{where}: the connection broke: {_said(error)}") from error
    except httpx2.InvalidURL as error:
        raise IFRError(f"{where}: {_said(error)}") from error


def _place(request: Request) -> str:
    return f"{request.method} {request.url}"


def _said(error: Exception) -> str:
    return str(error) or type(error).__name__


def _too_late(step: Send) -> IFRTimeout:
    return IFRTimeout(f"{_place(step.request)}: no complete answer within {step.seconds:.3g} s")
