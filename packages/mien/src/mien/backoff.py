"""Exponential back-off: how long to wait before the next try."""

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Pauses that grow from try to try. Seconds."""

    first: float
    most: float
    factor: float = 2.0
    jitter: tuple[float, float] = (1.0, 1.0)
    """Each pause is multiplied by a random number between these, so that those who failed together do not try again
    together."""

    def pause(self, failures: int) -> float:
        """The pause after so many failures in a row, counted from 0: `first`, then `factor` times as long each."""
        # from here on the product is over `most` anyway, and far from what a float can hold
        steps = min(failures, 64)
        return min(self.most, self.first * self.factor**steps) * random.uniform(*self.jitter)  # noqa: S311 - no secret
