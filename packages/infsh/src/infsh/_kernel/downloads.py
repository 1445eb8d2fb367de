"""Files behind URLs from clients: fetched by the supervisor, on request of the process that runs the app."""

import itertools
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

from infsh._errors import FileUnavailable
from infsh._kernel import protocol

_POLL_SECONDS = 0.1
"""Time between looks at whether the file is still wanted; also the delay with which `Interrupted` takes effect."""


class Downloads:
    """Downloads in progress. `get` blocks, in any thread but the one that calls `settle`."""

    def __init__(self, send: Callable[[protocol.Message], None]) -> None:
        self._send = send
        self._process = os.getpid()
        self._numbers = itertools.count(1)
        self._waiting: dict[str, Future[protocol.Fetched]] = {}
        self._closed = False
        self._lock = threading.Lock()

    def get(self, url: str, run_id: str | None, abort: threading.Event | None) -> tuple[Path, str | None]:
        """The file, and its media type if known. Raises FileUnavailable."""
        if os.getpid() != self._process:  # the answer would reach the parent
            raise FileUnavailable("a process that the app started cannot download an input file: use its path there")
        number, answer = str(next(self._numbers)), Future[protocol.Fetched]()
        with self._lock:
            if self._closed:
                raise FileUnavailable("the server is gone")
            self._waiting[number] = answer
        try:
            self._send(protocol.Fetch(run_id=run_id, fetch_id=number, url=url))
            fetched = _wait(answer, abort)
        except protocol.ProtocolError as error:
            raise FileUnavailable(f"the URL cannot be sent: {error}") from error
        finally:
            with self._lock:
                self._waiting.pop(number, None)
        if fetched.path is None:
            raise FileUnavailable(fetched.error, fetched.code)
        return Path(fetched.path), fetched.content_type

    def settle(self, fetched: protocol.Fetched) -> None:
        """Passes an answer to the thread that waits for it."""
        with self._lock:
            answer = self._waiting.get(fetched.fetch_id)
        if answer is not None and not answer.done():
            answer.set_result(fetched)

    def close(self) -> None:
        """No answer will come any more."""
        with self._lock:
            self._closed = True
            waiting = list(self._waiting)
        for number in waiting:
            self.settle(protocol.Fetched(number, error="the server is gone"))


def _wait(answer: "Future[protocol.Fetched]", abort: threading.Event | None) -> protocol.Fetched:
    while True:
        try:
            return answer.result(_POLL_SECONDS)
        except TimeoutError:
            if abort is not None and abort.is_set():
                raise FileUnavailable("the download was cancelled") from None
