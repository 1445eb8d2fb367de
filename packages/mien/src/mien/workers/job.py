"""One run as the pool takes it."""

from dataclasses import dataclass
from typing import Any

from mien.apps.record import Deployed


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
