"""One run as the pool takes it: what to run, and who hears how far it is."""

from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Protocol

from mien.apps.record import Deployed
from mien.workers.listener import Listener


class Stage(IntEnum):
    """What is being done for a run."""

    PREPARING = 1
    STARTING = 2
    SETTING_UP = 3
    RUNNING = 4


@dataclass(frozen=True, slots=True)
class Job:
    """One run of one function."""

    run_id: str
    deployed: Deployed
    variant: str
    function: str | None
    setup: Any
    metadata: dict[str, Any]
    session_seconds: float | None = None
    """Idle time after which the worker is ended, where the run belongs to a session."""


class PoolListener(Listener, Protocol):
    """Hears of the stages, too."""

    def stage(self, stage: Stage) -> None:
        """The job is now being prepared, started, set up or run. Stages that are not needed are left out."""
