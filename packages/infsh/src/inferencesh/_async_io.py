"""The I/O of the asyncio client. `_sync_io` has the same names, so that `_async` can be translated to `_sync`."""

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TypeVar

import httpx2

from inferencesh._content import Body
from inferencesh._messages import Request, Response
from inferencesh._steps import Connect, Send
from inferencesh._transport import LIMITS, options_of, response_of, timeout_of, translated

T = TypeVar("T")
R = TypeVar("R")
sleep = asyncio.sleep


class StreamConnection:
    """One connection, read incrementally."""

    def __init__(self, step: Connect, response: httpx2.Response, head: Response) -> None:
        self.head = head
        self._request = step.request
        self._response = response
        self._chunks = response.aiter_raw()

    async def receive(self, seconds: float) -> bytes:
        """The next bytes; empty at the end."""
        with translated(self._request, seconds):
            async with asyncio.timeout(None if math.isinf(seconds) else seconds):
                return await anext(self._chunks, b"")

    async def close(self) -> None:
        with contextlib.suppress(httpx2.HTTPError):
            await self._response.aclose()


class Connections:
    """The connections of one client, opened on first use, and reopened in another event loop."""

    def __init__(self, base_url: str) -> None:
        self._base_url = base_url
        self._http: httpx2.AsyncClient | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def send(self, step: Send) -> Response:
        """Raises InferenceConnectionError, InferenceTimeout, UploadError."""
        request = step.request
        # The duration of an upload is not limited, only the time without progress.
        unbounded = _is_upload(request) or math.isinf(step.seconds)
        with translated(request, step.seconds):
            async with asyncio.timeout(None if unbounded else step.seconds):
                response = await self._open().request(
                    request.method,
                    request.url,
                    headers=dict(request.headers),
                    content=_content(request),
                    timeout=timeout_of(step.seconds),
                )
            return response_of(response, response.content)

    async def stream(self, step: Connect) -> StreamConnection:
        """Send a request and keep its connection open. Raises InferenceConnectionError, InferenceTimeout."""
        http, request = self._open(), step.request
        with translated(request, step.seconds):
            built = http.build_request(
                request.method, request.url, headers=dict(request.headers), content=_content(request)
            )
            async with asyncio.timeout(None if math.isinf(step.seconds) else step.seconds):
                response = await http.send(built, stream=True)
                try:
                    body = b"" if response.is_success else await response.aread()
                except BaseException:
                    await response.aclose()
                    raise
        return StreamConnection(step, response, response_of(response, body))

    async def close(self) -> None:
        """Close all connections. The next request opens new ones."""
        http, self._http = self._http, None
        if http is not None and self._loop is asyncio.get_running_loop():
            await http.aclose()

    def _open(self) -> httpx2.AsyncClient:
        loop = asyncio.get_running_loop()
        if self._http is None or self._loop is not loop:
            self._http, self._loop = httpx2.AsyncClient(limits=LIMITS, timeout=None, **options_of(self._base_url)), loop
        return self._http


async def in_thread(work: Callable[[], T]) -> T:
    """The result of work that would block the event loop."""
    return await asyncio.to_thread(work)


async def gather(run: Callable[[T], Awaitable[R]], items: Sequence[T], at_once: int) -> list[R]:
    """The results of `run` for each item, in order, or its first error; at most `at_once` run concurrently."""
    free = asyncio.Semaphore(at_once)

    async def one(item: T) -> R:
        async with free:
            return await run(item)

    running = [asyncio.create_task(one(item)) for item in items]
    try:
        return await asyncio.gather(*running)
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


def _is_upload(request: Request) -> bool:
    return not isinstance(request.body, bytes | None)


def _content(request: Request) -> bytes | AsyncIterator[bytes] | None:
    return request.body if isinstance(request.body, bytes | None) else _pieces(request.body)


async def _pieces(body: Body) -> AsyncIterator[bytes]:
    """A body's bytes, read in a thread, so that a slow disk does not block the event loop."""
    pieces = body.pieces()
    end = object()
    try:
        while (piece := await asyncio.to_thread(next, pieces, end)) is not end:
            yield piece  # type: ignore[misc]  # the sentinel is not a chunk
    finally:
        pieces.close()  # type: ignore[attr-defined]  # it is a generator
