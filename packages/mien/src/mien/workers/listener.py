"""What is reported of a run while it is brought up and runs, and the ways in which that fails.

The one declaration of it within the server: workers tell a `Listener`, the pool adds the stage, an executor of tasks
the worker (`mien.tasks.executor.Reporter`).
"""

from enum import IntEnum
from typing import Any, Literal, Protocol

GoneKind = Literal["exited", "signal", "memory", "processes", "protocol", "start"]
"""How a worker ended: with a status; by a signal; over a limit; with messages that could not be parsed, or none at all;
before it was up."""


class Stage(IntEnum):
    """What is being done for a run. The numbers are those of the wire: `mien.tasks.status.Status` takes them over."""

    PREPARING = 4
    """The app's environment is made, the input's files are fetched."""
    SERVING = 5
    """The worker process starts and imports the app."""
    SETTING_UP = 6
    """The app's `setup` runs; skipped on a warm worker."""
    RUNNING = 7
    """The app's function runs."""
    UPLOADING = 8
    """Files of the output are stored."""


class Listener(Protocol):
    """Takes the events of one run, or of a start; called from the event loop, must not block or raise."""

    def log(self, text: str) -> None:
        """One line, or several, that the app printed or logged, or that its environment's build did."""

    def progress(self, fraction: float, message: str | None = None) -> None:
        """How far the run is, 0..1. The newest replaces the one before."""

    def output(self, value: Any) -> None:
        """A partial output. The newest replaces the one before."""


class PoolListener(Listener, Protocol):
    """Is told the stages, too."""

    def stage(self, stage: Stage) -> None:
        """What is done for the run from now on. Stages that are not needed are left out."""


class Silent:
    """A listener that drops everything."""

    def log(self, text: str) -> None: ...

    def progress(self, fraction: float, message: str | None = None) -> None: ...

    def output(self, value: Any) -> None: ...


class WorkerGone(Exception):
    """The worker is gone, and with it what it was doing; `reason` says how, in words."""

    def __init__(self, reason: str, *, kind: GoneKind = "start", stop_requested: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.kind: GoneKind = kind
        self.stop_requested = stop_requested
        """Whether this server ended it on purpose: then it is no crash."""


class AppError(Exception):
    """The app reported an error: its import, its setup or one run. `kind` is the protocol's."""

    def __init__(self, message: str, kind: str, traceback: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.kind = kind
        self.traceback = traceback


class RunCancelled(Exception):
    """The app ended the run, as it was asked to."""
