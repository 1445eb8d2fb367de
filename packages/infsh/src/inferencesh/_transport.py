"""httpx2, here and nowhere else: sending one request, one connection that is read, and their failures as ours."""

import asyncio
import contextlib
import math
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import TypeAlias

import httpx2

from inferencesh._content import Content
from inferencesh._messages import Request, Response
from inferencesh._steps import Connect, Send
from inferencesh.errors import InferenceConnectionError, InferenceError, InferenceTimeout

SyncConnections: TypeAlias = httpx2.Client
AsyncConnections: TypeAlias = httpx2.AsyncClient
CONNECT_SECONDS = 10.0
# Servers close what is idle for 30 s (Mien) or longer: the client is first.
_LIMITS = httpx2.Limits(max_connections=None, max_keepalive_connections=100, keepalive_expiry=20.0)


def open_sync() -> httpx2.Client:
    """A pool of connections for threads. Nothing is connected yet."""
    return httpx2.Client(limits=_LIMITS, timeout=None)


def open_async() -> httpx2.AsyncClient:
    """A pool of connections for one event loop. Nothing is connected yet."""
    return httpx2.AsyncClient(limits=_LIMITS, timeout=None)


def send(http: httpx2.Client, step: Send) -> Response:
    """Raises InferenceConnectionError, InferenceTimeout, UploadError."""
    request = step.request
    body = request.body.pieces() if isinstance(request.body, Content) else request.body
    end = time.monotonic() + step.seconds
    with (
        _translated(request, step.seconds),
        http.stream(
            request.method, request.url, headers=dict(request.headers), content=body, timeout=_timeout(step.seconds)
        ) as response,
    ):
        data = bytearray()
        for chunk in response.iter_bytes():
            data += chunk
            if time.monotonic() > end and not isinstance(request.body, Content):
                raise _too_late(request, step.seconds)  # a read has a limit of its own, but there may be many
        return _response(response, bytes(data))


async def send_async(http: httpx2.AsyncClient, step: Send) -> Response:
    """Raises InferenceConnectionError, InferenceTimeout, UploadError."""
    request = step.request
    whole = isinstance(request.body, Content) or math.isinf(step.seconds)
    body = _pieces(request.body) if isinstance(request.body, Content) else request.body
    with _translated(request, step.seconds):
        async with asyncio.timeout(None if whole else step.seconds):
            response = await http.request(
                request.method, request.url, headers=dict(request.headers), content=body, timeout=_timeout(step.seconds)
            )
        return _response(response, response.content)


async def _pieces(content: Content) -> AsyncIterator[bytes]:
    """A content's bytes, read in a thread, so that a slow disk holds nobody up."""
    pieces = content.pieces()
    end = object()
    try:
        while (piece := await asyncio.to_thread(next, pieces, end)) is not end:
            yield piece  # type: ignore[misc]  # the end is no piece
    finally:
        pieces.close()  # type: ignore[attr-defined]  # it is a generator


class SyncLine:
    """One connection that is read as it goes."""

    def __init__(self, http: httpx2.Client, step: Connect) -> None:
        """Sends the request. Raises InferenceConnectionError, InferenceTimeout."""
        self._request = step.request
        self._knife: threading.Timer | None = None
        with _translated(step.request, step.seconds):
            built = http.build_request(
                step.request.method,
                step.request.url,
                headers=dict(step.request.headers),
                timeout=_timeout(step.seconds),
            )
            self._response = http.send(built, stream=True)
            try:
                body = b"" if self._response.is_success else self._response.read()
            except BaseException:
                self._response.close()
                raise
            self.head = _response(self._response, body)
            self._chunks = self._response.iter_raw()
            if step.lifetime is not None:
                # A read in progress knows only the limit that it began with.
                self._knife = threading.Timer(step.lifetime, _cut, [self._response])
                self._knife.daemon = True
                self._knife.start()

    def receive(self, seconds: float) -> bytes:
        """The next bytes; empty at the end."""
        with _translated(self._request, seconds):
            _patience(self._response.request, seconds)
            return next(self._chunks, b"")

    def close(self) -> None:
        if self._knife is not None:
            self._knife.cancel()
        with contextlib.suppress(httpx2.HTTPError):
            self._response.close()


class AsyncLine:
    """One connection that is read as it goes."""

    def __init__(self, request: Request, response: httpx2.Response, head: Response) -> None:
        self.head = head
        self._request = request
        self._response = response
        self._chunks = response.aiter_raw()

    @classmethod
    async def open(cls, http: httpx2.AsyncClient, step: Connect) -> "AsyncLine":
        """Sends the request. Raises InferenceConnectionError, InferenceTimeout."""
        with _translated(step.request, step.seconds):
            built = http.build_request(step.request.method, step.request.url, headers=dict(step.request.headers))
            async with asyncio.timeout(None if math.isinf(step.seconds) else step.seconds):
                response = await http.send(built, stream=True)
                try:
                    body = b"" if response.is_success else await response.aread()
                except BaseException:
                    await response.aclose()
                    raise
        return cls(step.request, response, _response(response, body))

    async def receive(self, seconds: float) -> bytes:
        """The next bytes; empty at the end."""
        with _translated(self._request, seconds):
            async with asyncio.timeout(None if math.isinf(seconds) else seconds):
                return await anext(self._chunks, b"")

    async def close(self) -> None:
        with contextlib.suppress(httpx2.HTTPError):
            await self._response.aclose()


def _cut(response: httpx2.Response) -> None:
    with contextlib.suppress(OSError):
        response.extensions["network_stream"].get_extra_info("socket").shutdown(socket.SHUT_RDWR)


def _patience(request: httpx2.Request, seconds: float) -> None:
    """Sets how long each read of the connection may take: the pool looks here before the first."""
    request.extensions["timeout"]["read"] = None if math.isinf(seconds) else seconds


def _timeout(seconds: float) -> httpx2.Timeout:
    rest = None if math.isinf(seconds) else seconds
    return httpx2.Timeout(rest, connect=min(CONNECT_SECONDS, seconds))


def _response(response: httpx2.Response, body: bytes) -> Response:
    return Response(response.status_code, {name.lower(): value for name, value in response.headers.items()}, body)


@contextlib.contextmanager
def _translated(request: Request, seconds: float) -> Iterator[None]:
    where = f"{request.method} {request.url.partition('?')[0]}"
    try:
        yield
    except InferenceError:
        raise
    except httpx2.ConnectTimeout as error:
        text = f"{where}: no connection within {min(CONNECT_SECONDS, seconds):.3g} s"
        raise InferenceConnectionError(text, sent=False) from error
    except (httpx2.TimeoutException, TimeoutError) as error:
        raise _too_late(request, seconds) from error
    except httpx2.ConnectError as error:
        text = f"{where}: cannot connect: {_said(error)}. Does a server listen there?"
        raise InferenceConnectionError(text, sent=False) from error
    except (httpx2.HTTPError, httpx2.StreamError) as error:
        raise InferenceConnectionError(f"{where}: the connection broke: {_said(error)}") from error
    except httpx2.InvalidURL as error:
        raise InferenceError(f"{where}: {_said(error)}") from error


def _said(error: Exception) -> str:
    return str(error) or type(error).__name__


def _too_late(request: Request, seconds: float) -> InferenceTimeout:
    return InferenceTimeout(f"{request.method} {request.url.partition('?')[0]}: no answer within {seconds:.3g} s")
