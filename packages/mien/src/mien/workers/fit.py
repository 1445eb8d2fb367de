"""Can this run here? One vocabulary for workers, which answer it, and for tasks, which are ordered by it."""

from enum import IntEnum


class Fit(IntEnum):
    """How well a run would be placed right now; more is better."""

    BLOCKED = -1
    """It waits for something of its own (the worker of its session, models that still load), not for room: others
    may overtake it for as long as they like."""
    NO_ROOM = 0
    """It waits for room that others have; it would fit on an idle machine."""
    NEVER = 1
    """It would not fit on an idle machine either. It is started all the same, and fails with the reason: queued, it
    would wait for ever."""
    COLD = 2
    """There is room, but the environment has to be made and a process to be started."""
    ENVIRONMENT = 3
    """There is room and the environment is made; a process has to be started."""
    SAME_VERSION = 4
    """A worker of the version is idle, with another setup."""
    WARM = 5
    """A worker with the same version and setup is idle: it starts at once."""

    @property
    def startable(self) -> bool:
        """Whether to start it now rather than leave it queued."""
        return self > Fit.NO_ROOM
