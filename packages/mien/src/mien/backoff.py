"""Exponential backoff: how long to wait before the next attempt."""

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Delays, in seconds, that grow with every failed attempt."""

    first: float
    most: float
    factor: float = 2.0
    jitter: tuple[float, float] = (1.0, 1.0)
    """Each delay is multiplied by a random number from this range, so that clients that failed together do not retry
    together."""

    def pause(self, failures: int) -> float:
        """The delay after `failures` earlier failures in a row: `first` for 0, then growing by `factor`."""
        # caps the exponent: `factor**failures` would overflow a float, and is above `most` long before that
        steps = min(failures, 64)
        return min(self.most, self.first * self.factor**steps) * random.uniform(*self.jitter)  # noqa: S311 - no secret
