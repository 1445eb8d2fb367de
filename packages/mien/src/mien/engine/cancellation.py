"""Cancellation scopes: a deadline and a cancel signal that every stage of a request's work checks."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from mien.errors import Cancelled, DeadlineExceeded


class CancelScope:
    """Deadline and cancellation of one request, shared by all its images and model runs. Thread-safe."""

    def __init__(self, timeout: float | None = None) -> None:
        """`timeout` in seconds from now; None: no deadline."""
        self.timeout = timeout
        self.deadline = None if timeout is None else time.monotonic() + timeout
        self._cancelled = False
        self._wakers: set[Callable[[], None]] = set()
        self._lock = threading.Lock()

    @property
    def cancelled(self) -> bool:
        return self._cancelled

    def remaining(self) -> float | None:
        """Seconds left, never negative; None without a deadline."""
        return None if self.deadline is None else max(0.0, self.deadline - time.monotonic())

    def over(self) -> bool:
        """Whether it was cancelled or its deadline has passed: nobody waits for results any more."""
        return self._cancelled or (self.deadline is not None and time.monotonic() >= self.deadline)

    def check(self) -> None:
        """Raise Cancelled or DeadlineExceeded if the scope is over."""
        if self._cancelled:
            raise Cancelled("the caller cancelled the request")
        if self.deadline is not None and time.monotonic() >= self.deadline:
            raise self._too_late()

    def cancel(self) -> None:
        """End the scope: queued work is dropped, threads that wait for it wake at once."""
        with self._lock:
            self._cancelled = True
            wakers = list(self._wakers)
        # Outside the lock: a waker takes locks of its own (the batcher's), whose holders call `over` and `unsubscribe`.
        for wake in wakers:
            wake()

    def subscribe(self, wake: Callable[[], None]) -> None:
        """Have `wake` called on cancel (at once if it already happened)."""
        with self._lock:
            self._wakers.add(wake)
            cancelled = self._cancelled
        if cancelled:  # `cancel` took its list before we were on it
            wake()

    def unsubscribe(self, wake: Callable[[], None]) -> None:
        with self._lock:
            self._wakers.discard(wake)

    @asynccontextmanager
    async def bounding(self) -> AsyncIterator[None]:
        """Cancel what the block awaits once the scope is over; raises Cancelled or DeadlineExceeded then."""
        loop, inside = asyncio.get_running_loop(), True

        def give_up() -> None:
            if inside and not limit.expired():
                limit.reschedule(loop.time())

        def wake() -> None:
            loop.call_soon_threadsafe(give_up)

        try:
            async with asyncio.timeout(self.remaining()) as limit:
                self.subscribe(wake)
                try:
                    yield
                finally:
                    inside = False
                    self.unsubscribe(wake)
        except TimeoutError:
            if not limit.expired():
                raise  # the block's own
            self.check()
            raise self._too_late() from None  # the loop's clock is coarser than the deadline's

    def _too_late(self) -> DeadlineExceeded:
        return DeadlineExceeded(f"the request was not done within its {self.timeout:g} s")
