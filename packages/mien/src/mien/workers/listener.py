"""Events of runs, and the errors with which they end.

Declared once for the whole server: workers report to a `Listener`, the pool adds the stage, and a task executor adds
the worker (`mien.tasks.executor.Reporter`).
"""

from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any, Literal, Protocol

from mien.errors import SourceRefused

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


class Events(Protocol):
    """Receives the events of a run or a start. Called on the event loop; must not block or raise."""

    def log(self, text: str) -> None:
        """One or more lines that the app, or the build of its environment, printed or logged."""

    def progress(self, fraction: float, message: str | None = None) -> None:
        """Progress of the run; `fraction` in 0..1. Replaces the previous one."""

    def output(self, value: Any) -> None:
        """A partial output. Replaces the previous one."""


@dataclass(frozen=True, slots=True)
class FetchedFile:
    """A file that was fetched for a run."""

    path: Path
    content_type: str | None = None
    """As the server that sent it declares; None if it does not."""


class Listener(Events, Protocol):
    """Also fetches the files that a client names by URL: the app's process must not do so on the client's behalf."""

    async def fetch(self, url: str, folder: Path) -> FetchedFile:
        """Fetch the file into `folder`. Raises MienError, whose message names the URL without its secrets."""


class PoolEvents(Events, Protocol):
    """Events with stages."""

    def stage(self, stage: Stage) -> None:
        """The run has entered this stage. Stages that are not needed are skipped."""


class PoolListener(PoolEvents, Listener, Protocol):
    """A listener that is also told about stages."""


class NullListener:
    """A listener that ignores everything and fetches nothing."""

    def log(self, text: str) -> None: ...

    def progress(self, fraction: float, message: str | None = None) -> None: ...

    def output(self, value: Any) -> None: ...

    async def fetch(self, url: str, folder: Path) -> FetchedFile:
        raise SourceRefused("no URLs are fetched here")


class WorkerGone(Exception):
    """The worker has ended, and its runs with it. `reason` is a message that says why."""

    def __init__(self, reason: str, *, kind: GoneKind = "start", stop_requested: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.kind: GoneKind = kind
        self.stop_requested = stop_requested
        """Whether this server ended it on purpose; otherwise it is a crash."""


class AppError(Exception):
    """The app failed: in its import, its setup or a run. `kind` and `code`: as in the protocol."""

    def __init__(self, message: str, kind: str, traceback: str = "", code: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.kind = kind
        self.traceback = traceback
        self.code = code


class RunCancelled(Exception):
    """The app ended the run because it was cancelled."""
