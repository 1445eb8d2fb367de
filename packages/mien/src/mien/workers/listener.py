"""Events of runs, and the errors with which they end.

Declared once for the whole server: workers report to a `Listener`, the pool adds the stage, and a task executor adds
the worker (`mien.tasks.executor.Reporter`).
"""

from enum import IntEnum
from typing import Any, Literal, Protocol

GoneKind = Literal["exited", "signal", "memory", "processes", "protocol", "start"]
"""How a worker ended: with an exit status; by a signal; over a limit (two kinds); by a protocol error; while starting.
"""


class Stage(IntEnum):
    """The stages of a run. The numbers are used on the wire, by `mien.tasks.status.Status`."""

    PREPARING = 4
    """The app's environment is built, input files are fetched."""
    SERVING = 5
    """The worker process starts and imports the app."""
    SETTING_UP = 6
    """The app's `setup` runs; skipped on a warm worker."""
    RUNNING = 7
    """The app's function runs."""
    UPLOADING = 8
    """Output files are stored."""


class Listener(Protocol):
    """Receives the events of a run or a start. Called on the event loop; must not block or raise."""

    def log(self, text: str) -> None:
        """One or more lines that the app, or the build of its environment, printed or logged."""

    def progress(self, fraction: float, message: str | None = None) -> None:
        """Progress of the run; `fraction` in 0..1. Replaces the previous one."""

    def output(self, value: Any) -> None:
        """A partial output. Replaces the previous one."""


class PoolListener(Listener, Protocol):
    """A listener that is also told about stages."""

    def stage(self, stage: Stage) -> None:
        """The run has entered this stage. Stages that are not needed are skipped."""


class NullListener:
    """A listener that ignores everything."""

    def log(self, text: str) -> None: ...

    def progress(self, fraction: float, message: str | None = None) -> None: ...

    def output(self, value: Any) -> None: ...


class WorkerGone(Exception):
    """The worker has ended, and its runs with it. `reason` is a message that says why."""

    def __init__(self, reason: str, *, kind: GoneKind = "start", stop_requested: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.kind: GoneKind = kind
        self.stop_requested = stop_requested
        """Whether this server ended it on purpose; otherwise it is a crash."""


class AppError(Exception):
    """The app failed: in its import, its setup or a run. `kind`: as in the protocol."""

    def __init__(self, message: str, kind: str, traceback: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.kind = kind
        self.traceback = traceback


class RunCancelled(Exception):
    """The app ended the run because it was cancelled."""
