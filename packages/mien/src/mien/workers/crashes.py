"""Crash-loop backoff: workers of a version that keeps crashing are started with increasing delays.

Deploying the version again, or rolling back to it, resets the count.
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
    """Counts consecutive crashes by deployed version. Workers may start again after a pause, which doubles with each
    further crash."""

    def __init__(self, limit: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._clock = clock
        self._histories: dict[tuple[str, float], _History] = {}

    def check(self, deployed: Deployed) -> None:
        """Raise AppBroken while the version's workers must not be started."""
        history = self._histories.get(_key(deployed))
        if history is None or (left := history.until - self._clock()) <= 0:
            return
        raise AppBroken(
            f"{deployed.version.app} has crashed {history.crashes} times in a row and will not be started for another "
            f"{left:.0f} s: {history.reason}; deploying it again ends the pause",
            retry_after=left,
        )

    def crashed(self, deployed: Deployed, reason: str) -> None:
        """Count a crash."""
        history = self._histories.setdefault(_key(deployed), _History())
        history.crashes += 1
        history.reason = reason
        over = history.crashes - self._limit
        if over >= 0:
            history.until = self._clock() + BACKOFF.pause(over)

    def worked(self, deployed: Deployed) -> None:
        """Reset the count, after a worker has finished a run."""
        self._histories.pop(_key(deployed), None)


def _key(deployed: Deployed) -> tuple[str, float]:
    """Version and time of its deployment, so that crashes of workers from before do not count after a redeployment."""
    return deployed.version.version, deployed.chosen
