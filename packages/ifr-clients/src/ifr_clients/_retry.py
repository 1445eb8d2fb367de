"""The retry policy, and the flow of a call. Decisions only: the client does the sending and waiting."""

import logging
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
RETRIED_STATUSES = (429, 502, 503)
NOTICE_SECONDS = 3.0
"""After so long without a response a line is logged: a program that seems to hang should say why."""
log = logging.getLogger("ifr_clients")


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

    retries: int | None = None
    """Maximum number; None: as many as the call's time allows, so that a call outlives a restart of the server."""
    first_wait: float = 0.2
    """Seconds before the first retry if the server sends no Retry-After; doubles with each retry."""
    longest_wait: float = 5.0
    """Seconds between retries if the server sends no Retry-After."""
    longest_request: float = 60.0
    """Seconds. If the server requests a longer wait, the call fails instead."""

    def wait(self, error: IFRError, failures: int, remaining: float, jitter: float = 0.0) -> float | None:
        """Seconds to wait after `failures` consecutive failures; None: give up.

        `remaining` is the call's remaining time; `jitter` in 0..1 spreads clients that failed at the same time. The
        wait is never shorter than the server's Retry-After.
        """
        if (self.retries is not None and failures > self.retries) or not _may_pass(error):
            return None
        requested = error.retry_after if isinstance(error, IFRRejected) else None
        if requested is not None:
            pause = max(requested, self.first_wait) * (1 + jitter / 4)
            return pause if requested <= self.longest_request and pause < remaining else None
        pause = min(self.first_wait * 2.0 ** min(failures - 1, 30), self.longest_wait) * (1 + jitter / 4)
        if pause < remaining:
            return pause
        # The last tries come closer to each other, so that a call with little time uses all of it, too.
        return remaining / 2 if remaining >= self.first_wait else None


def _may_pass(error: IFRError) -> bool:
    """Whether the request may succeed later."""
    if isinstance(error, IFRConnectionError):
        return error.transient
    if not isinstance(error, IFRRejected) or error.status not in RETRIED_STATUSES:
        return False
    # A server that gives a reason also says when, if waiting helps; a proxy in front of it says neither.
    return error.retry_after is not None if error.has_code else True


def with_retries(
    call: Call[T], policy: RetryPolicy, timeout: float, clock: Callable[[], float], chance: Callable[[], float]
) -> Steps[T]:
    """The steps of a call up to its result. Raises the last error of sending or parsing when it gives up."""
    began = clock()
    end = began + timeout
    failures, noticed = 0, False
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
            if not noticed and clock() + wait - began >= NOTICE_SECONDS:
                noticed = True
                log.warning("%s; it is tried again for up to %.0f s", error, end - clock())
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
