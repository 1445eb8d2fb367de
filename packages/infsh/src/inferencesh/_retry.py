"""When to try again, and the whole flow of a call. Decisions only."""

import random
from dataclasses import dataclass
from typing import TypeVar

from inferencesh._messages import Call
from inferencesh._steps import Send, Steps, Wait
from inferencesh.errors import APIError, InferenceConnectionError, InferenceError, InferenceTimeout

T = TypeVar("T")
REFUSED = (429, 503)
"""The server did nothing, and says so."""
BROKEN = (500, 502, 504)
"""The server may have done something."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """Pauses that double, up to a longest one; a server's own word is never undercut."""

    first: float = 0.2
    """Seconds."""
    longest: float = 60.0
    """Seconds. A server that asks for more is not waited for."""

    def pause(self, failures: int, told: float | None, jitter: float) -> float | None:
        """Seconds before the next try after `failures` in a row; None: the server asks for too much.

        `jitter` in 0..1 spreads clients that failed together.
        """
        if told is not None and told > self.longest:
            return None
        usual = min(self.first * 2 ** min(failures - 1, 30), self.longest)
        return (usual if told is None else max(told, self.first)) * (1 + jitter / 4)


def can_pass(error: InferenceError, *, safe: bool) -> bool:
    """Whether another try can help, and may be made: `safe` says that the server may get the request twice."""
    if isinstance(error, APIError):
        return error.status_code in REFUSED or (safe and error.status_code in BROKEN)
    if isinstance(error, InferenceConnectionError):
        return safe or not error.sent
    return safe and isinstance(error, InferenceTimeout)


def with_retries(call: Call[T], retries: int, seconds: float) -> Steps[T]:
    """The steps of a call up to its result. Raises what parsing and sending raise, once retrying is over."""
    backoff, failures = Backoff(), 0
    while True:
        try:
            return call.parse((yield Send(call.request, seconds)))
        except (APIError, InferenceConnectionError, InferenceTimeout) as error:
            failures += 1
            told = error.retry_after if isinstance(error, APIError) else None
            pause = backoff.pause(failures, told, chance())
            if failures > retries or pause is None or not can_pass(error, safe=call.safe):
                raise
        yield Wait(pause)


def chance() -> float:
    """A number in 0..1 that no other client has."""
    return random.random()  # noqa: S311 - spreads retries, hides nothing
