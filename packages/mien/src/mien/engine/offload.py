"""Work on what callers send: at once if it is small, else in a thread, so that the event loop goes on."""

from collections.abc import Callable
from typing import ParamSpec, TypeVar

from mien.engine.cancellation import CancelScope
from mien.engine.threads import ThreadPool

P = ParamSpec("P")
T = TypeVar("T")
LARGE_BODY = 16 * 1024
"""Bytes. Parsing or validating more than this may block the event loop for milliseconds: it is done in a thread."""
HUGE_BODY = 4 * 1024 * 1024
"""Bytes. Bodies above this have a thread of their own, so that others do not wait for them."""


class Offload:
    """Chooses where work runs by the size of what it goes through."""

    def __init__(self, threads: ThreadPool, seconds: float) -> None:
        """`seconds`: how long work may wait for a thread."""
        self._threads = threads
        self._huge = ThreadPool(1)
        self._seconds = seconds

    def close(self) -> None:
        """End the thread for huge bodies. Blocks."""
        self._huge.close()

    async def run(self, size: int, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """`work(...)`, in a thread if what it goes through has more than LARGE_BODY bytes.

        Raises what `work` raises, DeadlineExceeded.
        """
        if size <= LARGE_BODY:
            return work(*args, **kwargs)
        threads = self._threads if size <= HUGE_BODY else self._huge
        return await threads.run(CancelScope(self._seconds), work, *args, **kwargs)
