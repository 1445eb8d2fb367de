"""The I/O of the blocking client. `_async_io` has the same names, so that `_sync` can be generated from `_async`."""

import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import ContextVar
from typing import Generic, TypeAlias, TypeVar

import httpx2

from ifr_clients._images import Image
from ifr_clients._messages import Response
from ifr_clients._retry import Send
from ifr_clients._server import Settings
from ifr_clients._transport import LIMITS, options_of, response_of, timeout_of, too_late, translated

T = TypeVar("T")
Images: TypeAlias = Iterable[Image]
ASYNCHRONOUS = False
_closing: ContextVar[threading.Event | None] = ContextVar("_closing", default=None)
"""Of the `InFlight` whose thread this is."""


class Abandoned(Exception):
    """Nobody waits for this work any more."""


def sleep(seconds: float) -> None:
    """Wait. Raises Abandoned in a thread of an `InFlight` as soon as that closes: it would keep the program alive."""
    closing = _closing.get()
    if closing is None:
        time.sleep(seconds)
    elif closing.wait(seconds):
        raise Abandoned


class Connections:
    """The connections of one client, opened on first use and shared by its threads."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._http: httpx2.Client | None = None

    def open(self) -> httpx2.Client:
        """The connection pool. Creating it connects nothing."""
        with self._lock:
            if self._http is None:
                self._http = httpx2.Client(limits=LIMITS, timeout=None, **options_of(self._settings))
                weakref.finalize(self, self._http.close)  # many programs never close their client
            return self._http

    def close(self) -> None:
        """Close all connections. The next request opens new ones."""
        with self._lock:
            http, self._http = self._http, None
        if http is not None:
            http.close()

    def send(self, step: Send) -> Response:
        """Raises IFRConnectionError, IFRTimeout, IFRResponseInvalid."""
        http, request, end = self.open(), step.request, time.monotonic() + step.seconds
        sending = http.stream(
            request.method, request.url, headers=request.headers, content=request.body, timeout=timeout_of(step.seconds)
        )
        with translated(step), sending as response:
            body = bytearray()
            for chunk in response.iter_bytes():
                body += chunk
                if time.monotonic() > end:  # each read has a timeout, but there can be many reads
                    raise too_late(step)
            return response_of(response, bytes(body))


def in_thread(work: Callable[[], T]) -> T:
    """The result of slow work: this client blocks anyway."""
    return work()


def each(images: Images) -> Images:
    """The images."""
    return images


class InFlight(Generic[T]):
    """Runs work concurrently, at most `concurrency` at a time; results are returned in the order of `start`."""

    def __init__(self, concurrency: int) -> None:
        self._closing = threading.Event()
        self._pool = ThreadPoolExecutor(
            concurrency, thread_name_prefix="ifr-clients", initializer=_closing.set, initargs=(self._closing,)
        )
        self._running: deque[Future[T]] = deque()

    def __len__(self) -> int:
        return len(self._running)

    def start(self, work: Callable[[], T]) -> None:
        """Run it as soon as a thread is free."""
        self._running.append(self._pool.submit(work))

    def next(self) -> T:
        """The result of the oldest work. Raises what it raised."""
        return self._running.popleft().result()

    def finished(self) -> list[T]:
        """The results that have arrived already, of all work that `next` has not returned."""
        ready = [work for work in self._running if work.done() and not work.cancelled() and not work.exception()]
        return [work.result() for work in ready]

    def close(self) -> None:
        """Cancel work that has not started, and that waits to try again."""
        self._closing.set()
        self._pool.shutdown(wait=False, cancel_futures=True)
