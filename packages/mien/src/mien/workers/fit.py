"""How well a run fits on this machine right now: computed by the worker pool, used by the scheduler to order tasks."""

from enum import IntEnum


class Fit(IntEnum):
    """How well a run would be placed right now; higher is better."""

    BLOCKED = -1
    """It waits for something specific (its session's worker, models that are still loading), not for capacity: other
    tasks may overtake it indefinitely."""
    NO_CAPACITY = 0
    """It waits for capacity that is in use; it would fit on an idle machine."""
    NEVER = 1
    """It would not even fit on an idle machine. It is started nevertheless and fails with the reason, since it would
    otherwise be queued forever."""
    COLD = 2
    """There is capacity, but the environment must be built and a process started."""
    ENVIRONMENT = 3
    """There is capacity and the environment exists; a process must be started."""
    SAME_VERSION = 4
    """A worker of the same version is idle, but with another setup."""
    WARM = 5
    """A worker of the same version and setup can take it immediately."""

    @property
    def startable(self) -> bool:
        """Whether to start it now instead of leaving it queued."""
        return self > Fit.NO_CAPACITY
