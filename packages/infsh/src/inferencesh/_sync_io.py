"""The I/O of the blocking client. `_async_io` has the same names, so that `_sync` can be generated from `_async`."""

import contextlib
import math
import socket
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import httpx2

from inferencesh._messages import Request, Response
from inferencesh._steps import Connect, Send
from inferencesh._transport import LIMITS, options_of, response_of, timeout_of, too_late, translated

T = TypeVar("T")
R = TypeVar("R")
sleep = time.sleep


class StreamConnection:
    """One connection, read incrementally."""

    def __init__(self, step: Connect, response: httpx2.Response, head: Response) -> None:
        self.head = head
        self._request = step.request
        self._response = response
        self._chunks = response.iter_raw()
        self._lifetime_timer: threading.Timer | None = None
        if step.lifetime is not None:
            # A read in progress keeps the timeout that it started with; only shutting down the socket ends it earlier.
            self._lifetime_timer = threading.Timer(step.lifetime, _cut, [response])
            self._lifetime_timer.daemon = True
            self._lifetime_timer.start()

    def receive(self, seconds: float) -> bytes:
        """The next bytes; empty at the end."""
        with translated(self._request, seconds):
            # The timeout of each read: the connection pool looks here before the first one.
            self._response.request.extensions["timeout"]["read"] = None if math.isinf(seconds) else seconds
            return next(self._chunks, b"")

    def close(self) -> None:
        if self._lifetime_timer is not None:
            self._lifetime_timer.cancel()
        with contextlib.suppress(httpx2.HTTPError):
            self._response.close()

    def __del__(self) -> None:
        self.close()  # many programs abandon a stream midway


class Connections:
    """The connections of one client, opened on first use and shared by its threads."""

    def __init__(self, base_url: str) -> None:
        self._base_url = base_url
        self._lock = threading.Lock()
        self._http: httpx2.Client | None = None

    def send(self, step: Send) -> Response:
        """Raises InferenceConnectionError, InferenceTimeout, UploadError."""
        http, request, end = self._open(), step.request, time.monotonic() + step.seconds
        # The duration of an upload is not limited, only the time without progress.
        unbounded = not isinstance(request.body, bytes | None)
        sending = http.stream(
            request.method,
            request.url,
            headers=dict(request.headers),
            content=_content(request),
            timeout=timeout_of(step.seconds),
        )
        with translated(request, step.seconds), sending as response:
            data = bytearray()
            for chunk in response.iter_bytes():
                data += chunk
                if time.monotonic() > end and not unbounded:
                    raise too_late(request, step.seconds)  # each read has a timeout, but there can be many reads
            return response_of(response, bytes(data))

    def stream(self, step: Connect) -> StreamConnection:
        """Send a request and keep its connection open. Raises InferenceConnectionError, InferenceTimeout."""
        http, request = self._open(), step.request
        with translated(request, step.seconds):
            built = http.build_request(
                request.method,
                request.url,
                headers=dict(request.headers),
                content=_content(request),
                timeout=timeout_of(step.seconds),
            )
            response = http.send(built, stream=True)
            try:
                body = b"" if response.is_success else response.read()
            except BaseException:
                response.close()
                raise
        return StreamConnection(step, response, response_of(response, body))

    def close(self) -> None:
        """Close all connections. The next request opens new ones."""
        with self._lock:
            http, self._http = self._http, None
        if http is not None:
            http.close()

    def _open(self) -> httpx2.Client:
        with self._lock:
            if self._http is None:
                self._http = httpx2.Client(limits=LIMITS, timeout=None, **options_of(self._base_url))
                weakref.finalize(self, self._http.close)  # many programs never close their client
            return self._http


def in_thread(work: Callable[[], T]) -> T:
    """The result of slow work: this client blocks anyway."""
    return work()


def gather(run: Callable[[T], R], items: Sequence[T], at_once: int) -> list[R]:
    """The results of `run` for each item, in order, or its first error; at most `at_once` run concurrently."""
    pool = ThreadPoolExecutor(max(1, min(at_once, len(items))), thread_name_prefix="inferencesh")
    try:
        return list(pool.map(run, items))
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _content(request: Request) -> bytes | Iterator[bytes] | None:
    return request.body if isinstance(request.body, bytes | None) else request.body.pieces()


def _cut(response: httpx2.Response) -> None:
    with contextlib.suppress(OSError):
        response.extensions["network_stream"].get_extra_info("socket").shutdown(socket.SHUT_RDWR)
