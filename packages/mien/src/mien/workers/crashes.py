"""The crash-loop breaker: a version whose workers die again and again is started less and less often.

Deploying the version again, or rolling back to it, starts with a clean record.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from mien.apps.record import Deployed
from mien.backoff import Backoff
from mien.errors import AppBroken

BACKOFF = Backoff(first=10.0, most=300.0)


@dataclass(slots=True)
class _History:
    crashes: int = 0
    until: float = 0.0
    reason: str = ""


class CrashBreaker:
    """Counts crashes in a row by deployed version. After a pause one more may start; if it crashes, the pause
    doubles."""

    def __init__(self, limit: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._clock = clock
        self._histories: dict[tuple[str, float], _History] = {}

    def check(self, deployed: Deployed) -> None:
        """Raises AppBroken while the version's workers must not be started."""
        history = self._histories.get(_key(deployed))
        if history is None or (left := history.until - self._clock()) <= 0:
            return
        raise AppBroken(
            f"{deployed.version.app} has crashed {history.crashes} times in a row and is not started for another "
            f"{left:.0f} s: {history.reason}; deploying it again ends the pause",
            retry_after=left,
        )

    def crashed(self, deployed: Deployed, reason: str) -> None:
        """A worker crashed."""
        history = self._histories.setdefault(_key(deployed), _History())
        history.crashes += 1
        history.reason = reason
        over = history.crashes - self._limit
        if over >= 0:
            history.until = self._clock() + BACKOFF.pause(over)

    def worked(self, deployed: Deployed) -> None:
        """A worker finished a run: the count starts again at zero."""
        self._histories.pop(_key(deployed), None)


def _key(deployed: Deployed) -> tuple[str, float]:
    """The version, and when it was chosen: so that a worker of before does not count against the new try."""
    return deployed.version.version, deployed.chosen
