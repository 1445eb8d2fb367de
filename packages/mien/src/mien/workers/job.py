"""A run as the pool sees it."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
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
    """Idle timeout of the worker, if the run belongs to a session."""
    localise: Callable[[Any, Path], Awaitable[Any]] | None = None
    """Returns the setup with files of this server copied to a directory."""
