"""Cancellation scopes: a deadline and a cancel signal that every stage of a request's work checks."""

import asyncio
import threading
import time
from collections.abc import Callable
from types import TracebackType

from mien.errors import Cancelled, DeadlineExceeded

TIMER_SECONDS = 0.002
"""Timers of the event loop fire up to so much earlier than the deadline that they stand for."""


class CancelScope:
    """Deadline and cancellation of one request, shared by all its images and model runs. Thread-safe."""

    def __init__(self, timeout: float | None = None) -> None:
        """`timeout` in seconds from now; None: no deadline."""
        self.timeout = timeout
        self.deadline = None if timeout is None else time.monotonic() + timeout
        self._over = False
        self._late = False
        self._wakers: set[Callable[[], None]] = set()
        self._lock = threading.Lock()

    @property
    def cancelled(self) -> bool:
        """Whether it was cancelled before its deadline."""
        return self._over and not self._late

    def remaining(self) -> float | None:
        """Seconds left, never negative; None without a deadline."""
        return None if self.deadline is None else max(0.0, self.deadline - time.monotonic())

    def over(self) -> bool:
        """Whether it was cancelled or its deadline has passed: no one is waiting for results any more."""
        return self._over or (self.deadline is not None and time.monotonic() >= self.deadline)

    def check(self) -> None:
        """Raise Cancelled or DeadlineExceeded if the scope is over."""
        if self.cancelled:
            raise Cancelled("the client cancelled the request")
        if self._late or (self.deadline is not None and time.monotonic() >= self.deadline):
            raise self.too_late()

    def cancel(self) -> None:
        """Cancel the scope: queued work is dropped, and waiting threads wake up immediately."""
        with self._lock:
            if not self._over and self.deadline is not None:
                # The first reason counts: whoever stops at the deadline cancels what still runs, too.
                self._late = time.monotonic() >= self.deadline - TIMER_SECONDS
            self._over = True
            wakers = list(self._wakers)
        # Outside the lock, to avoid a deadlock: a waker may take a lock of its own, whose holder may be waiting for
        # ours in `subscribe` or `unsubscribe`.
        for wake in wakers:
            wake()

    def subscribe(self, wake: Callable[[], None]) -> None:
        """Call `wake` on cancellation; immediately if it already happened."""
        with self._lock:
            self._wakers.add(wake)
            cancelled = self._over
        if cancelled:  # `cancel` copied the list before `wake` was on it
            wake()

    def unsubscribe(self, wake: Callable[[], None]) -> None:
        with self._lock:
            self._wakers.discard(wake)

    def bounding(self) -> "Bounding":
        """An async context manager that interrupts its block once the scope is over, and then raises Cancelled or
        DeadlineExceeded."""
        return Bounding(self)

    def too_late(self) -> DeadlineExceeded:
        """The error of a scope whose deadline has passed."""
        return DeadlineExceeded(f"the request did not finish within {self.timeout:g} s")


class Bounding:
    """Returned by `CancelScope.bounding`. A class, since a generator is slower and every request uses it."""

    def __init__(self, scope: CancelScope) -> None:
        self._scope = scope
        self._inside = False

    async def __aenter__(self) -> None:
        self._scope.check()
        self._loop = asyncio.get_running_loop()
        self._limit = asyncio.timeout(self._scope.remaining())
        await self._limit.__aenter__()
        self._inside = True
        self._scope.subscribe(self._wake)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._inside = False
        self._scope.unsubscribe(self._wake)
        try:
            await self._limit.__aexit__(kind, error, trace)
        except TimeoutError:
            self._scope.check()
            raise self._scope.too_late() from None  # the loop's timer can fire just before the deadline

    def _wake(self) -> None:
        self._loop.call_soon_threadsafe(self._give_up)  # `cancel` may be called from any thread

    def _give_up(self) -> None:
        if self._inside and not self._limit.expired():
            self._limit.reschedule(self._loop.time())
