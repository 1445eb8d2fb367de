"""The I/O of the client that blocks, under the names that `_async_io` has too: `_sync` is generated against them."""

import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeAlias, TypeVar

import httpx2

from ifr_clients._images import Image
from ifr_clients._messages import Response
from ifr_clients._retry import Send
from ifr_clients._server import Settings
from ifr_clients._transport import LIMITS, response_of, timeout_of, too_late, translated

T = TypeVar("T")
Images: TypeAlias = Iterable[Image]
sleep = time.sleep


class Connections:
    """The connections of one client, opened on first use and shared by its threads."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._http: httpx2.Client | None = None

    def open(self) -> httpx2.Client:
        """A pool of connections. Nothing is connected yet."""
        with self._lock:
            if self._http is None:
                self._http = httpx2.Client(limits=LIMITS, verify=self._settings.verify, timeout=None)
                weakref.finalize(self, self._http.close)  # many programs never close their client
            return self._http

    def close(self) -> None:
        """Close them all. The next request opens new ones."""
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
                if time.monotonic() > end:  # a read has a limit of its own, but there may be many
                    raise too_late(step)
            return response_of(response, bytes(body))


def in_thread(work: Callable[[], T]) -> T:
    """The result of work that takes long: this client blocks anyway."""
    return work()


def each(images: Images) -> Images:
    """The images."""
    return images


class InFlight(Generic[T]):
    """Work that runs side by side, at most `concurrency` at once; results come in the order it was started in."""

    def __init__(self, concurrency: int) -> None:
        self._pool = ThreadPoolExecutor(concurrency, thread_name_prefix="ifr-clients")
        self._running: deque[Future[T]] = deque()

    def __len__(self) -> int:
        return len(self._running)

    def start(self, work: Callable[[], T]) -> None:
        """Run it as soon as there is room."""
        self._running.append(self._pool.submit(work))

    def next(self) -> T:
        """The result of what was started first. Raises what it raised."""
        return self._running.popleft().result()

    def close(self) -> None:
        """Leave out what has not begun."""
        self._pool.shutdown(wait=False, cancel_futures=True)
