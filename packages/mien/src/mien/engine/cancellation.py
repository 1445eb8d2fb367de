"""Cancellation scopes: a deadline and a cancel signal that every stage of a request's work checks."""

import asyncio
import threading
import time
from collections.abc import Callable
from enum import Enum, auto
from types import TracebackType

from mien.errors import Cancelled, DeadlineExceeded


class _Reason(Enum):
    CANCELLED = auto()
    LATE = auto()


class CancelScope:
    """Deadline and cancellation of one request, shared by all its images and model runs. Thread-safe.

    The first reason wins: work that stops because of the deadline cancels what still runs, and a client that got its
    504 disconnects; neither turns a deadline into a cancellation, or the other way round.
    """

    def __init__(self, timeout: float | None = None) -> None:
        """`timeout` in seconds from now; None: no deadline."""
        self.timeout = timeout
        self.deadline = None if timeout is None else time.monotonic() + timeout
        self._reason: _Reason | None = None
        self._wakers: set[Callable[[], None]] = set()
        self._lock = threading.Lock()

    @property
    def cancelled(self) -> bool:
        """Whether it was cancelled before its deadline."""
        return self._reason is _Reason.CANCELLED

    def remaining(self) -> float | None:
        """Seconds left, never negative; None without a deadline."""
        return None if self.deadline is None else max(0.0, self.deadline - time.monotonic())

    def over(self) -> bool:
        """Whether it was cancelled or its deadline has passed: no one is waiting for results any more."""
        return self._reason is not None or self._is_late()

    def check(self) -> None:
        """Raise Cancelled or DeadlineExceeded if the scope is over."""
        if self.cancelled:
            raise Cancelled("the client cancelled the request")
        if self._reason is _Reason.LATE or self._is_late():
            raise DeadlineExceeded(f"the request did not finish within {self.timeout:g} s")

    def cancel(self) -> None:
        """Cancel the scope: queued work is dropped, and waiting threads wake up immediately."""
        self._end(_Reason.LATE if self._is_late() else _Reason.CANCELLED)

    def expire(self) -> None:
        """The deadline has passed, says a timer.

        Timers of event loops and of gRPC fire up to milliseconds early. What ends because of one has to record the
        reason before it cancels anything: by the clock alone, it would look like a client that disconnected.
        """
        self._end(_Reason.LATE)

    def _is_late(self) -> bool:
        return self.deadline is not None and time.monotonic() >= self.deadline

    def _end(self, reason: _Reason) -> None:
        with self._lock:
            self._reason = self._reason or reason
            wakers = list(self._wakers)
        # Outside the lock, to avoid a deadlock: a waker may take a lock of its own, whose holder may be waiting for
        # ours in `subscribe` or `unsubscribe`.
        for wake in wakers:
            wake()

    def subscribe(self, wake: Callable[[], None]) -> None:
        """Call `wake` when the scope is cancelled or a timer has found its deadline passed; immediately if it was."""
        with self._lock:
            self._wakers.add(wake)
            over = self._reason is not None
        if over:  # `_end` copied the list before `wake` was on it
            wake()

    def unsubscribe(self, wake: Callable[[], None]) -> None:
        with self._lock:
            self._wakers.discard(wake)

    def bounding(self) -> "Bounding":
        """An async context manager that interrupts its block once the scope is over, and then raises Cancelled or
        DeadlineExceeded."""
        return Bounding(self)


class Bounding:
    """Returned by `CancelScope.bounding`. A class, since a generator is slower and every request uses it."""

    def __init__(self, scope: CancelScope) -> None:
        self._scope = scope
        self._inside = False
        self._timer: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> None:
        self._scope.check()
        self._loop = asyncio.get_running_loop()
        self._limit = asyncio.timeout(None)  # set off by `_give_up`, which knows the reason
        await self._limit.__aenter__()
        self._inside = True
        self._scope.subscribe(self._wake)
        remaining = self._scope.remaining()
        if remaining is not None:
            self._timer = self._loop.call_later(remaining, self._scope.expire)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._inside = False
        self._scope.unsubscribe(self._wake)
        if self._timer is not None:
            self._timer.cancel()
        try:
            await self._limit.__aexit__(kind, error, trace)
        except TimeoutError:
            self._scope.check()
            raise

    def _wake(self) -> None:
        self._loop.call_soon_threadsafe(self._give_up)  # `cancel` may be called from any thread

    def _give_up(self) -> None:
        if self._inside and not self._limit.expired():
            self._limit.reschedule(self._loop.time())
