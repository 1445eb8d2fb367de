"""The retry policy, and the flow of a call. Decisions only."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from inferencesh._messages import Call, Request
from inferencesh._steps import Connect, Send, Steps, Wait
from inferencesh.errors import APIError, InferenceConnectionError, InferenceError, InferenceTimeout

T = TypeVar("T")
REFUSED = (429, 503)
"""The server did not process the request."""
BROKEN = (500, 502, 504)
"""The server may have processed the request."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential backoff with a maximum; never shorter than the server's Retry-After."""

    first: float = 0.2
    """Seconds."""
    longest: float = 60.0
    """Seconds. If the server requests a longer wait, the call fails instead."""

    def pause(self, failures: int, retry_after: float | None, jitter: float) -> float | None:
        """Seconds before the next attempt after consecutive `failures`; None: the server requests too long a wait.

        `jitter` in 0..1 spreads clients that failed at the same time.
        """
        if retry_after is not None and retry_after > self.longest:
            return None
        usual = min(self.first * 2 ** min(failures - 1, 30), self.longest)
        return (usual if retry_after is None else max(retry_after, self.first)) * (1 + jitter / 4)


def can_pass(error: InferenceError, *, safe: bool) -> bool:
    """Whether a retry can help and is allowed; `safe`: the request may be sent twice."""
    if isinstance(error, APIError):
        return error.status_code in REFUSED or (safe and error.status_code in BROKEN)
    if isinstance(error, InferenceConnectionError):
        return safe or not error.sent
    return safe and isinstance(error, InferenceTimeout)


def with_retries(
    call: Call[T], retries: int, seconds: float, step: Callable[[Request, float], Send | Connect] = Send
) -> Steps[T]:
    """The steps of a call up to its result. Raises the last error of sending or parsing when it gives up.

    `step`: Connect, if what follows the parsed head is to be read incrementally.
    """
    backoff, failures = Backoff(), 0
    while True:
        try:
            return call.parse((yield step(call.request, seconds)))
        except (APIError, InferenceConnectionError, InferenceTimeout) as error:
            failures += 1
            retry_after = error.retry_after if isinstance(error, APIError) else None
            pause = backoff.pause(failures, retry_after, chance())
            if failures > retries or pause is None or not can_pass(error, safe=call.safe):
                raise
        yield Wait(pause)


def chance() -> float:
    """A random number in 0..1."""
    return random.random()  # noqa: S311 - spreads retries, hides nothing
