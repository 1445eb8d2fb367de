"""The I/O of the asyncio client. `_sync_io` has the same names, so that `_async` can be translated to `_sync`."""

import asyncio
import math
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable
from typing import Generic, TypeAlias, TypeVar

import httpx2

from ifr_clients._images import Image
from ifr_clients._messages import Response
from ifr_clients._retry import Send
from ifr_clients._server import Settings
from ifr_clients._transport import LIMITS, options_of, response_of, timeout_of, translated

T = TypeVar("T")
Images: TypeAlias = Iterable[Image] | AsyncIterable[Image]
ASYNCHRONOUS = True
sleep = asyncio.sleep


class Connections:
    """The connections of one client, opened on first use, and reopened in another event loop."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._http: httpx2.AsyncClient | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def open(self) -> httpx2.AsyncClient:
        """The connection pool. Creating it connects nothing."""
        loop = asyncio.get_running_loop()
        if self._http is None or self._loop is not loop:
            self._http = httpx2.AsyncClient(limits=LIMITS, timeout=None, **options_of(self._settings))
            self._loop = loop
        return self._http

    async def close(self) -> None:
        """Close all connections. The next request opens new ones."""
        http, self._http = self._http, None
        if http is not None and self._loop is asyncio.get_running_loop():
            await http.aclose()

    async def send(self, step: Send) -> Response:
        """Raises IFRConnectionError, IFRTimeout, IFRResponseInvalid."""
        http, request = self.open(), step.request
        with translated(step):
            async with asyncio.timeout(None if math.isinf(step.seconds) else step.seconds):
                response = await http.request(
                    request.method,
                    request.url,
                    headers=request.headers,
                    content=request.body,
                    timeout=timeout_of(step.seconds),
                )
            return response_of(response, response.content)


async def in_thread(work: Callable[[], T]) -> T:
    """The result of work that would block the event loop."""
    return await asyncio.to_thread(work)


async def each(images: Images) -> AsyncIterator[Image]:
    """The images of a synchronous or asynchronous collection."""
    if isinstance(images, AsyncIterable):
        async for image in images:
            yield image
    else:
        for image in images:
            yield image


class InFlight(Generic[T]):
    """Runs work concurrently, at most `concurrency` at a time; results are returned in the order of `start`."""

    def __init__(self, concurrency: int) -> None:
        self._free = asyncio.Semaphore(concurrency)
        self._running: deque[asyncio.Task[T]] = deque()

    def __len__(self) -> int:
        return len(self._running)

    def start(self, work: Callable[[], Awaitable[T]]) -> None:
        """Run it as soon as a slot is free."""
        self._running.append(asyncio.create_task(self._bounded(work)))

    async def next(self) -> T:
        """The result of the oldest work. Raises what it raised."""
        return await self._running.popleft()

    def finished(self) -> list[T]:
        """The results that have arrived already, of all work that `next` has not returned."""
        ready = [task for task in self._running if task.done() and not task.cancelled() and not task.exception()]
        return [task.result() for task in ready]

    async def close(self) -> None:
        """Cancel work that is still running."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    async def _bounded(self, work: Callable[[], Awaitable[T]]) -> T:
        async with self._free:
            return await work()
