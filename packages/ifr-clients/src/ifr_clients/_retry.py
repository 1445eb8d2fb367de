"""The retry policy, and the flow of a call. Decisions only: the client does the sending and waiting."""

import math
import random
from collections.abc import Callable, Generator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TypeAlias, TypeVar

from ifr_clients._messages import Call, Request, Response
from ifr_clients.errors import IFRConnectionError, IFRError, IFRRejected, IFRTimeout

T = TypeVar("T")
RETRIED_STATUSES = (429, 503)


@dataclass(frozen=True, slots=True)
class Send:
    """Send `request`; resume with its Response, or throw IFRConnectionError or IFRTimeout."""

    request: Request
    seconds: float
    """Timeout of the whole exchange; may be infinite."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Wait, then resume with None."""

    seconds: float


Steps: TypeAlias = Generator[Send | Wait, Response | None, T]


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how soon to retry. Every route of this API is safe to repeat: none changes state on the server."""

    retries: int = 3
    first_wait: float = 0.2
    """Seconds before the first retry if the server sends no Retry-After; doubles with each retry."""
    longest_wait: float = 60.0
    """Seconds. If the server requests a longer wait, the call fails instead."""

    def wait(self, error: IFRError, failures: int, remaining: float, jitter: float = 0.0) -> float | None:
        """Seconds to wait after `failures` consecutive failures; None: give up.

        `remaining` is the call's remaining time; `jitter` in 0..1 spreads clients that failed at the same time. The
        wait is never shorter than the server's Retry-After.
        """
        if failures > self.retries:
            return None
        if isinstance(error, IFRRejected) and error.status in RETRIED_STATUSES:
            requested = error.retry_after
        elif isinstance(error, IFRConnectionError):
            requested = None
        else:
            return None
        pause = self.first_wait * 2 ** min(failures - 1, 30) if requested is None else max(requested, self.first_wait)
        if requested is not None and requested > self.longest_wait:
            return None
        pause = min(pause, self.longest_wait) * (1 + jitter / 4)
        return pause if pause < remaining else None


def with_retries(
    call: Call[T], policy: RetryPolicy, timeout: float, clock: Callable[[], float], chance: Callable[[], float]
) -> Steps[T]:
    """The steps of a call up to its result. Raises the last error of sending or parsing when it gives up."""
    end = clock() + timeout
    failures = 0
    while True:
        remaining = end - clock()
        if remaining <= 0:
            raise IFRTimeout(f"{call.request.method} {call.request.url}: no response within {timeout:g} s")
        try:
            response = yield Send(call.request, remaining)
            assert response is not None  # noqa: S101 - the contract of Send
            return call.parse(response)
        except (IFRConnectionError, IFRRejected) as error:
            failures += 1
            wait = policy.wait(error, failures, end - clock(), chance())
            if wait is None:
                raise
        yield Wait(wait)


def retry_after_seconds(value: str | None, now: datetime | None = None) -> float | None:
    """A Retry-After header, in seconds or as a date, as seconds from `now`; None if missing or invalid."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            then = parsedate_to_datetime(value)
        except (ValueError, OverflowError):
            return None
        if then.tzinfo is None:
            then = then.replace(tzinfo=UTC)
        seconds = (then - (now or datetime.now(UTC))).total_seconds()
    return max(0.0, seconds) if math.isfinite(seconds) else None


def chance() -> float:
    """A random number in 0..1."""
    return random.random()  # noqa: S311 - spreads retries, hides nothing
