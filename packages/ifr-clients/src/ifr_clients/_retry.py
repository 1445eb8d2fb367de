"""When to try again, and the whole flow of a call. Decisions only: a client sends, waits and looks at the clock."""

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
    """Send `request` and answer with its Response, or throw IFRConnectionError or IFRTimeout."""

    request: Request
    seconds: float
    """Time for all of it; may be infinite."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Wait so many seconds and answer with None."""

    seconds: float


Steps: TypeAlias = Generator[Send | Wait, Response | None, T]


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often, and how soon. Every route of this API may be sent twice: none changes anything on the server."""

    retries: int = 3
    first_wait: float = 0.2
    """Seconds before the first retry where the server names no time; doubles from retry to retry."""
    longest_wait: float = 60.0
    """Seconds. A server that asks for more is not waited for."""

    def wait(self, error: IFRError, failures: int, remaining: float, jitter: float = 0.0) -> float | None:
        """Seconds to wait after the `failures`-th failure in a row; None: give up.

        `remaining` is the call's time left, `jitter` in 0..1 spreads clients that failed together. The server's
        Retry-After is never undercut.
        """
        if failures > self.retries:
            return None
        if isinstance(error, IFRRejected) and error.status in RETRIED_STATUSES:
            told = error.retry_after
        elif isinstance(error, IFRConnectionError):
            told = None
        else:
            return None
        pause = self.first_wait * 2 ** min(failures - 1, 30) if told is None else max(told, self.first_wait)
        if told is not None and told > self.longest_wait:
            return None
        pause = min(pause, self.longest_wait) * (1 + jitter / 4)
        return pause if pause < remaining else None


def with_retries(
    call: Call[T], policy: RetryPolicy, timeout: float, clock: Callable[[], float], chance: Callable[[], float]
) -> Steps[T]:
    """The steps of a call up to its result. Raises what `call.parse` and the sending raise, once retrying is over."""
    end = clock() + timeout
    failures = 0
    while True:
        remaining = end - clock()
        if remaining <= 0:
            raise IFRTimeout(f"{call.request.method} {call.request.url}: no answer within {timeout:g} s")
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
    """A Retry-After header, seconds or a date, as seconds from `now`; None where it says nothing usable."""
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
    """A number in 0..1 that no other client has."""
    return random.random()  # noqa: S311 - spreads retries, hides nothing
